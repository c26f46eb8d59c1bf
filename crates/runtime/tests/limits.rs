//! Limits in the files of the container's cgroup, on whichever version this
//! machine has: from the configuration, and changed by `update`. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The directory of a controller.
fn directory(bundle: &Bundle, controller: &str) -> PathBuf {
    let top = PathBuf::from("/sys/fs/cgroup");
    let top = if is_v2() { top } else { top.join(controller) };
    top.join(&bundle.id)
}

/// One limit: what it is on version 1 (controller, file, value) and on version 2 (file, value).
type Expected<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

fn check(bundle: &Bundle, (controller, file, value, unified_file, unified_value): Expected<'_>) {
    let (file, value) = if is_v2() {
        (unified_file, unified_value)
    } else {
        (file, value)
    };
    let path = directory(bundle, controller).join(file);
    let found = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(found.trim(), value, "{}", path.display());
}

/// Whether this kernel has the file in a container's group.
fn has(bundle: &Bundle, controller: &str, file: &str) -> bool {
    let is_there = directory(bundle, controller).join(file).exists();
    if !is_there {
        eprintln!("not run: this machine has no {file}");
    }
    is_there
}

/// KERNEL(5.14): before, no burst can be set.
fn has_bursts(running: &Bundle) -> bool {
    let file = if is_v2() { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    has(running, "cpu", file)
}

#[test]
fn the_limits_of_the_configuration_are_in_force() {
    let mut probe = Bundle::new("sleep 100");
    probe.set("/linux/resources", json!({ "cpu": { "shares": 1024 } }));
    probe.start().ok();
    let has_bursts = has_bursts(&probe);
    let mut bundle = Bundle::new("sleep 100");
    bundle.set(
        "/linux/resources",
        json!({
            "memory": { "limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20 },
            "cpu": { "shares": 1024, "quota": 30_000, "period": 60_000, "cpus": "0", "mems": "0" },
            "pids": { "limit": 50 },
        }),
    );
    if has_bursts {
        bundle.set("/linux/resources/cpu/burst", json!(2000));
    }
    bundle.start().ok();
    if has_bursts {
        check(&bundle, ("cpu", "cpu.cfs_burst_us", "2000", "cpu.max.burst", "2000"));
    }
    for expected in [
        ("memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
        (
            "memory",
            "memory.soft_limit_in_bytes",
            "33554432",
            "memory.low",
            "33554432",
        ),
        (
            "memory",
            "memory.memsw.limit_in_bytes",
            "100663296",
            "memory.swap.max",
            "33554432",
        ),
        ("cpu", "cpu.shares", "1024", "cpu.weight", "100"),
        ("cpu", "cpu.cfs_quota_us", "30000", "cpu.max", "30000 60000"),
        ("cpu", "cpu.cfs_period_us", "60000", "cpu.max", "30000 60000"),
        ("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0", "cpuset.mems", "0"),
        ("pids", "pids.max", "50", "pids.max", "50"),
    ] {
        check(&bundle, expected);
    }
}

#[test]
fn no_limit_and_a_limit_of_zero_processes_are_different() {
    for (limit, expected) in [(-1, "max"), (0, "1"), (7, "7")] {
        let mut bundle = Bundle::new("sleep 100");
        bundle.set("/linux/resources", json!({ "pids": { "limit": limit } }));
        bundle.start().ok();
        check(&bundle, ("pids", "pids.max", expected, "pids.max", expected));
    }
}

#[test]
fn every_flag_of_update_changes_its_limit() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    let update = |flags: &[&str]| bundle.cli(&[&["update"], flags, &[&bundle.id]].concat()).ok();
    update(&[
        "--memory",
        "64m",
        "--memory-swap",
        "128m",
        "--memory-reservation",
        "16777216",
    ]);
    update(&[
        "--pids-limit",
        "30",
        "--cpu-share",
        "1024",
        "--cpu-period",
        "50000",
        "--cpu-quota=25000",
    ]);
    update(&["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    if has_bursts(&bundle) {
        update(&["--cpu-burst", "1000"]);
        check(&bundle, ("cpu", "cpu.cfs_burst_us", "1000", "cpu.max.burst", "1000"));
    }
    for expected in [
        ("memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
        (
            "memory",
            "memory.memsw.limit_in_bytes",
            "134217728",
            "memory.swap.max",
            "67108864",
        ),
        (
            "memory",
            "memory.soft_limit_in_bytes",
            "16777216",
            "memory.low",
            "16777216",
        ),
        ("pids", "pids.max", "30", "pids.max", "30"),
        ("cpu", "cpu.shares", "1024", "cpu.weight", "100"),
        ("cpu", "cpu.cfs_quota_us", "25000", "cpu.max", "25000 50000"),
        ("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
    ] {
        check(&bundle, expected);
    }
    // What is not given stays, upwards and downwards; limits go away with -1.
    update(&["--cpu-quota", "10000"]);
    check(&bundle, ("cpu", "cpu.cfs_quota_us", "10000", "cpu.max", "10000 50000"));
    update(&["--memory", "256m", "--memory-swap", "512m"]);
    update(&["--memory", "32m", "--memory-swap", "-1"]);
    check(
        &bundle,
        ("memory", "memory.limit_in_bytes", "33554432", "memory.max", "33554432"),
    );
    check(&bundle, ("pids", "pids.max", "30", "pids.max", "30"));
    update(&["--pids-limit=-1"]);
    check(&bundle, ("pids", "pids.max", "max", "pids.max", "max"));
    if has(&bundle, "cpu", "cpu.idle") {
        update(&["--cpu-idle", "1"]);
        check(&bundle, ("cpu", "cpu.idle", "1", "cpu.idle", "1"));
    }
    let weight = if is_v2() { "io.bfq.weight" } else { "blkio.bfq.weight" };
    if has(&bundle, "blkio", weight) {
        update(&["--blkio-weight", "300"]);
        let path = directory(&bundle, "blkio").join(weight);
        let found = std::fs::read_to_string(path).expect("weight");
        assert!(found.split_whitespace().any(|word| word == "300"), "{found}");
    }
    // Accepted, and without effect since the kernel gave them up.
    update(&["--kernel-memory", "50m", "--kernel-memory-tcp", "50m"]);
    let unknown = bundle.cli(&["update", "--no-such-limit", "1", &bundle.id]);
    assert!(unknown.stderr.contains("--no-such-limit"), "{unknown:?}");
    let wrong = bundle.cli(&["update", "--memory", "much", &bundle.id]);
    assert!(wrong.stderr.contains("--memory: \"much\" is no size"), "{wrong:?}");
}

#[test]
fn update_reads_limits_from_a_file_and_from_stdin() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    let file = bundle.path().join("limits.json");
    std::fs::write(&file, r#"{ "memory": { "limit": 50331648 } }"#).expect("a file");
    bundle
        .cli(&["update", "--resources", &file.to_string_lossy(), &bundle.id])
        .ok();
    check(
        &bundle,
        ("memory", "memory.limit_in_bytes", "50331648", "memory.max", "50331648"),
    );
    let mut child = bundle
        .command(&["update", "-r", "-", &bundle.id])
        .stdin(Stdio::piped())
        .spawn()
        .expect("update");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(br#"{ "pids": { "limit": 12 } }"#).expect("write");
    drop(stdin);
    assert!(child.wait().expect("update").success());
    check(&bundle, ("pids", "pids.max", "12", "pids.max", "12"));
    // A limit below what is in use is refused when that is asked for.
    std::fs::write(&file, r#"{ "memory": { "limit": 4096, "checkBeforeUpdate": true } }"#).expect("a file");
    let outcome = bundle.cli(&["update", "-r", &file.to_string_lossy(), &bundle.id]);
    assert!(
        outcome.code == 1 && outcome.stderr.contains("4096 is below"),
        "{outcome:?}"
    );
}

#[test]
fn devices_are_throttled() {
    let Some(device) = some_disk() else {
        eprintln!("not run: this machine has no disk");
        return;
    };
    let (major, minor) = device.split_once(':').expect("two numbers");
    let (major, minor): (u32, u32) = (major.parse().expect("major"), minor.parse().expect("minor"));
    let throttle = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let mut bundle = Bundle::new("sleep 100");
    bundle.set(
        "/linux/resources",
        json!({ "blockIO": {
            "throttleReadBpsDevice": throttle(1 << 20), "throttleWriteBpsDevice": throttle(2 << 20),
            "throttleReadIOPSDevice": throttle(100), "throttleWriteIOPSDevice": throttle(200),
        } }),
    );
    bundle.start().ok();
    if is_v2() {
        let line = format!("{device} rbps=1048576 wbps=2097152 riops=100 wiops=200");
        check(&bundle, ("", "", "", "io.max", &line));
        return;
    }
    for (file, rate) in [
        ("read_bps", 1 << 20),
        ("write_bps", 2 << 20),
        ("read_iops", 100),
        ("write_iops", 200),
    ] {
        let (file, line) = (format!("blkio.throttle.{file}_device"), format!("{device} {rate}"));
        check(&bundle, ("blkio", &file, &line, "", ""));
    }
}

/// Major and minor number of a whole disk.
fn some_disk() -> Option<String> {
    let disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    disks
        .filter(|disk| disk.path().join("device").exists())
        .find_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok())
        .map(|numbers| numbers.trim().to_owned())
}

#[test]
fn limits_that_this_machine_lacks_are_errors_that_name_them() {
    let refuse = |resources: Value, expected: &str| {
        let mut bundle = Bundle::new("true");
        bundle.set("/linux/resources", resources);
        let outcome = bundle.run();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(expected), "{outcome:?}");
        assert!(!bundle.has_cgroup());
    };
    let mounted = |controller: &str| std::path::Path::new("/sys/fs/cgroup").join(controller).exists();
    if is_v2() {
        refuse(json!({ "network": { "classID": 7 } }), "network class");
        refuse(json!({ "unified": { "nosuch.file": "1" } }), "nosuch.file");
        refuse(json!({ "unified": { "../x.y": "1" } }), "not a file of a cgroup");
    } else {
        refuse(json!({ "unified": { "memory.high": "1" } }), "unified memory.high");
        for (controller, resources) in [
            ("net_cls", json!({ "network": { "classID": 7 } })),
            (
                "net_prio",
                json!({ "network": { "priorities": [{ "name": "lo", "priority": 3 }] } }),
            ),
            ("rdma", json!({ "rdma": { "mlx5_0": { "hcaHandles": 2 } } })),
        ] {
            if !mounted(controller) {
                refuse(resources, controller);
            }
        }
    }
    refuse(
        json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 1 }] }),
        "hugetlb",
    );
    refuse(
        json!({ "hugepageLimits": [{ "pageSize": "../2MB", "limit": 1 }] }),
        "is not a size such as 2MB",
    );
    refuse(json!({ "cpu": { "cpus": "900" } }), "cpuset.cpus");
    refuse(json!({ "cpu": { "quota": 1 } }), "cpu.");
}
