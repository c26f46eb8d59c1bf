//! `wharf ops`: operations are seen, have deadlines, and hold up nobody else.

use std::process::Stdio;
use std::time::{Duration, Instant};

use wharf_testkit::Sandbox;
use wharf_testkit::process::{freeze, resume};

const SOON: Duration = Duration::from_secs(20);

fn shim_of(s: &Sandbox, name: &str) -> u32 {
    let id = s.docker(&["inspect", "-f", "{{.Id}}", name]);
    let text = std::fs::read_to_string(s.run_dir().join("shims").join(id.ok()).join("pid")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn sandbox(configuration: &str) -> Sandbox {
    let s = Sandbox::configured(configuration);
    s.import_busybox();
    s
}

fn sleeper(s: &Sandbox, name: &str) {
    s.docker(&["run", "-d", "--name", name, "busybox", "sleep", "600"]).ok();
}

#[test]
fn an_operation_past_its_deadline_fails_with_what_it_is_stuck_on_and_nobody_else_waits() {
    let s = sandbox("[operation-seconds]\nstop = 1\npause = 1\n");
    sleeper(&s, "stuck");
    sleeper(&s, "other");
    let shim = shim_of(&s, "stuck");
    freeze(shim);
    let mut stop = s.docker_command();
    stop.args(["stop", "-t", "0", "stuck"]);
    let stop = stop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    s.eventually(SOON, "the stop is listed", || {
        let listed = s.wharf(&["ops", "--format", "{{.Kind}} {{.Target}} {{.StuckOn}} {{.Durable}}"]);
        listed.ok().starts_with("stop stuck the shim, which sends the signal")
    });
    // A second request waits behind the first one and says so.
    let behind = s.docker(&["pause", "stuck"]);
    assert!(behind.code == 1 && behind.stderr.contains("is stuck on"), "{behind}");
    let begin = Instant::now();
    assert_eq!(s.docker(&["exec", "other", "echo", "hi"]).ok(), "hi");
    assert_eq!(s.docker(&["ps", "-q"]).ok().lines().count(), 2);
    s.docker(&["inspect", "stuck"]).ok();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let told = stop.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains("stop of") && told.contains("the shim, which sends the signal"),
        "{told}"
    );
    resume(shim);
    s.eventually(SOON, "it is stopped in the end", || {
        let _ = s.docker(&["stop", "-t", "0", "stuck"]);
        s.docker(&["inspect", "-f", "{{.State.Status}}", "stuck"]).ok() == "exited"
    });
    s.eventually(SOON, "nothing is under way", || s.wharf(&["ops", "-q"]).ok().is_empty());
}

#[test]
fn a_stop_is_listed_with_its_deadline_until_the_process_has_ended() {
    let s = sandbox("");
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    s.docker(&["run", "-d", "--name", "deaf", "busybox", "sh", "-c", deaf])
        .ok();
    let mut stop = s.docker_command();
    stop.args(["stop", "-t", "3", "deaf"]).stdout(Stdio::null());
    let mut stop = stop.spawn().unwrap();
    s.eventually(SOON, "the stop is listed", || {
        let (status, list) = s.api("GET", "/wharf/ops", "");
        let listed = status == 200 && list[0]["Kind"] == "stop" && list[0]["Name"] == "deaf";
        listed && list[0]["Step"] == "signalled" && list[0]["Durable"] == true && list[0]["Overdue"] == false
    });
    let (_, list) = s.api("GET", "/v1.47/wharf/ops", "");
    assert!(!list[0]["Deadline"].as_str().unwrap().is_empty(), "{list}");
    let table = s.wharf(&["ops"]).ok().to_owned();
    assert!(
        table.starts_with("ID") && table.contains("WAITS FOR") && table.contains("deaf"),
        "{table}"
    );
    assert!(stop.wait().unwrap().success());
    assert_eq!(s.wharf(&["ops", "--format", "json"]).ok(), "");
}

#[test]
fn a_stop_that_an_engine_began_is_ended_by_the_next() {
    let mut s = sandbox("");
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    let more = ["--restart", "always"];
    s.docker(
        &[
            &["run", "-d", "--name", "deaf"],
            &more[..],
            &["busybox", "sh", "-c", deaf],
        ]
        .concat(),
    )
    .ok();
    let mut stop = s.docker_command();
    stop.args(["stop", "-t", "2", "deaf"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut stop = stop.spawn().unwrap();
    s.eventually(SOON, "the signal is sent", || {
        s.wharf(&["ops", "--format", "{{.Step}}"]).ok() == "signalled"
    });
    s.kill();
    let _ = stop.wait();
    s.boot();
    s.eventually(SOON, "it is killed when its time is over, and stays stopped", || {
        let state = "{{.State.Status}} {{.State.ExitCode}}";
        s.docker(&["inspect", "-f", state, "deaf"]).ok() == "exited 137"
    });
    assert_eq!(s.wharf(&["ops", "-q"]).ok(), "");
}

#[test]
fn an_exec_goes_on_in_the_next_engine_with_its_client_and_its_exit_code() {
    let mut s = Sandbox::with_busybox();
    sleeper(&s, "c1");
    let script = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); usleep 100000; done; exit 7";
    let mut exec = s.docker_command();
    exec.args(["exec", "-e", "A=b", "c1", "sh", "-c", script]);
    let exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sessions = |s: &Sandbox| s.docker(&["inspect", "-f", "{{json .ExecIDs}}", "c1"]).ok().to_owned();
    s.eventually(SOON, "the exec runs", || sessions(&s) != "null" && sessions(&s) != "[]");
    let before = sessions(&s);
    s.kill();
    s.boot();
    assert_eq!(sessions(&s), before);
    let id = before.trim_matches(['[', ']', '"']).to_owned();
    let (_, seen) = s.api("GET", &format!("/exec/{id}/json"), "");
    assert_eq!(
        (&seen["Running"], &seen["ProcessConfig"]["entrypoint"]),
        (&true.into(), &"sh".into())
    );
    let told = exec.wait_with_output().unwrap();
    let expected: String = (0..20).map(|i| format!("{i}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&told.stdout), expected);
    assert_eq!(told.status.code(), Some(7), "{told:?}");
}

#[test]
fn what_is_copied_into_a_container_is_listed_until_all_of_it_is_there() {
    let s = Sandbox::with_busybox();
    s.docker(&["create", "--name", "into", "busybox"]).ok();
    let mut copy = s.docker_command();
    copy.args(["cp", "-", "into:/"]).stdin(Stdio::piped());
    let mut copy = copy.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    s.eventually(SOON, "the copy is listed", || {
        let listed = s.wharf(&["ops", "--format", "{{.Kind}} {{.Target}} {{.StuckOn}}"]);
        listed.ok().starts_with("copy-in into the archive")
    });
    // The end of an archive without files.
    std::io::Write::write_all(&mut copy.stdin.take().unwrap(), &[0; 1024]).unwrap();
    let ended = copy.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    s.eventually(SOON, "nothing is under way", || s.wharf(&["ops", "-q"]).ok().is_empty());
}
