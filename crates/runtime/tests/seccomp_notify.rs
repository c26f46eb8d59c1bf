//! The seccomp listener: what an agent gets, and that its answers count. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;
use wharf_sys::Errno;
use wharf_sys::seccomp::{Answer, answer_notification, receive_notification};

/// Numbers of mkdir and mkdirat on the machines we run on.
const MKDIRS: [i32; 3] = [83, 258, 34];

/// An agent that answers every call of one process: mkdir fails as a full
/// disk would make it fail, all others are made. Returns the document it got.
fn agent(bundle: &Bundle) -> (PathBuf, JoinHandle<Value>) {
    let path = bundle.path().join("agent");
    let _ = std::fs::remove_file(&path);
    let socket = UnixListener::bind(&path).expect("listen");
    let thread = std::thread::spawn(move || {
        let (stream, _) = socket.accept().expect("accept");
        let (mut text, mut fds) = (Vec::new(), Vec::new());
        loop {
            let mut chunk = [0u8; 100];
            let (length, more) = wharf_sys::fdpass::receive(&stream, &mut chunk).expect("receive");
            text.extend_from_slice(&chunk[..length]);
            fds.extend(more);
            if length == 0 {
                break;
            }
        }
        let listener = fds.pop().expect("the listener");
        assert!(fds.is_empty(), "one descriptor only");
        // Ends when the last filtered process is gone.
        std::thread::spawn(move || {
            while let Ok(call) = receive_notification(&listener) {
                let answer = match MKDIRS.contains(&call.number) {
                    true => Answer::Fail(Errno::NOSPC),
                    false => Answer::Continue,
                };
                let _ = answer_notification(&listener, call.id, answer);
            }
        });
        serde_json::from_slice(&text).expect("JSON")
    });
    (path, thread)
}

fn notify(bundle: &mut Bundle, path: &std::path::Path, names: Value) {
    let rule = json!({ "names": names, "action": "SCMP_ACT_NOTIFY" });
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for the agent",
            "syscalls": [rule],
        }),
    );
}

#[test]
fn an_agent_answers_the_calls_of_a_container() {
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::new("mkdir /tmp/x; test -d /tmp/x || echo refused");
        let (path, agent) = agent(&bundle);
        // Calls that the runtime itself makes after the filter is loaded.
        notify(
            &mut bundle,
            &path,
            json!([
                "mkdir", "mkdirat", "execve", "close", "fcntl", "recvmsg", "sendmsg", "openat"
            ]),
        );
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        bundle.set("/annotations", json!({ "a": "b" }));
        let outcome = bundle.run();
        assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");
        assert_eq!(outcome.ok(), "refused");
        let document = agent.join().expect("agent");
        assert_eq!(document["fds"], json!(["seccompFd"]));
        assert_eq!(document["metadata"], "for the agent");
        let state = &document["state"];
        assert_eq!(
            (&state["id"], &state["status"]),
            (&json!(bundle.id), &json!("creating"))
        );
        assert_eq!(
            (&state["pid"], &state["annotations"]),
            (&document["pid"], &json!({ "a": "b" }))
        );
        assert_eq!(state["bundle"], json!(bundle.path()));
        assert!(document["ociVersion"].is_string() && document["pid"].as_i64().is_some_and(|pid| pid > 1));
    }
}

#[test]
fn the_agent_has_the_listener_when_create_returns() {
    let mut bundle = Bundle::new("sleep 100");
    let (path, created) = agent(&bundle);
    notify(&mut bundle, &path, json!(["mkdir", "mkdirat"]));
    if bundle::kernel_is_before((5, 19)) {
        eprintln!("NOT CHECKED: this kernel, before 5.19, has no SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
    } else {
        bundle.set(
            "/linux/seccomp/flags",
            json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        );
    }
    bundle.start().ok();
    let container = created.join().expect("agent");
    // Each exec has a filter, and so a listener, of its own.
    let (_, execed) = agent(&bundle);
    let outcome = bundle.cli(&["exec", &bundle.id, "mkdir", "/tmp/y"]);
    assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");
    let exec = execed.join().expect("agent");
    assert_eq!(exec["state"]["status"], "running");
    assert_eq!(exec["state"]["pid"], container["pid"]);
    assert_ne!(exec["pid"], container["pid"]);
}

#[test]
fn a_container_whose_agent_is_missing_is_not_made() {
    let mut bundle = Bundle::new("true");
    let path = bundle.path().join("nobody");
    notify(&mut bundle, &path, json!(["mkdir"]));
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .stderr
            .contains("linux.seccomp.listenerPath: failed to connect with seccomp agent"),
        "{outcome:?}"
    );
    assert!(!bundle.has_cgroup());
    assert_eq!(bundle.cli(&["state", &bundle.id]).code, 1);
}

#[test]
fn impossible_listeners_are_errors_that_name_the_field() {
    let check = |seccomp: Value, expected: &str| {
        let mut bundle = Bundle::new("true");
        bundle.set("/linux/seccomp", seccomp);
        let outcome = bundle.run();
        assert!(outcome.stderr.contains(expected), "{outcome:?}");
    };
    let rule = |name: &str| json!([{ "names": [name], "action": "SCMP_ACT_NOTIFY" }]);
    check(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule("mkdir") }),
        "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath",
    );
    check(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": rule("write") }),
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    );
    check(
        json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x" }),
        "SCMP_ACT_NOTIFY cannot be used as default action",
    );
    check(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }),
        "linux.seccomp.listenerMetadata: needs listenerPath",
    );
}
