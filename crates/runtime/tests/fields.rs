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
    check(json!({ "policy": "SCHED_IDLE" }), "0 5");
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
        &[("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND" }))],
        "linux.memoryPolicy: MPOL_BIND needs nodes",
    );
    refuse(
        &[("/linux/memoryPolicy", json!({ "mode": "MPOL_DEFAULT", "nodes": "0" }))],
        "linux.memoryPolicy: MPOL_DEFAULT takes no nodes",
    );
    refuse(
        &[("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "x" }))],
        "linux.memoryPolicy.nodes: \"x\" is no node list",
    );
    refuse(
        &[(
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["F"] }),
        )],
        "linux.memoryPolicy.flags: unknown value \"F\"",
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
