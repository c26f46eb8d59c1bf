//! Limits and measurements over recorded trees in a temporary directory.

use super::*;
use crate::resources::{BlockIo, Cpu, Cpuset, DeviceAccess, DeviceKind, DeviceRule, Memory, ThrottleDevice};
use crate::stats::BlkioEntry;

/// Files as a kernel would show them; writes replace their content.
fn tree(root: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, content).expect("a file");
    }
}

fn content(root: &Path, name: &str) -> String {
    std::fs::read_to_string(root.join(name)).expect("a file")
}

const V2_GROUP: &[(&str, &str)] = &[
    ("cgroup.controllers", "cpu io memory pids cpuset"),
    ("cgroup.subtree_control", ""),
    ("n/cgroup.controllers", "cpu io memory pids cpuset"),
    ("n/a/cgroup.controllers", "cpu io memory pids cpuset"),
    ("n/a/cgroup.procs", "12\n7\n0\n"),
    ("n/a/b/cgroup.procs", "3\n"),
    ("n/a/cpu.weight", "100"),
    ("n/a/cpu.max", "max 100000"),
    ("n/a/cpu.max.burst", "0"),
    ("n/a/memory.max", "max"),
    ("n/a/memory.low", "0"),
    ("n/a/memory.swap.max", "max"),
    ("n/a/pids.max", "max"),
    ("n/a/io.max", ""),
    ("n/a/io.weight", "default 100"),
    ("n/a/cpuset.cpus", ""),
    ("n/a/memory.high", "max"),
];

fn v2_group(root: &Path) -> Cgroup {
    tree(root, V2_GROUP);
    Cgroup::create(&Hierarchy::v2_at(root), "/n/a").expect("the group")
}

#[test]
fn v2_limits_land_in_their_files() {
    let root = tempfile::tempdir().expect("a directory");
    let group = v2_group(root.path());
    let throttle = |rate| {
        vec![ThrottleDevice {
            major: 8,
            minor: 0,
            rate,
        }]
    };
    let resources = Resources {
        cpu: Cpu {
            shares: Some(1024),
            quota_us: Some(150_000),
            period_us: Some(100_000),
            ..Cpu::default()
        },
        cpuset: Cpuset {
            cpus: Some("0-1".into()),
            mems: None,
        },
        memory: Memory {
            limit: Some(64 << 20),
            swap: Some(96 << 20),
            reservation: Some(32 << 20),
            ..Memory::default()
        },
        pids_limit: Some(50),
        io: BlockIo {
            weight: Some(500),
            throttle_write_bps: throttle(1 << 20),
            ..BlockIo::default()
        },
        unified: [("memory.high".to_owned(), "60M".to_owned())].into(),
        ..Resources::default()
    };
    group.apply(&resources).expect("limits");
    let expected = [
        ("cpu.weight", "100"),
        ("cpu.max", "150000 100000"),
        ("cpuset.cpus", "0-1"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("pids.max", "50"),
        ("io.weight", "default 4950"),
        ("io.max", "8:0 wbps=1048576"),
        ("memory.high", "60M"),
    ];
    for (file, value) in expected {
        assert_eq!(content(root.path(), &format!("n/a/{file}")), value, "{file}");
    }
}

#[test]
fn an_update_changes_only_what_it_names() {
    let root = tempfile::tempdir().expect("a directory");
    let group = v2_group(root.path());
    tree(
        root.path(),
        &[("n/a/cpu.max", "20000 50000"), ("n/a/memory.max", "1000")],
    );
    let resources = Resources {
        cpu: Cpu {
            period_us: Some(100_000),
            ..Cpu::default()
        },
        memory: Memory {
            swap: Some(1500),
            ..Memory::default()
        },
        pids_limit: Some(-1),
        ..Resources::default()
    };
    group.update(&resources).expect("an update");
    assert_eq!(content(root.path(), "n/a/cpu.max"), "20000 100000");
    assert_eq!(content(root.path(), "n/a/memory.max"), "1000");
    assert_eq!(content(root.path(), "n/a/memory.swap.max"), "500");
    assert_eq!(content(root.path(), "n/a/pids.max"), "max");
    assert_eq!(content(root.path(), "n/a/cpu.weight"), "100");
}

#[test]
fn a_missing_controller_is_named_only_when_asked_for() {
    let root = tempfile::tempdir().expect("a directory");
    tree(root.path(), &[("cgroup.controllers", ""), ("n/a/cgroup.procs", "")]);
    let group = Cgroup::create(&Hierarchy::v2_at(root.path()), "/n/a").expect("the group");
    group.apply(&Resources::default()).expect("nothing was asked for");
    let asked = Resources {
        pids_limit: Some(5),
        ..Resources::default()
    };
    let error = group.apply(&asked).expect_err("no pids controller").to_string();
    assert_eq!(
        error,
        "cgroup controller pids is not available, but pids.max was asked for"
    );

    let v1 = Hierarchy::v1_at([(root.path().to_path_buf(), vec![Controller::Memory])]);
    let group = Cgroup::create(&v1, "/n/a").expect("the group");
    let error = group.apply(&asked).expect_err("no pids controller").to_string();
    assert_eq!(
        error,
        "cgroup controller pids is not available, but pids limit was asked for"
    );
}

#[test]
fn what_v2_cannot_express_is_refused_by_name() {
    let root = tempfile::tempdir().expect("a directory");
    let group = v2_group(root.path());
    let check = |resources: Resources, word: &str| {
        let error = group.apply(&resources).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    let memory = |memory| Resources {
        memory,
        ..Resources::default()
    };
    check(
        memory(Memory {
            swappiness: Some(10),
            ..Memory::default()
        }),
        "swappiness",
    );
    check(
        memory(Memory {
            disable_oom_killer: Some(true),
            ..Memory::default()
        }),
        "out-of-memory",
    );
    let unified = |name: &str| Resources {
        unified: [(name.to_owned(), "1".to_owned())].into(),
        ..Resources::default()
    };
    check(unified("../../memory.max"), "not a file of a cgroup");
    check(unified("cgroup.procs"), "the engine's own");
}

#[test]
fn v2_controllers_are_handed_down_to_a_new_group() {
    let root = tempfile::tempdir().expect("a directory");
    tree(
        root.path(),
        &[("cgroup.controllers", "cpu pids"), ("cgroup.subtree_control", "")],
    );
    tree(root.path(), &[("n/cgroup.subtree_control", "")]);
    Cgroup::create(&Hierarchy::v2_at(root.path()), "/n/new").expect("the group");
    assert_eq!(content(root.path(), "cgroup.subtree_control"), "+cpu +pids");
    // In a real tree its list of controllers would have appeared by now.
    assert_eq!(content(root.path(), "n/cgroup.subtree_control"), "");
    assert!(root.path().join("n/new").is_dir());
}

#[test]
fn v2_a_group_with_processes_hands_down_nothing_and_a_limit_below_says_so() {
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    tree(
        root,
        &[("cgroup.controllers", "cpu memory"), ("cgroup.subtree_control", "")],
    );
    tree(
        root,
        &[
            ("n/cgroup.type", "domain"),
            ("n/cgroup.controllers", "cpu memory"),
            ("n/cgroup.procs", "7\n"),
            ("n/cgroup.subtree_control", ""),
        ],
    );
    let group = Cgroup::create(&Hierarchy::v2_at(root), "/n/new").expect("the group");
    assert_eq!(content(root, "n/cgroup.subtree_control"), "");
    let memory = Memory {
        limit: Some(1 << 20),
        ..Memory::default()
    };
    let refused = group.apply(&Resources {
        memory,
        ..Resources::default()
    });
    let said = refused.expect_err("no memory controller").to_string();
    let expected = format!(
        "cgroup {} holds processes, so it cannot hand down the memory controller",
        root.join("n").display()
    );
    assert_eq!(said, expected);
}

#[test]
fn processes_are_counted_through_child_groups_without_foreign_ones() {
    let root = tempfile::tempdir().expect("a directory");
    assert_eq!(v2_group(root.path()).pids().expect("pids"), [3, 7, 12]);
}

#[test]
fn v2_measurements_are_read() {
    let root = tempfile::tempdir().expect("a directory");
    let group = v2_group(root.path());
    tree(
        root.path(),
        &[
            (
                "n/a/cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
            ),
            ("n/a/memory.current", "4096\n"),
            ("n/a/memory.stat", "anon 1024\ninactive_file 512\n"),
            ("n/a/memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n"),
            ("n/a/memory.peak", "8192\n"),
            ("n/a/pids.current", "3\n"),
            (
                "n/a/io.stat",
                "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
            ),
        ],
    );
    let stats = group.stats().expect("stats");
    assert_eq!(
        (stats.cpu.total_ns, stats.cpu.user_ns, stats.cpu.system_ns),
        (30_000, 20_000, 10_000)
    );
    assert_eq!(stats.cpu.throttling.throttled_ns, 7000);
    assert_eq!(
        (stats.memory.usage, stats.memory.max_usage, stats.memory.limit),
        (4096, 8192, u64::MAX)
    );
    assert_eq!((stats.memory.failcnt, stats.memory.oom_kills), (2, 1));
    assert_eq!(stats.memory.stat.get("inactive_file"), Some(&512));
    assert_eq!((stats.pids.current, stats.pids.limit), (3, None));
    let write = BlkioEntry {
        major: 254,
        minor: 0,
        op: "write".into(),
        value: 20,
    };
    assert_eq!(stats.blkio.io_service_bytes[1], write);
    assert_eq!(group.oom_kills().expect("a counter"), 1);
}

const V1_MEMORY: &[(&str, &str)] = &[
    ("memory/n/a/memory.limit_in_bytes", "100"),
    ("memory/n/a/memory.memsw.limit_in_bytes", "200"),
    ("memory/n/a/memory.usage_in_bytes", "50"),
    ("memory/n/a/memory.max_usage_in_bytes", "70"),
    ("memory/n/a/memory.memsw.usage_in_bytes", "60"),
    ("memory/n/a/memory.failcnt", "3"),
    ("memory/n/a/memory.stat", "cache 1\ntotal_inactive_file 2\n"),
    (
        "memory/n/a/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    ),
    ("memory/n/a/memory.swappiness", "60"),
    ("memory/n/a/memory.soft_limit_in_bytes", "0"),
    ("cpu,cpuacct/n/a/cpu.shares", "1024"),
    ("cpu,cpuacct/n/a/cpu.cfs_quota_us", "-1"),
    ("cpu,cpuacct/n/a/cpu.cfs_period_us", "100000"),
    (
        "cpu,cpuacct/n/a/cpu.stat",
        "nr_periods 4\nnr_throttled 2\nthrottled_time 70\n",
    ),
    ("cpu,cpuacct/n/a/cpuacct.usage", "26\n"),
    ("cpu,cpuacct/n/a/cpuacct.usage_all", "cpu user system\n0 5 6\n1 7 8\n"),
    ("devices/n/a/devices.allow", ""),
    ("devices/n/a/devices.deny", ""),
    ("cpuset/cpuset.cpus", "0-3\n"),
    ("cpuset/cpuset.mems", "0\n"),
    ("cpuset/n/cpuset.cpus", "\n"),
    ("cpuset/n/cpuset.mems", "\n"),
    ("cpuset/n/a/cpuset.cpus", "\n"),
    ("cpuset/n/a/cpuset.mems", "\n"),
];

fn v1_group(root: &Path) -> Cgroup {
    tree(root, V1_MEMORY);
    let mounts = [
        ("memory", vec![Controller::Memory]),
        ("cpu,cpuacct", vec![Controller::Cpu, Controller::Cpuacct]),
        ("devices", vec![Controller::Devices]),
        ("cpuset", vec![Controller::Cpuset]),
    ];
    let hierarchy = Hierarchy::v1_at(mounts.map(|(name, controllers)| (root.join(name), controllers)));
    Cgroup::create(&hierarchy, "/n/a").expect("the group")
}

#[test]
fn v1_limits_land_on_separate_mounts_and_fill_the_cpuset_from_above() {
    let root = tempfile::tempdir().expect("a directory");
    let group = v1_group(root.path());
    let null = DeviceRule {
        allow: true,
        kind: DeviceKind::Char,
        major: Some(1),
        minor: Some(3),
        access: DeviceAccess::ALL,
    };
    let resources = Resources {
        cpu: Cpu {
            shares: Some(333),
            quota_us: Some(50_000),
            ..Cpu::default()
        },
        cpuset: Cpuset {
            cpus: Some("1".into()),
            mems: None,
        },
        memory: Memory {
            limit: Some(150),
            swappiness: Some(10),
            ..Memory::default()
        },
        devices: vec![null],
        ..Resources::default()
    };
    group.apply(&resources).expect("limits");
    let expected = [
        ("cpu,cpuacct/n/a/cpu.shares", "333"),
        ("cpu,cpuacct/n/a/cpu.cfs_quota_us", "50000"),
        ("memory/n/a/memory.limit_in_bytes", "150"),
        ("memory/n/a/memory.memsw.limit_in_bytes", "200"),
        ("memory/n/a/memory.swappiness", "10"),
        ("devices/n/a/devices.allow", "c 1:3 rwm"),
        ("cpuset/n/cpuset.cpus", "0-3"),
        ("cpuset/n/a/cpuset.mems", "0"),
        ("cpuset/n/a/cpuset.cpus", "1"),
    ];
    for (file, value) in expected {
        assert_eq!(content(root.path(), file), value, "{file}");
    }
}

#[test]
fn v1_measurements_are_read_from_every_mount_there_is() {
    let root = tempfile::tempdir().expect("a directory");
    let stats = v1_group(root.path()).stats().expect("stats");
    assert_eq!(
        (stats.cpu.total_ns, stats.cpu.user_ns, stats.cpu.system_ns),
        (26, 12, 14)
    );
    assert_eq!(stats.cpu.percpu_ns, [11, 15]);
    assert_eq!(
        (
            stats.cpu.throttling.throttled_periods,
            stats.cpu.throttling.throttled_ns
        ),
        (2, 70)
    );
    assert_eq!(
        (stats.memory.usage, stats.memory.limit, stats.memory.failcnt),
        (50, 100, 3)
    );
    assert_eq!((stats.memory.swap_usage, stats.memory.oom_kills), (10, 4));
    assert_eq!(stats.pids.current, 0);
}

#[test]
fn a_limit_below_the_usage_is_refused_on_request() {
    let root = tempfile::tempdir().expect("a directory");
    let group = v1_group(root.path());
    let memory = Memory {
        limit: Some(40),
        check_before_update: Some(true),
        ..Memory::default()
    };
    let error = group
        .update(&Resources {
            memory,
            ..Resources::default()
        })
        .expect_err("in use")
        .to_string();
    assert_eq!(error, "invalid value for memory limit: 40 is below the 50 bytes in use");
}

#[test]
fn paths_that_leave_the_hierarchy_are_refused() {
    let hierarchy = Hierarchy::v2_at("/nowhere");
    for path in ["", "a", "/", "//", "/a/../..", "/./a", "/a\0b"] {
        assert!(
            matches!(Cgroup::create(&hierarchy, path), Err(CgroupError::InvalidPath { .. })),
            "{path:?}"
        );
        assert!(
            matches!(Cgroup::open(&hierarchy, path), Err(CgroupError::InvalidPath { .. })),
            "{path:?}"
        );
    }
}

#[test]
fn opening_what_does_not_exist_is_an_error_and_deleting_it_is_not() {
    let root = tempfile::tempdir().expect("a directory");
    let hierarchy = Hierarchy::v2_at(root.path());
    let error = Cgroup::open(&hierarchy, "/absent").expect_err("absent");
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT.raw_os_error()));
    Cgroup::delete_tree(&hierarchy, "/absent", Duration::ZERO).expect("nothing to delete");
}

#[test]
fn rdma_and_huge_page_limits_land_in_their_files() {
    use crate::resources::{HugetlbLimit, RdmaLimit};
    let limits = Resources {
        rdma: BTreeMap::from([(
            "mlx5_1".to_owned(),
            RdmaLimit {
                handles: Some(3),
                objects: Some(10_000),
            },
        )]),
        hugetlb: vec![HugetlbLimit {
            page_size: "2MB".to_owned(),
            limit: 4 << 20,
        }],
        ..Resources::default()
    };
    let root = tempfile::tempdir().expect("a directory");
    let group = v2_group(root.path());
    let missing = group.apply(&limits).map_err(|error| error.to_string());
    assert!(
        missing.as_ref().is_err_and(|text| text.contains("hugetlb")),
        "{missing:?}"
    );
    let files = ["rdma.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"];
    for file in files {
        tree(&root.path().join("n/a"), &[(file, "max")]);
    }
    group.apply(&limits).expect("limits");
    let written = files.map(|file| content(root.path(), &format!("n/a/{file}")));
    assert_eq!(written, ["mlx5_1 hca_handle=3 hca_object=10000", "4194304", "4194304"]);
}

#[test]
fn a_delegated_group_has_the_files_of_the_kernels_list_and_no_limit_files_of_the_user() {
    use std::os::unix::fs::MetadataExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: giving files away needs root");
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let group = v2_group(root.path());
    group.delegate(54_321).expect("delegated");
    let owner = |name: &str| std::fs::metadata(root.path().join(name)).expect("a file").uid();
    assert_eq!(owner("n/a"), 54_321);
    assert_eq!(owner("n/a/cgroup.procs"), 54_321);
    assert_eq!((owner("n/a/memory.max"), owner("n/a/cpu.max"), owner("n")), (0, 0, 0));
}
