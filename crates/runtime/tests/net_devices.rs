//! Network devices that move into the container, from a host of this test's
//! own: the runtime is called in a fresh network namespace. Needs root.

mod bundle;

use bundle::{Bundle, Outcome, program};
use serde_json::json;
use std::process::{Command, Stdio};

/// Runs the container in a new network namespace after `setup`, a script for
/// busybox's shell that may use `ip`.
fn run(bundle: &Bundle, setup: &str) -> Outcome {
    bundle.write();
    let script = format!(
        "set -e; {setup}; {} --root {} run --bundle {} {}",
        program("wharf-runtime").display(),
        bundle.path().join("state").display(),
        bundle.path().display(),
        bundle.id
    );
    let output = Command::new("/bin/busybox")
        .args(["unshare", "--net", "/bin/busybox", "sh", "-c", &script])
        .stdin(Stdio::null())
        .output();
    output.expect("run the runtime").into()
}

const VETH: &str = "ip link add name dev7 type veth; ip addr add 192.0.2.7/24 broadcast 192.0.2.255 dev dev7; \
                      ip -6 addr add 2001:db8::7/64 dev dev7; ip link set dev7 up";

#[test]
fn a_device_moves_in_with_its_addresses_and_is_switched_on() {
    let mut bundle = Bundle::new("ip -o addr show dev dev7; ip link show dev dev7");
    bundle.set("/linux/netDevices", json!({ "dev7": {} }));
    let out = run(&bundle, VETH).ok();
    assert!(out.contains("192.0.2.7/24 brd 192.0.2.255"), "{out}");
    assert!(out.contains("2001:db8::7/64"), "{out}");
    assert!(out.contains("UP"), "{out}");
    // With a filter and hooks, which take the same way between runtime and init.
    let filter = wharf_runtime::seccomp::default_profile(&[]);
    bundle.set("/linux/seccomp", serde_json::to_value(filter).expect("JSON"));
    run(&bundle, VETH).ok();
    bundle.set(
        "/hooks",
        json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 0"] }] }),
    );
    run(&bundle, VETH).ok();
}

#[test]
fn a_device_gets_the_name_it_is_to_have_inside() {
    let mut bundle = Bundle::new("ls /sys/class/net");
    bundle.set("/linux/netDevices", json!({ "dev7": { "name": "inside0" } }));
    assert_eq!(run(&bundle, VETH).ok(), "inside0\nlo");
    // The kernel numbers a pattern.
    bundle.set("/linux/netDevices", json!({ "dev7": { "name": "net%d" } }));
    assert_eq!(run(&bundle, VETH).ok(), "lo\nnet0");
}

#[test]
fn a_device_that_is_missing_or_in_the_way_is_an_error() {
    let check = |devices: serde_json::Value, setup: &str, expected: &str| {
        let mut bundle = Bundle::new("true");
        bundle.set("/linux/netDevices", devices);
        let outcome = run(&bundle, setup);
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(expected), "{outcome:?}");
        assert!(!bundle.has_cgroup());
    };
    check(
        json!({ "nope0": {} }),
        "true",
        "linux.netDevices[\"nope0\"]: find it on the host: no such device",
    );
    check(
        json!({ "dev7": { "name": "lo" } }),
        VETH,
        "linux.netDevices[\"dev7\"]: move it to lo in the container: file exists",
    );
    let mut bundle = Bundle::new("true");
    bundle.set("/linux/netDevices", json!({ "dev7": {} }));
    bundle.set(
        "/linux/namespaces",
        json!([{ "type": "mount" }, { "type": "pid" }, { "type": "uts" }]),
    );
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("needs a network namespace"), "{outcome:?}");
}
