//! Every flag of `exec`, and the fields that only exec has. Needs root.

mod bundle;

use bundle::{Bundle, Outcome};
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;

fn exec(bundle: &Bundle, flags: &[&str], script: &str) -> Outcome {
    let flags = [&["exec"], flags, &[&bundle.id, "sh", "-c", script]].concat();
    bundle.cli(&flags)
}

fn running(settings: &[(&str, Value)]) -> Bundle {
    let mut bundle = Bundle::new("sleep 100");
    for (pointer, value) in settings {
        bundle.set(pointer, value.clone());
    }
    bundle.start().ok();
    bundle
}

#[test]
fn identity_and_rights_follow_the_flags() {
    let bundle = running(&[]);
    let out = exec(
        &bundle,
        &["--user", "33:44", "-g", "5", "--additional-gids", "6"],
        "id -u; id -G",
    )
    .ok();
    assert_eq!(out, "33\n44 5 6");
    let effective = "grep CapEff /proc/self/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(exec(&bundle, &[], effective).ok(), "00000000000020e1\n0");
    let out = exec(&bundle, &["--cap", "CAP_SYS_TIME", "--no-new-privs"], effective).ok();
    assert_eq!(out, "00000000020020e1\n1");
    let out = exec(
        &bundle,
        &["-e", "A=1", "--env", "B=2", "--cwd", "/etc"],
        "echo $A$B; pwd",
    )
    .ok();
    assert_eq!(out, "12\n/etc");
    for (flag, value, field) in [
        ("--apparmor", "x", "process.apparmorProfile"),
        ("--process-label", "x", "process.selinuxLabel"),
    ] {
        let marker = match flag {
            "--apparmor" => "/sys/module/apparmor/parameters/enabled",
            _ => "/sys/fs/selinux/enforce",
        };
        if std::path::Path::new(marker).exists() {
            eprintln!("not run: this machine has {field}");
            continue;
        }
        let outcome = exec(&bundle, &[flag, value], "true");
        assert!(outcome.code != 0 && outcome.stderr.contains(field), "{outcome:?}");
    }
}

#[test]
fn a_detached_exec_leaves_its_pid_and_its_pidfd() {
    let bundle = running(&[]);
    let (pid_file, socket) = (bundle.path().join("pid"), bundle.path().join("pidfd"));
    let listener = UnixListener::bind(&socket).expect("listen");
    let receiver = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        wharf_sys::fdpass::receive(&stream, &mut [0; 64]).expect("receive").1
    });
    let (pid_path, socket_path) = (pid_file.to_string_lossy(), socket.to_string_lossy());
    let flags = ["--detach", "--pid-file", &*pid_path, "--pidfd-socket", &*socket_path];
    let command = [&["exec"], &flags[..], &[&bundle.id, "sleep", "100"]].concat();
    // Its output would keep a pipe of this test open.
    let status = bundle.command(&command).stdout(std::process::Stdio::null()).status();
    assert!(status.expect("exec").success());
    let pid = std::fs::read_to_string(&pid_file).expect("pid file");
    let pidfd = receiver.join().expect("receiver").pop().expect("a pidfd");
    let link = format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd));
    let info = std::fs::read_to_string(link).expect("fdinfo");
    assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
    let pids: Vec<u32> = serde_json::from_str(&bundle.cli(&["ps", "-f", "json", &bundle.id]).ok()).expect("JSON");
    assert!(pids.contains(&pid.parse().expect("a number")));
}

#[test]
fn descriptors_are_handed_on_only_when_asked() {
    let bundle = running(&[]);
    let script = format!(
        "exec 3</etc/passwd 4</etc/passwd; {} --root {} exec $0 {} sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"'",
        bundle::program("wharf-runtime").display(),
        bundle.path().join("state").display(),
        bundle.id
    );
    // One more is the directory that `ls` reads.
    for (flag, expected) in [("--preserve-fds=0", "0 1 2 3 "), ("--preserve-fds=2", "0 1 2 3 4 5 ")] {
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &script, flag])
            .output();
        let outcome = Outcome::from(output.expect("sh"));
        assert_eq!(outcome.ok(), expected.trim_end());
    }
}

#[test]
fn the_processors_of_an_exec_are_set_before_and_after_it_joins() {
    let allowed = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    let affinity = |initial: &str, last: &str| json!({ "initial": initial, "final": last });
    let bundle = running(&[("/process/execCPUAffinity", affinity("0", "1"))]);
    assert_eq!(exec(&bundle, &[], allowed).ok(), "1");
    let of_init = std::fs::read_to_string(format!("/proc/{}/status", bundle.pid())).expect("status");
    assert!(!of_init.contains("Cpus_allowed_list:\t1\n"), "only an exec is pinned");
    let bundle = running(&[("/process/execCPUAffinity", json!({ "initial": "0" }))]);
    // What a cpuset of version 2 leaves of it is the kernel's choice, unless the final ones are given.
    let found = exec(&bundle, &[], allowed).ok();
    assert!(bundle.is_v2() || found == "0", "{found}");
    let bundle = running(&[("/process/execCPUAffinity", affinity("x", ""))]);
    let outcome = exec(&bundle, &[], "true");
    assert!(
        outcome
            .stderr
            .contains("process.execCPUAffinity.initial: \"x\" is no CPU list"),
        "{outcome:?}"
    );
}

#[test]
fn all_are_in_the_unified_hierarchy_of_a_hybrid_host_too() {
    if !std::path::Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        eprintln!("not run: this machine is not hybrid");
        return;
    }
    let mut bundle = Bundle::new("sleep 100");
    bundle.set(
        "/linux/namespaces",
        json!([{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]),
    );
    bundle.start().ok();
    let own = format!("0::/{}", bundle.id);
    let of = |table: &str| table.lines().last() == Some(own.as_str());
    for flags in [&[][..], &["--cgroup", "pids:/"]] {
        let table = exec(&bundle, flags, "cat /proc/self/cgroup").ok();
        assert!(of(&table), "not {own} with {flags:?}: {table}");
    }
    let init = exec(&bundle, &[], "cat /proc/1/cgroup").ok();
    assert!(of(&init), "init: {init}");
    let place = std::path::Path::new("/sys/fs/cgroup/unified").join(&bundle.id);
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert!(!place.exists(), "{} is left", place.display());
}

#[test]
fn an_exec_can_go_into_a_group_below() {
    let mut bundle = Bundle::new("sleep 100");
    // Without a namespace of its own it sees the whole path.
    bundle.set(
        "/linux/namespaces",
        json!([{ "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]),
    );
    bundle.start().ok();
    let groups = bundle.cgroup_directories();
    for group in &groups {
        std::fs::create_dir(group.join("below")).expect("a group below");
    }
    let own = format!("/{}/below", bundle.id);
    let out = exec(&bundle, &["--cgroup", "below"], "cat /proc/self/cgroup").ok();
    assert!(out.lines().any(|line| line.ends_with(&own)), "{out}");
    if std::path::Path::new("/sys/fs/cgroup/pids").exists() {
        assert!(
            out.lines().filter(|line| line.ends_with(&own)).count() > 3,
            "all controllers: {out}"
        );
        let out = exec(&bundle, &["--cgroup", "pids:/below"], "cat /proc/self/cgroup").ok();
        let inside: Vec<_> = out.lines().filter(|line| line.ends_with(&own)).collect();
        assert!(inside.len() == 1 && inside[0].contains(":pids:"), "{out}");
    }
    let outcome = exec(&bundle, &["--cgroup", "below/../.."], "true");
    assert!(
        outcome
            .stderr
            .contains("`..` components are not allowed in below/../.."),
        "{outcome:?}"
    );
    assert_ne!(exec(&bundle, &["--cgroup", "missing"], "true").code, 0);
}
