//! `wharf system reset --force` leaves no trace of an instance.

use wharf_testkit::Sandbox;

fn populate(s: &Sandbox) {
    s.docker(&["network", "create", "net1"]).ok();
    s.docker(&[
        "run",
        "-d",
        "--network",
        "net1",
        "-v",
        "vol1:/v",
        "-p",
        "0:80",
        "busybox",
        "sleep",
        "600",
    ])
    .ok();
    s.docker(&["run", "-d", "--memory", "64m", "busybox", "sleep", "600"])
        .ok();
    s.docker(&["create", "busybox"]).ok();
}

fn check_gone(s: &Sandbox) {
    let reset = s.reset();
    reset.ok();
    s.eventually(
        std::time::Duration::from_secs(5),
        &format!("gone: {:#?}", s.leftovers()),
        || s.leftovers().is_empty(),
    );
    assert!(
        !s.root().exists() || std::fs::read_dir(s.root()).unwrap().next().is_none(),
        "files under the root"
    );
    assert!(
        !s.run_dir().exists() || std::fs::read_dir(s.run_dir()).unwrap().next().is_none(),
        "files under the run directory"
    );
}

#[test]
fn with_its_engine_running() {
    let s = Sandbox::with_busybox();
    populate(&s);
    check_gone(&s);
}

#[test]
fn after_the_engine_was_killed() {
    let mut s = Sandbox::with_busybox();
    populate(&s);
    s.kill();
    check_gone(&s);
}

#[test]
fn after_everything_was_killed() {
    let mut s = Sandbox::with_busybox();
    populate(&s);
    s.kill();
    for process in s.leftovers().processes {
        wharf_testkit::process::kill(process.split(' ').next().unwrap().parse().unwrap());
    }
    check_gone(&s);
}
