//! What a container that manages its own processes, such as one with systemd
//! as its first, gets of the cgroups. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::json;

const WRITABLE: &[&str] = &["nosuid", "noexec", "nodev"];
const READ_ONLY: &[&str] = &["nosuid", "noexec", "nodev", "ro"];

/// The directory in the container whose children a supervisor would make.
const OWN: &str = "own=/sys/fs/cgroup/systemd; [ -d $own ] || own=/sys/fs/cgroup;";

fn with_cgroup_mount(script: &str, options: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(&format!("{OWN} {script}"));
    let destination = "/sys/fs/cgroup";
    bundle.add_mount(json!({ "destination": destination, "type": "cgroup", "source": "cgroup", "options": options }));
    bundle
}

fn in_user_namespace(mut bundle: Bundle) -> Bundle {
    let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65_536 }]);
    bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    namespaces.expect("namespaces").push(json!({ "type": "user" }));
    bundle
}

/// Makes a group, moves the shell into it, and shows where it is.
const SUPERVISE: &str = "mkdir $own/inner && echo $$ > $own/inner/cgroup.procs && grep -c '/inner$' /proc/self/cgroup";

#[test]
fn a_supervisor_moves_processes_within_a_writable_cgroup() {
    let bundle = with_cgroup_mount(SUPERVISE, WRITABLE);
    assert_ne!(bundle.run().ok(), "0");
    assert!(!bundle.has_cgroup());
}

#[test]
fn the_root_of_a_user_namespace_owns_a_writable_cgroup_but_not_its_limits() {
    let limits = "for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do \
                  [ -e $f ] && echo 1000000000 > $f; done 2>/dev/null && echo raised; true";
    let bundle = in_user_namespace(with_cgroup_mount(&format!("{limits}; {SUPERVISE}"), WRITABLE));
    let shown = bundle.run().ok();
    assert!(!shown.contains("raised") && shown != "0", "{shown}");
    assert!(!bundle.has_cgroup());
}

#[test]
fn a_read_only_cgroup_stays_the_hosts() {
    let script = "mkdir $own/inner 2>/dev/null || echo refused";
    assert_eq!(with_cgroup_mount(script, READ_ONLY).run().ok(), "refused");
    let bundle = in_user_namespace(with_cgroup_mount(script, READ_ONLY));
    assert_eq!(bundle.run().ok(), "refused");
}

#[test]
fn signals_of_supervisors_are_known_by_name_and_number() {
    for signal in ["RTMIN+3", "SIGRTMIN+3", "37", "RTMAX-27"] {
        let bundle = Bundle::new(
            "trap 'exit 3' RTMIN+3 2>/dev/null || trap 'exit 3' 37; : >/ready; while :; do sleep 0.05; done",
        );
        bundle.start().ok();
        // Before, init ignores it.
        bundle.await_file("ready");
        bundle.cli(&["kill", &bundle.id, signal]).ok();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !bundle.cli(&["state", &bundle.id]).ok().contains("stopped") {
            assert!(std::time::Instant::now() < deadline, "{signal} did not arrive");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
