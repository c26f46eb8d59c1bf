//! Things that hang: they hold up nobody else, are told by name, and can be removed once they let go.

use std::time::{Duration, Instant};
use wharf_testkit::Sandbox;

use crate::fuse::HungMount;

const SOON: Duration = Duration::from_secs(30);

/// Far more than any of these takes on an idle machine, and far less than any deadline of a stuck operation.
const PROMPT: Duration = Duration::from_secs(5);

fn state(s: &Sandbox, name: &str) -> String {
    s.docker(&["inspect", "-f", "{{.State.Status}}", name])
        .stdout
        .trim()
        .to_owned()
}

/// Listing, inspecting, reading logs and running others go on as if nothing was stuck.
fn others_go_on(s: &Sandbox, stuck: &str) {
    let check = |args: &[&str]| {
        let begin = Instant::now();
        s.docker(args).ok();
        assert!(begin.elapsed() < PROMPT, "{args:?} took {:?}", begin.elapsed());
    };
    check(&["ps", "-a"]);
    check(&["inspect", stuck]);
    check(&["logs", stuck]);
    check(&["run", "--rm", "busybox", "true"]);
    check(&["info"]);
}

#[test]
fn a_process_that_cannot_die_holds_up_nobody_else() {
    let mut s = Sandbox::with_busybox();
    let at = s.path("hung");
    std::fs::create_dir(&at).unwrap();
    let Some(mount) = HungMount::new(&at) else {
        eprintln!("not run: no /dev/fuse on this machine");
        return;
    };
    let bind = format!("{}:/mnt", at.display());
    let command = ["busybox", "sh", "-c", "echo reading; cat /mnt/hang"];
    s.docker(
        &[
            &["run", "-d", "--name", "stuck", "--restart", "always", "-v", &bind],
            &command[..],
        ]
        .concat(),
    )
    .ok();
    let reads = || {
        s.docker(&["top", "stuck", "-o", "pid,stat,args"])
            .stdout
            .contains("cat /mnt/hang")
    };
    s.eventually(SOON, "it reads", reads);
    others_go_on(&s, "stuck");
    let told = |said: &str| {
        assert!(
            said.contains("did not receive an exit event")
                && said.contains("uninterruptible sleep")
                && said.contains("/mnt/hang of the fuse file system hungserver"),
            "{said}"
        );
    };
    let mut stop = s.docker_command();
    let stop = stop
        .args(["stop", "-t", "0", "stuck"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    others_go_on(&s, "stuck");
    told(&String::from_utf8_lossy(&stop.wait_with_output().unwrap().stderr));
    told(&s.docker(&["rm", "-f", "stuck"]).stderr);
    assert_eq!(state(&s, "stuck"), "running", "it is there, as its processes are");
    // A new engine finds it as it is, and is not held up either.
    s.kill();
    assert!(s.boot() < PROMPT);
    others_go_on(&s, "stuck");
    assert!(s.wharf(&["why", "stuck"]).ok().contains("does not end"));
    mount.let_go();
    s.eventually(SOON, "it ends", || state(&s, "stuck") == "exited");
    s.docker(&["rm", "stuck"]).ok();
}

#[test]
fn a_dead_mount_fails_what_needs_it_and_nothing_else() {
    let s = Sandbox::with_busybox();
    let at = s.path("hung");
    std::fs::create_dir(&at).unwrap();
    let Some(mount) = HungMount::new(&at) else {
        eprintln!("not run: no /dev/fuse on this machine");
        return;
    };
    s.docker(&[
        "create",
        "--name",
        "stuck",
        "-v",
        &format!("{}/sub:/mnt", at.display()),
        "busybox",
        "true",
    ])
    .ok();
    mount.die();
    let mut start = s.docker_command();
    let start = start
        .args(["start", "stuck"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    others_go_on(&s, "stuck");
    let said = start.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains(&*at.to_string_lossy()),
        "it names what it is stuck on: {said}"
    );
    others_go_on(&s, "stuck");
    mount.let_go();
    s.docker(&["rm", "-f", "stuck"]).ok();
}
