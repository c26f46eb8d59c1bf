//! Wrong input in one table: a one-line error that names the field or path, the same in the JSON log, runc's exit
//! code, and no process, mount, cgroup or state left. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};

/// What is wrong, and with what words it is refused.
struct Case {
    name: &'static str,
    spoil: fn(&mut Bundle),
    words: &'static [&'static str],
}

fn case(name: &'static str, spoil: fn(&mut Bundle), words: &'static [&'static str]) -> Case {
    Case { name, spoil, words }
}

fn put(bundle: &mut Bundle, (pointer, value): (&str, Value)) {
    bundle.set(pointer, value);
}

fn remove(bundle: &mut Bundle, field: &str) {
    bundle.config.as_object_mut().expect("an object").remove(field);
}

fn namespaces(bundle: &mut Bundle, extra: Value) {
    let list = bundle.config["linux"]["namespaces"].as_array_mut();
    list.expect("namespaces").push(extra);
}

fn hook(bundle: &mut Bundle, stage: &str, script: &str) {
    let hook =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 20 }]);
    bundle.set("/hooks", json!({ stage: hook }));
}

fn device_rule(bundle: &mut Bundle, rule: Value) {
    bundle.set("/linux/resources", json!({ "devices": [rule] }));
}

fn user_namespace(bundle: &mut Bundle, mappings: Value) {
    namespaces(bundle, json!({ "type": "user" }));
    bundle.set("/linux/uidMappings", mappings.clone());
    bundle.set("/linux/gidMappings", mappings);
}

fn table() -> Vec<Case> {
    let mut all = bundles_and_roots();
    all.extend(namespaces_and_ids());
    all.extend(fields_of_the_process());
    all.extend(limits_and_filters());
    all.extend(hooks());
    all
}

fn bundles_and_roots() -> Vec<Case> {
    vec![
        case("no root", |b| remove(b, "root"), &["root"]),
        case(
            "a root that is not there",
            |b| put(b, ("/root/path", json!("nowhere"))),
            &["nowhere", "no such file or directory"],
        ),
        case(
            "a root that is a file",
            |b| put(b, ("/root/path", json!("rootfs/etc/passwd"))),
            &["root.path", "not a directory"],
        ),
        case("no version", |b| remove(b, "ociVersion"), &["ociVersion"]),
        case(
            "a version of another age",
            |b| put(b, ("/ociVersion", json!("7.0.0"))),
            &["ociVersion", "7.0.0"],
        ),
        case(
            "a mount from nowhere",
            |b| {
                b.add_mount(
                    json!({ "destination": "/x", "type": "bind", "source": "/no/such/place", "options": ["bind"] }),
                );
            },
            &["/no/such/place", "no such file or directory"],
        ),
        case(
            "a mount of an unknown type",
            |b| {
                b.add_mount(json!({ "destination": "/x", "type": "nosuchfs", "source": "x" }));
            },
            &["nosuchfs", "/x"],
        ),
    ]
}

fn namespaces_and_ids() -> Vec<Case> {
    vec![
        case(
            "an unknown namespace",
            |b| namespaces(b, json!({ "type": "galaxy" })),
            &["linux.namespaces", "galaxy"],
        ),
        case(
            "a namespace twice",
            |b| namespaces(b, json!({ "type": "uts" })),
            &["linux.namespaces", "uts"],
        ),
        case(
            "a namespace of another kind",
            |b| {
                put(
                    b,
                    (
                        "/linux/namespaces/1",
                        json!({ "type": "network", "path": "/proc/1/ns/uts" }),
                    ),
                )
            },
            &["linux.namespaces", "/proc/1/ns/uts"],
        ),
        case(
            "a namespace that is no namespace",
            |b| {
                put(
                    b,
                    (
                        "/linux/namespaces/1",
                        json!({ "type": "network", "path": "/etc/passwd" }),
                    ),
                )
            },
            &["linux.namespaces", "/etc/passwd"],
        ),
        case(
            "mappings without a user namespace",
            |b| {
                put(
                    b,
                    (
                        "/linux/uidMappings",
                        json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
                    ),
                )
            },
            &["linux.uidMappings"],
        ),
        case(
            "mappings that overlap",
            |b| {
                user_namespace(
                    b,
                    json!([
                        { "containerID": 0, "hostID": 100_000, "size": 10 },
                        { "containerID": 5, "hostID": 200_000, "size": 10 },
                    ]),
                );
            },
            &["linux.uidMappings"],
        ),
        case(
            "an empty mapping",
            |b| user_namespace(b, json!([{ "containerID": 0, "hostID": 100_000, "size": 0 }])),
            &["linux.uidMappings"],
        ),
    ]
}

fn fields_of_the_process() -> Vec<Case> {
    vec![
        case(
            "no program",
            |b| put(b, ("/process/args", json!([]))),
            &["process.args"],
        ),
        case(
            "a directory that is not absolute",
            |b| put(b, ("/process/cwd", json!("tmp"))),
            &["process.cwd"],
        ),
        case(
            "an unknown limit",
            |b| {
                put(
                    b,
                    (
                        "/process/rlimits",
                        json!([{ "type": "RLIMIT_LUCK", "soft": 1, "hard": 1 }]),
                    ),
                );
            },
            &["process.rlimits", "RLIMIT_LUCK"],
        ),
        case(
            "a limit twice",
            |b| {
                let limit = json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 });
                put(b, ("/process/rlimits", json!([limit, limit])));
            },
            &["process.rlimits", "RLIMIT_CORE"],
        ),
        case(
            "a score out of range",
            |b| put(b, ("/process/oomScoreAdj", json!(2000))),
            &["process.oomScoreAdj", "2000"],
        ),
        case(
            "a kernel parameter of the host",
            |b| put(b, ("/linux/sysctl", json!({ "kernel.panic": "1" }))),
            &["linux.sysctl", "kernel.panic"],
        ),
        case(
            "an unknown propagation",
            |b| put(b, ("/linux/rootfsPropagation", json!("telepathic"))),
            &["linux.rootfsPropagation", "telepathic"],
        ),
    ]
}

fn limits_and_filters() -> Vec<Case> {
    vec![
        case(
            "a device rule of no kind",
            |b| device_rule(b, json!({ "allow": true, "type": "q", "access": "rwm" })),
            &["linux.resources.devices", "q"],
        ),
        case(
            "a device rule with an unknown access",
            |b| device_rule(b, json!({ "allow": true, "type": "c", "access": "rwx" })),
            &["linux.resources.devices", "rwx"],
        ),
        case(
            "a device of no kind",
            |b| {
                put(
                    b,
                    (
                        "/linux/devices",
                        json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]),
                    ),
                )
            },
            &["linux.devices[0]", "z"],
        ),
        case(
            "a quota that the kernel refuses",
            |b| put(b, ("/linux/resources", json!({ "cpu": { "quota": 1, "period": 1 } }))),
            &["cpu", "invalid argument"],
        ),
        case(
            "processors that are not there",
            |b| put(b, ("/linux/resources", json!({ "cpu": { "cpus": "4000-4001" } }))),
            &["cpuset"],
        ),
        case(
            "an unknown action of the filter",
            |b| put(b, ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_SHRUG" }))),
            &["linux.seccomp", "SCMP_ACT_SHRUG"],
        ),
        case(
            "an unknown comparison of the filter",
            |b| {
                let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_ALMOST" }]);
                let rule = json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args });
                put(
                    b,
                    (
                        "/linux/seccomp",
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }),
                    ),
                );
            },
            &["linux.seccomp", "SCMP_CMP_ALMOST"],
        ),
    ]
}

fn hooks() -> Vec<Case> {
    vec![
        case(
            "a hook with a relative path",
            |b| put(b, ("/hooks", json!({ "createRuntime": [{ "path": "bin/sh" }] }))),
            &["hooks.createRuntime[0]", "bin/sh"],
        ),
        case(
            "a hook that is not there",
            |b| put(b, ("/hooks", json!({ "createRuntime": [{ "path": "/no/such/hook" }] }))),
            &["hooks.createRuntime[0]", "/no/such/hook", "no such file or directory"],
        ),
        case(
            "a hook that fails",
            |b| hook(b, "createRuntime", "echo first; echo second >&2; exit 3"),
            &["createRuntime hook", "exit code 3", "first", "second"],
        ),
        case(
            "a hook that is killed",
            |b| hook(b, "createContainer", "kill -9 $$"),
            &["createContainer hook", "signal"],
        ),
        case(
            "a hook that writes megabytes and fails",
            |b| hook(b, "prestart", "yes | head -c 5000000; exit 4"),
            &["prestart hook", "exit code 4"],
        ),
        case(
            "a hook that hangs",
            |b| {
                let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "sleep 1000"], "timeout": 1, "env": ["PATH=/bin:/usr/bin"] }]);
                put(b, ("/hooks", json!({ "createRuntime": hook })));
            },
            &["createRuntime hook", "did not end within 1 s"],
        ),
        case(
            "a last hook that fails",
            |b| hook(b, "startContainer", "exit 5"),
            &["startContainer hook", "exit code 5"],
        ),
    ]
}

fn assert_nothing_left(bundle: &Bundle, name: &str) {
    assert!(!bundle.has_cgroup(), "{name}: a cgroup is left");
    let state = bundle.path().join("state");
    let mut left: Vec<_> = std::fs::read_dir(state).map_or(Vec::new(), |all| all.flatten().collect());
    // Compiled filters are kept for the next container.
    left.retain(|entry| entry.file_name() != "@seccomp");
    assert!(left.is_empty(), "{name}: {left:?}");
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!table.contains(&bundle.path().display().to_string()), "{name}: a mount");
    let alive = std::fs::read_dir("/proc").expect("/proc").flatten().any(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == bundle.id.as_bytes())
    });
    assert!(!alive, "{name}: a process is left");
}

/// The one line on stderr, which must be the one line of the log.
fn refusal(bundle: &Bundle, arguments: &[&str], name: &str) -> String {
    let log = bundle.path().join("log.json");
    let log_text = log.to_string_lossy().into_owned();
    let outcome = bundle.cli(&[&["--log", &log_text, "--log-format", "json"], arguments].concat());
    // As with runc, the container had been started then.
    let code = if name == "a last hook that fails" { 255 } else { 1 };
    assert_eq!(outcome.code, code, "{name}: {outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{name}: {outcome:?}");
    let text = std::fs::read_to_string(log).expect("log");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "error", "{name}");
    let message = last["msg"].as_str().expect("msg").to_owned();
    assert!(outcome.stderr.ends_with(&message), "{name}: {outcome:?}");
    assert!(message.len() < 10_000, "{name}: {} bytes", message.len());
    message
}

fn check(case: &Case) {
    let Case { name, spoil, words } = case;
    let mut bundle = Bundle::new("echo the program ran");
    spoil(&mut bundle);
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let message = refusal(&bundle, &["run", "--bundle", &path, &bundle.id], name);
    for word in *words {
        assert!(message.contains(word), "{name}: {word:?} is not in {message:?}");
    }
    assert_nothing_left(&bundle, name);
}

#[test]
fn wrong_configurations_are_refused_in_one_line_and_leave_nothing() {
    // All of them, for a failure to show what else is wrong.
    let failed = table()
        .iter()
        .filter(|case| std::panic::catch_unwind(|| check(case)).is_err())
        .count();
    assert_eq!(failed, 0);
}

#[test]
fn wrong_arguments_are_refused_in_one_line_and_leave_nothing() {
    let mut bundle = Bundle::new("true");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let id = bundle.id.clone();
    let empty = tempfile::tempdir().expect("a directory");
    let empty_path = empty.path().to_string_lossy().into_owned();
    let check = |bundle: &Bundle, arguments: &[&str], words: &[&str]| {
        let name = arguments.join(" ");
        let message = refusal(bundle, arguments, &name);
        for word in words {
            assert!(message.contains(word), "{name}: {word:?} is not in {message:?}");
        }
        assert_nothing_left(bundle, &name);
    };
    let missing = "no such file or directory";
    check(
        &bundle,
        &["run", "-b", "/no/such/bundle", &id],
        &["/no/such/bundle", missing],
    );
    check(&bundle, &["run", "-b", &empty_path, &id], &["config.json", missing]);
    std::fs::create_dir(empty.path().join("config.json")).expect("a directory");
    check(&bundle, &["run", "-b", &empty_path, &id], &["config.json"]);
    for wrong in ["", ".", "..", "a/b", "a b", "../x", "a\nb"] {
        check(&bundle, &["run", "-b", &path, wrong], &[]);
    }
    check(
        &bundle,
        &["create", "-b", &path, "--console-socket", "/no/such", &id],
        &["process.terminal"],
    );
    check(
        &bundle,
        &["--systemd-cgroup", "create", "-b", &path, &id],
        &["linux.cgroupsPath", "slice:prefix:name"],
    );
    bundle.set("/process/terminal", json!(true));
    bundle.write();
    check(
        &bundle,
        &["create", "-b", &path, &id],
        &["process.terminal", "console-socket"],
    );
    check(
        &bundle,
        &["create", "-b", &path, "--console-socket", "/no/such", &id],
        &["/no/such"],
    );
    check(
        &bundle,
        &["run", "-d", "-b", &path, &id],
        &["process.terminal", "console-socket"],
    );
    check(&bundle, &["start", &id], &["does not exist"]);
    check(&bundle, &["state", &id], &["does not exist"]);
    check(&bundle, &["delete", &id], &["does not exist"]);
    check(&bundle, &["kill", &id], &["does not exist"]);
}

#[test]
fn what_is_only_unknown_is_a_warning_or_passed_over() {
    let mut bundle = Bundle::new("echo ran");
    bundle.set("/process/capabilities/bounding", json!(["CAP_CHOWN", "CAP_FLY"]));
    let rule = json!({ "names": ["teleport", "mkdir"], "action": "SCMP_ACT_ERRNO" });
    bundle.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }),
    );
    bundle.set("/somethingNew", json!({ "a": [1, 2, 3] }));
    hook(&mut bundle, "createRuntime", "yes | head -c 5000000");
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("CAP_FLY"), "{outcome:?}");
    assert_eq!(outcome.ok(), "ran");
}
