//! Every system call newer than Linux 4.18 that the runtime uses is taken
//! away from it, one at a time and all at once, and a whole life of a
//! container goes as with all of them. Needs root.

mod bundle;

use bundle::{Bundle, Outcome, without};
use serde_json::{Value, json};

/// System calls newer than 4.18 that the runtime, or a library of it, may make.
const NEWER: [&str; 17] = [
    "clone3",
    "close_range",
    "epoll_pwait2",
    "faccessat2",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat2",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "process_madvise",
    "process_mrelease",
];

/// A filter that answers this errno to all of them.
fn without_all(errno: u32) -> Value {
    let mut filter = without(&NEWER);
    filter["syscalls"][0]["errnoRet"] = errno.into();
    filter
}

/// A filter that answers EINVAL to a call with this argument, as kernels do
/// that know the call but not the value.
fn without_value(call: &str, argument: Value) -> Value {
    const EINVAL: u32 = 22;
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": EINVAL, "args": [argument] }],
    })
}

/// What the program of the container finds, as text.
const LOOK: &str = "
    id -u; hostname; cat /data/file; touch /data/x 2>/dev/null || echo refused;
    cat /up/there; touch /up/more && ls /up; mount | grep -c ' on /up type tmpfs';
    wc -c </proc/timer_list; ls /sys/firmware 2>/dev/null | wc -l;
    mount | grep ' /proc/sys ' | grep -o '(ro,nosuid,nodev,noexec'; mount | grep ' /data ' | grep -o 'ro,nosuid';
    echo y >/dev/null && echo written; ls -l /dev/null | cut -c1; [ -c /dev/given ] && echo given;
    [ -d /sys/fs/cgroup ] && ls /sys/fs/cgroup | grep -c .; touch /sys/fs/cgroup/x 2>/dev/null || echo refused;
    touch /new 2>/dev/null || echo read-only; echo a >/dev/shm/a; cat /dev/shm/a;
";

/// A container with something of everything that is made by newer calls.
fn furnished() -> Bundle {
    let mut bundle = Bundle::new(&format!(
        "({LOOK}) >/out/seen 2>&1; touch /out/ready; trap 'exit 3' TERM; while :; do sleep 0.02; done"
    ));
    let path = bundle.path().to_owned();
    for directory in ["data", "out", "rootfs/up"] {
        std::fs::create_dir_all(path.join(directory)).expect("make a directory");
    }
    std::fs::write(path.join("data/file"), "of the host\n").expect("write");
    std::fs::write(path.join("rootfs/up/there"), "of the image\n").expect("write");
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    bundle
        .add_mount(mount("/data", "bind", "data", &["rbind", "ro", "nosuid"]))
        .add_mount(mount("/out", "bind", "out", &["bind", "rw"]))
        .add_mount(mount("/up", "tmpfs", "tmpfs", &["tmpcopyup", "nosuid"]))
        .add_mount(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "size=1m"]))
        .add_mount(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]))
        .set("/mounts/0/options", json!(["nosuid", "noexec", "nodev"]))
        .set("/root/readonly", json!(true))
        .set(
            "/linux/devices",
            json!([{ "path": "/dev/given", "type": "c", "major": 1, "minor": 5 }]),
        )
        .set("/linux/resources", json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 50 } }))
        .set(
            "/hooks",
            json!({ "createRuntime": [{
                "path": "/bin/sh",
                "args": ["sh", "-c", format!("cat >{}/state; exec 9<&- ; ls /proc/self/fd | wc -l >{0}/fds", path.join("out").display())],
                "timeout": 60,
            }] }),
        );
    bundle
}

fn await_file(bundle: &Bundle, name: &str) {
    for _ in 0..6000 {
        if bundle.path().join(name).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never {name}: {:?}", bundle.cli(&["state", &bundle.id]));
}

fn await_stopped(bundle: &Bundle) {
    for _ in 0..6000 {
        let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
        if state["status"] == "stopped" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never stopped");
}

fn run(bundle: &Bundle, verb: &[&str], rest: &[&str]) -> Outcome {
    let mut arguments = verb.to_vec();
    arguments.push(&bundle.id);
    arguments.extend(rest);
    bundle.cli(&arguments)
}

/// A whole life; returns what was seen of it from inside and from outside.
fn live(filter: Option<Value>) -> String {
    let mut bundle = furnished();
    bundle.filter = filter;
    bundle.start().ok();
    await_file(&bundle, "out/ready");
    let mut seen = std::fs::read_to_string(bundle.path().join("out/seen")).expect("what was seen");
    seen += &std::fs::read_to_string(bundle.path().join("out/fds")).expect("the hook's descriptors");
    // The names of its namespaces are those of init, and so is its cgroup.
    let same = "for n in cgroup ipc mnt net pid uts; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo $n; done; \
                cmp /proc/self/cgroup /proc/1/cgroup && echo same; ls /proc/self/fd | wc -l; exit 7";
    let exec = run(&bundle, &["exec"], &["sh", "-c", same]);
    seen += &format!("{} {} {}\n", exec.stdout, exec.stderr, exec.code);
    let terminal = run(&bundle, &["exec", "--tty"], &["sh", "-c", "tty; ls /missing"]);
    seen += &format!("{} {}\n", terminal.stdout, terminal.code);
    run(&bundle, &["pause"], &[]).ok();
    assert_ne!(run(&bundle, &["exec"], &["true"]).code, 0);
    run(&bundle, &["resume"], &[]).ok();
    run(&bundle, &["update", "--memory", "48000000"], &[]).ok();
    run(&bundle, &["kill"], &["TERM"]).ok();
    await_stopped(&bundle);
    run(&bundle, &["delete"], &[]).ok();
    assert!(!bundle.has_cgroup());
    // In the foreground, ended by force, and through a container that waits.
    let mut short = Bundle::new("exit 5");
    short.filter.clone_from(&bundle.filter);
    seen += &format!("{}\n", short.run().code);
    let mut forced = Bundle::new("trap '' TERM; while :; do sleep 0.02; done");
    forced.filter.clone_from(&bundle.filter);
    forced.start().ok();
    run(&forced, &["kill", "--all"], &["KILL"]);
    run(&forced, &["delete", "--force"], &[]).ok();
    assert!(!forced.has_cgroup());
    seen
}

#[test]
fn a_container_lives_the_same_life_without_any_one_newer_call() {
    let expected = live(None);
    assert!(
        expected.contains("of the host") && expected.contains("same"),
        "{expected}"
    );
    let pidfd = json!({ "index": 0, "value": 3, "op": "SCMP_CMP_EQ" });
    // CLONE_NEWNS and CLONE_NEWIPC in one call: only pidfds take several kinds.
    let kinds = 0x0002_0000 | 0x0800_0000;
    let several = json!({ "index": 1, "value": kinds, "valueTwo": kinds, "op": "SCMP_CMP_MASKED_EQ" });
    // CLOSE_RANGE_CLOEXEC.
    let marking = json!({ "index": 2, "value": 4, "op": "SCMP_CMP_EQ" });
    let mut cases = vec![
        ("waitid of a pidfd".to_owned(), without_value("waitid", pidfd)),
        ("setns of a pidfd".to_owned(), without_value("setns", several)),
        (
            "close_range that marks".to_owned(),
            without_value("close_range", marking),
        ),
    ];
    cases.extend(NEWER.iter().map(|call| ((*call).to_owned(), without(&[call]))));
    for (what, filter) in cases {
        assert_eq!(live(Some(filter)), expected, "without {what}");
    }
}

#[test]
fn a_container_lives_the_same_life_without_all_newer_calls() {
    const ENOSYS: u32 = 38;
    // What filters of container engines before 2020 answer to calls they do not know.
    const EPERM: u32 = 1;
    let expected = live(None);
    for errno in [ENOSYS, EPERM] {
        assert_eq!(live(Some(without_all(errno))), expected, "errno {errno}");
    }
}

#[test]
fn what_only_newer_calls_can_do_is_a_clear_error_without_them() {
    for (option, what) in [("rro", "a recursive attribute"), ("idmap", "an id map")] {
        let mut bundle = Bundle::new("true");
        std::fs::create_dir(bundle.path().join("data")).expect("make a directory");
        let maps = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
        let mut mount =
            json!({ "destination": "/data", "type": "bind", "source": "data", "options": ["rbind", option] });
        if option == "idmap" {
            mount["uidMappings"] = maps.clone();
            mount["gidMappings"] = maps;
        }
        bundle.add_mount(mount);
        bundle.filter = Some(without(&["mount_setattr"]));
        let outcome = bundle.run();
        assert_ne!(outcome.code, 0);
        let expected = format!("mounts: /data: {what} needs mount_setattr(2) of Linux 5.12");
        assert!(outcome.stderr.contains(&expected), "{outcome:?}");
        assert!(!bundle.has_cgroup());
    }
}
