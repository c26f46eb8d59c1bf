//! What else a configuration may hold: the finer limits of memory, values
//! that mean nothing, and fields without a file of their own. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The host's only hierarchy is version 2.
fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The container's directory of a version 1 controller, if that is mounted.
fn directory(bundle: &Bundle, controller: &str) -> Option<PathBuf> {
    let mount = PathBuf::from("/sys/fs/cgroup").join(controller);
    mount.join("cgroup.procs").exists().then(|| mount.join(&bundle.id))
}

/// Checks files of a created container: resources, controller, file, value.
fn check_v1(resources: Value, expected: &[(&str, &str, &str)]) {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set("/linux/resources", resources);
    bundle.start().ok();
    for (controller, file, value) in expected {
        let Some(directory) = directory(&bundle, controller) else {
            println!("not checked: {controller} is not mounted as version 1");
            continue;
        };
        let found = std::fs::read_to_string(directory.join(file)).expect(file);
        assert_eq!(found.trim(), *value, "{controller} {file}");
    }
}

/// The same on version 2.
fn check_v2(resources: Value, expected: &[(&str, &str)]) {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set("/linux/resources", resources);
    bundle.start().ok();
    for (file, value) in expected {
        let path = PathBuf::from("/sys/fs/cgroup").join(&bundle.id).join(file);
        let found = std::fs::read_to_string(&path).expect(file);
        assert_eq!(found.trim(), *value, "{file}");
    }
}

/// Creating with these resources fails with these words.
fn check_refused(resources: Value, expected: &str) {
    let mut bundle = Bundle::new("true");
    bundle.set("/linux/resources", resources.clone());
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1, "{resources}");
    assert!(outcome.stderr.contains(expected), "{resources}: {}", outcome.stderr);
    assert!(!bundle.has_cgroup(), "{resources}");
}

#[test]
fn limits_of_memory_reach_their_files() {
    let limit = 64 << 20;
    let memory = json!({"memory": {"limit": limit, "reservation": limit / 2, "swap": limit * 2}});
    if is_v2() {
        let (limit, low) = (limit.to_string(), (limit / 2).to_string());
        return check_v2(
            memory,
            &[
                ("memory.max", &limit),
                ("memory.low", &low),
                ("memory.swap.max", &limit),
            ],
        );
    }
    check_v1(
        memory,
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ],
    );
    // `kernel` is accepted and has no effect: the kernel takes it no more.
    check_v1(
        json!({"memory": {"limit": -1, "kernel": limit, "kernelTCP": limit, "swappiness": 10, "useHierarchy": true}}),
        &[
            ("memory", "memory.limit_in_bytes", "9223372036854771712"),
            ("memory", "memory.kmem.tcp.limit_in_bytes", "67108864"),
            ("memory", "memory.swappiness", "10"),
        ],
    );
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set("/linux/resources", json!({"memory": {"disableOOMKiller": true}}));
    bundle.start().ok();
    if let Some(directory) = directory(&bundle, "memory") {
        let control = std::fs::read_to_string(directory.join("memory.oom_control")).expect("oom_control");
        assert!(control.starts_with("oom_kill_disable 1"), "{control}");
    }
}

#[test]
fn a_limit_below_what_is_used_is_refused_when_asked_to_check() {
    let mut bundle = Bundle::new("head -c 20000000 /dev/zero | tail -c 20000000 >/dev/shm/x; touch /up; sleep 1000");
    bundle.add_mount(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}));
    bundle.start().ok();
    bundle.await_file("up");
    let file = bundle.path().join("resources.json");
    let update = |check: bool| {
        let text = json!({"memory": {"limit": 8 << 20, "checkBeforeUpdate": check}}).to_string();
        std::fs::write(&file, text).expect("write");
        bundle.cli(&["update", "--resources", &file.to_string_lossy(), &bundle.id])
    };
    let refused = update(true);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("bytes in use"), "{}", refused.stderr);
}

#[test]
fn values_that_mean_nothing_name_their_field() {
    check_refused(json!({"memory": {"swappiness": 101}}), "swappiness");
    check_refused(
        json!({"devices": [{"allow": true, "type": "x"}]}),
        "linux.resources.devices[0].type",
    );
    check_refused(
        json!({"devices": [{"allow": true, "access": "q"}]}),
        "linux.resources.devices[0].access",
    );
    let rate = json!([{"major": -2, "minor": 0, "rate": 1}]);
    check_refused(
        json!({"blockIO": {"throttleReadBpsDevice": rate}}),
        "linux.resources.blockIO.throttleReadBpsDevice",
    );
    check_refused(json!({"cpu": {"cpus": "no-list"}}), "no-list");
}

#[test]
fn the_score_for_the_oom_killer_is_set() {
    let mut bundle = Bundle::new("cat /proc/self/oom_score_adj");
    bundle.set("/process/oomScoreAdj", json!(321));
    assert_eq!(bundle.run().ok(), "321");
}

#[test]
fn a_relative_destination_is_taken_from_the_root() {
    let mut bundle = Bundle::new("cat /data/x; pwd");
    std::fs::create_dir(bundle.path().join("source")).expect("source");
    std::fs::write(bundle.path().join("source/x"), "from the bundle\n").expect("write");
    bundle.add_mount(json!({"destination": "data", "type": "bind", "source": "source", "options": ["bind", "ro"]}));
    assert_eq!(bundle.run().ok(), "from the bundle\n/");
}

#[test]
fn annotations_are_in_the_state_and_what_is_not_known_is_ignored() {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set("/annotations", json!({"org.example.key": "value"}));
    bundle.set("/future", json!({"x": [1]}));
    bundle.start().ok();
    let state: serde_json::Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    assert_eq!(state["annotations"]["org.example.key"], "value");
}
