//! Fields of the configuration that change single properties of the process,
//! seen from inside. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};

/// Runs a container with these settings, by JSON pointer.
fn run(script: &str, settings: &[(&str, Value)]) -> bundle::Outcome {
    let mut bundle = Bundle::new(script);
    for (pointer, value) in settings {
        bundle.set(pointer, value.clone());
    }
    let outcome = bundle.run();
    assert!(!bundle.has_cgroup(), "{outcome:?}");
    outcome
}

/// The container is not made, and the error is this.
fn refuse(settings: &[(&str, Value)], expected: &str) {
    let outcome = run("true", settings);
    assert_eq!(outcome.code, 1, "{settings:?}: {outcome:?}");
    assert!(outcome.stderr.contains(expected), "{settings:?}: {outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "one line: {outcome:?}");
}

/// Adds a namespace to the usual ones.
fn with_namespace(namespace: Value) -> (&'static str, Value) {
    let mut list = json!([
        { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
        { "type": "cgroup" },
    ]);
    list.as_array_mut().expect("a list").push(namespace);
    ("/linux/namespaces", list)
}

#[test]
fn cache_allocation_needs_its_file_system() {
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        eprintln!("not run: this machine has resctrl mounted");
        return;
    }
    refuse(
        &[("/linux/intelRdt", json!({ "l3CacheSchema": "L3:0=f" }))],
        "linux.intelRdt: resctrl is not mounted",
    );
    refuse(
        &[("/linux/intelRdt", json!({ "closID": "../x" }))],
        "linux.intelRdt.closID: \"../x\" is not a name of a class",
    );
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
        let outcome = bundle.cli(&["update", flag, "L3:0=f", &bundle.id]);
        assert!(outcome.stderr.contains("created without it"), "{outcome:?}");
    }
}

#[test]
fn the_scheduler_is_set_and_wrong_ones_are_refused() {
    // Policy and niceness are fields 41 and 19 of stat(5).
    let stat = "sed 's/.*) //' /proc/self/stat | cut -d' ' -f17,39";
    let check = |scheduler: Value, expected: &str| {
        assert_eq!(run(stat, &[("/process/scheduler", scheduler)]).ok(), expected);
    };
    check(json!({ "policy": "SCHED_BATCH", "nice": 5 }), "5 3");
    check(
        json!({ "policy": "SCHED_OTHER", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }),
        "7 0",
    );
    // The niceness does not matter to this policy and stays that of the caller.
    let own = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let own = own
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(16));
    check(
        json!({ "policy": "SCHED_IDLE" }),
        &format!("{} 5", own.expect("a niceness")),
    );
    refuse(
        &[("/process/scheduler", json!({ "policy": "SCHED_NONE" }))],
        "process.scheduler.policy: unknown value \"SCHED_NONE\"",
    );
    refuse(
        &[("/process/scheduler", json!({ "policy": "SCHED_OTHER", "flags": ["X"] }))],
        "process.scheduler.flags: unknown value \"X\"",
    );
}

#[test]
fn the_io_priority_is_set_and_wrong_ones_are_refused() {
    let check = |priority: Value, expected: &str| {
        assert_eq!(run("ionice -p $$", &[("/process/ioPriority", priority)]).ok(), expected);
    };
    check(
        json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }),
        "best-effort: prio 6",
    );
    check(json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 }), "idle");
    refuse(
        &[(
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }),
        )],
        "process.ioPriority.priority: 8 is not 0 to 7",
    );
    refuse(
        &[("/process/ioPriority", json!({ "class": "BEST" }))],
        "process.ioPriority.class: unknown value \"BEST\"",
    );
}

#[test]
fn the_execution_domain_is_set_for_the_container_and_its_execs() {
    let check = |domain: &str, expected: &str| {
        let personality = json!({ "domain": domain });
        let out = run("cat /proc/self/personality", &[("/linux/personality", personality)]);
        assert_eq!(out.ok(), expected);
    };
    check("LINUX32", "00000008");
    check("LINUX", "00000000");
    let mut bundle = Bundle::new("sleep 100");
    bundle.set("/linux/personality", json!({ "domain": "LINUX32" }));
    bundle.start().ok();
    let out = bundle.cli(&["exec", &bundle.id, "cat", "/proc/self/personality"]).ok();
    assert_eq!(out, "00000008");
    refuse(
        &[("/linux/personality", json!({ "domain": "BSD" }))],
        "linux.personality.domain: unknown value \"BSD\"",
    );
    refuse(
        &[(
            "/linux/personality",
            json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }),
        )],
        "linux.personality.flags: none are defined",
    );
}

#[test]
fn the_memory_policy_is_set_and_impossible_ones_are_refused() {
    let mapping = "grep -m1 stack /proc/self/numa_maps | cut -d' ' -f2";
    let check = |policy: Value, expected: &str| {
        assert_eq!(run(mapping, &[("/linux/memoryPolicy", policy)]).ok(), expected);
    };
    check(json!({ "mode": "MPOL_BIND", "nodes": "0" }), "bind:0");
    check(
        json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] }),
        "interleave=static:0",
    );
    check(json!({ "mode": "MPOL_LOCAL" }), "local");
    refuse(
        &[("/linux/memoryPolicy", json!({ "nodes": "0" }))],
        "linux.memoryPolicy.mode: invalid memory policy mode \"\"",
    );
    refuse(
        &[("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND" }))],
        "linux.memoryPolicy: MPOL_BIND needs nodes",
    );
    refuse(
        &[("/linux/memoryPolicy", json!({ "mode": "MPOL_DEFAULT", "nodes": "0" }))],
        "linux.memoryPolicy: MPOL_DEFAULT mode requires 0 nodes but got 1",
    );
    refuse(
        &[("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "x" }))],
        "linux.memoryPolicy.nodes: invalid memory policy nodes \"x\"",
    );
    refuse(
        &[(
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["F"] }),
        )],
        "linux.memoryPolicy.flags: invalid memory policy flag \"F\"",
    );
}

#[test]
fn clocks_of_a_time_namespace_are_offset() {
    let offsets = json!({ "boottime": { "secs": 1_000_000, "nanosecs": 7 }, "monotonic": { "secs": 5 } });
    let script = "tr -s ' ' </proc/self/timens_offsets; cut -d. -f1 /proc/uptime";
    let settings = [
        with_namespace(json!({ "type": "time" })),
        ("/linux/timeOffsets", offsets.clone()),
    ];
    let out = run(script, &settings).ok();
    assert!(out.starts_with("monotonic 5 0\nboottime 1000000 7\n"), "{out}");
    let uptime: u64 = out.lines().last().and_then(|text| text.parse().ok()).expect("seconds");
    assert!(uptime > 1_000_000, "{out}");
    refuse(
        &[("/linux/timeOffsets", offsets)],
        "linux.timeOffsets: needs a new time namespace",
    );
}

#[test]
fn host_and_domain_names_and_the_umask_are_set() {
    let settings = [
        ("/hostname", json!("inner")),
        ("/domainname", json!("example.test")),
        ("/process/user/umask", json!(0o27)),
    ];
    let script = "hostname; cat /proc/sys/kernel/domainname; umask";
    assert_eq!(run(script, &settings).ok(), "inner\nexample.test\n0027");
}

#[test]
fn supplementary_groups_of_the_caller_are_kept_when_asked() {
    let mut bundle = Bundle::new("id -G");
    bundle.set("/process/user", json!({ "uid": 0, "gid": 0, "additionalGids": [44] }));
    bundle.write();
    let script = format!(
        "exec {} --root {} run --bundle {} {}",
        bundle::program("wharf-runtime").display(),
        bundle.path().join("state").display(),
        bundle.path().display(),
        bundle.id
    );
    let run = || {
        let output = std::process::Command::new("setpriv")
            .args(["--groups", "4321", "/bin/sh", "-c", &script])
            .output();
        bundle::Outcome::from(output.expect("setpriv of util-linux")).ok()
    };
    assert_eq!(run(), "0 44");
    bundle.set("/annotations", json!({ "run.oci.keep_original_groups": "1" }));
    bundle.write();
    assert_eq!(run(), "0 4321");
}

#[test]
fn hooks_write_to_the_files_that_annotations_name() {
    let mut bundle = Bundle::new("true");
    let (out, err) = (bundle.path().join("out"), bundle.path().join("err"));
    std::fs::write(&out, "before\n").expect("a file");
    bundle.set(
        "/annotations",
        json!({ "run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err }),
    );
    let hook = |name: &str| {
        let script = format!("echo {name}; echo {name} >&2");
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }])
    };
    let stages = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let hooks: serde_json::Map<_, _> = stages.iter().map(|name| ((*name).to_owned(), hook(name))).collect();
    bundle.set("/hooks", Value::Object(hooks));
    bundle.run().ok();
    let sorted = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).expect("output");
        // startContainer and poststart run at the same time.
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let mut expected: Vec<_> = stages.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(sorted(&err), expected);
    expected.insert(0, "before".to_owned());
    assert_eq!(sorted(&out), expected);
    let inside = bundle.rootfs().join(bundle.path().strip_prefix("/").expect("absolute"));
    assert!(!inside.exists(), "nothing is made inside");
    bundle.set("/annotations", json!({ "run.oci.hooks.stdout": "/does/not/exist" }));
    let outcome = bundle.run();
    assert!(
        outcome
            .stderr
            .contains("annotations.run.oci.hooks.stdout: open /does/not/exist")
    );
}

#[test]
fn unknown_system_calls_are_skipped_unless_an_annotation_asks() {
    let rule = json!([{ "names": ["nosuchcall", "mkdir"], "action": "SCMP_ACT_ERRNO" }]);
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule });
    run("true", &[("/linux/seccomp", seccomp.clone())]).ok();
    refuse(
        &[
            ("/linux/seccomp", seccomp),
            ("/annotations", json!({ "run.oci.seccomp_fail_unknown_syscall": "1" })),
        ],
        "linux.seccomp.syscalls[0].names: unknown syscall \"nosuchcall\"",
    );
}

#[test]
fn labels_of_a_security_module_that_is_missing_are_errors() {
    let (selinux, apparmor) = ("/sys/fs/selinux/enforce", "/sys/module/apparmor/parameters/enabled");
    for (field, pointer, marker) in [
        ("process.selinuxLabel", "/process/selinuxLabel", selinux),
        ("linux.mountLabel", "/linux/mountLabel", selinux),
        ("process.apparmorProfile", "/process/apparmorProfile", apparmor),
    ] {
        if std::path::Path::new(marker).exists() {
            eprintln!("not run: this machine has what {field} needs");
            continue;
        }
        refuse(
            &[(pointer, json!("system_u:object_r:container_file_t:s0:c1,c2"))],
            field,
        );
        run("true", &[(pointer, json!(""))]).ok();
    }
}

#[test]
fn device_nodes_of_every_kind_are_made_as_asked() {
    let devices = json!([
        { "type": "u", "path": "/dev/u", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6 },
        { "type": "c", "path": "/dev/sub/c", "major": 1, "minor": 5 },
        { "type": "b", "path": "/dev/b", "major": 7, "minor": 9, "fileMode": 0o600 },
        { "type": "p", "path": "/dev/fifo", "fileMode": 0o622 },
    ]);
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' u sub/c b fifo";
    let out = run(script, &[("/linux/devices", devices)]).ok();
    let expected = "u character special file 1:3 640 5:6\nsub/c character special file 1:5 666 0:0\n\
                    b block special file 7:9 600 0:0\nfifo fifo 0:0 622 0:0";
    assert_eq!(out, expected);
    let device = |kind: &str, path: &str| json!([{ "type": kind, "path": path, "major": 1, "minor": 3 }]);
    for (device, expected) in [
        (device("x", "/dev/x"), "linux.devices[0].type: unknown value \"x\""),
        (device("c", "dev/x"), "linux.devices[0].path: dev/x is not absolute"),
        (
            device("c", "/etc/passwd"),
            "/etc/passwd exists and is another device or file",
        ),
        (
            json!([{ "type": "c", "path": "/dev/x", "major": -2, "minor": 0 }]),
            "linux.devices[0].major: -2 is no device number",
        ),
    ] {
        refuse(&[("/linux/devices", device)], expected);
    }
}

#[test]
fn every_action_of_a_filter_does_what_it_says() {
    let check = |action: Value, expected: &str| {
        let mut rule = json!({ "names": ["mkdir", "mkdirat"] });
        rule.as_object_mut()
            .expect("a rule")
            .extend(action.as_object().expect("an action").clone());
        let seccomp = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [rule],
        });
        let outcome = run("mkdir /tmp/made 2>&1; echo $?", &[("/linux/seccomp", seccomp)]);
        assert!(outcome.ok().contains(expected), "{action}");
    };
    check(json!({ "action": "SCMP_ACT_ERRNO" }), "Operation not permitted");
    check(
        json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 28 }),
        "No space left on device",
    );
    check(json!({ "action": "SCMP_ACT_TRACE" }), "Function not implemented");
    check(json!({ "action": "SCMP_ACT_LOG" }), "0");
    check(json!({ "action": "SCMP_ACT_ALLOW" }), "0");
    // 128 and SIGSYS.
    for action in [
        "SCMP_ACT_TRAP",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
    ] {
        check(json!({ "action": action }), "159");
    }
    for (seccomp, expected) in [
        (
            json!({ "defaultAction": "SCMP_ACT_NONE" }),
            "linux.seccomp.defaultAction: unknown value",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"] }),
            "linux.seccomp.architectures: unknown value \"SCMP_ARCH_VAX\"",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["FLAG"] }),
            "linux.seccomp.flags: unknown value \"FLAG\"",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }),
            "SCMP_ACT_ALLOW takes no errno",
        ),
    ] {
        refuse(&[("/linux/seccomp", seccomp)], expected);
    }
}

#[test]
fn values_of_the_wrong_type_name_their_field() {
    for (pointer, value, expected) in [
        (
            "/process/user/uid",
            json!(-1),
            "config.json: process.user.uid: invalid value",
        ),
        (
            "/mounts/1/options",
            json!(["ro", 7]),
            "config.json: mounts[1].options[1]: invalid type",
        ),
        (
            "/linux/namespaces/0/type",
            json!("galaxy"),
            "linux.namespaces[0].type: unknown variant",
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": "x", "hard": 1 }]),
            "process.rlimits[0].soft",
        ),
    ] {
        refuse(&[(pointer, value)], expected);
    }
    run(
        "true",
        &[("/process/unknown", json!({ "deep": [1] })), ("/unknown", json!(7))],
    )
    .ok();
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    let file = bundle.path().join("given.json");
    std::fs::write(&file, r#"{ "args": ["true"], "cwd": 5 }"#).expect("a file");
    let path = file.to_string_lossy().into_owned();
    let exec = bundle.cli(&["exec", "--process", &path, &bundle.id]);
    assert!(exec.stderr.contains("given.json: cwd: invalid type"), "{exec:?}");
    std::fs::write(&file, r#"{ "pids": { "limit": "many" } }"#).expect("a file");
    let update = bundle.cli(&["update", "--resources", &path, &bundle.id]);
    assert!(
        update.stderr.contains("given.json: pids.limit: invalid type"),
        "{update:?}"
    );
}
