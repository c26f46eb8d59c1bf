//! Groups of the running kernel: needs root and a writable cgroup mount.
#![allow(missing_docs)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wharf_cgroup::{Cgroup, Cpu, Cpuset, DeviceAccess, DeviceKind, DeviceRule, Hierarchy, Memory, Resources, Version};

/// A group of this test's own below one parent, removed with its processes on drop.
struct Sandbox {
    hierarchy: Hierarchy,
    path: String,
}

impl Sandbox {
    fn new(hierarchy: Hierarchy, name: &str) -> Self {
        Self {
            hierarchy,
            path: format!("/wharf-cgroup-test-{}-{name}", std::process::id()),
        }
    }

    fn group(&self) -> Cgroup {
        Cgroup::create(&self.hierarchy, &format!("{}/one", self.path)).expect("a group")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        Cgroup::delete_tree(&self.hierarchy, &self.path, Duration::from_secs(5)).expect("removed");
    }
}

fn host() -> Hierarchy {
    Hierarchy::probe().expect("a hierarchy")
}

/// The v2 mount of this host, which may carry no controllers; none on a pure v1 host.
fn unified() -> Option<Hierarchy> {
    host().unified().map(|root| Hierarchy::v2_at(PathBuf::from(root)))
}

/// A shell that waits for a line before it runs the script, so that it can be moved first.
fn shell(script: &str) -> Child {
    let script = format!("read go; {script}");
    Command::new("/bin/sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell")
}

fn go(child: &mut Child) {
    child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("written");
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn limits_are_read_back_from_the_kernel() {
    let sandbox = Sandbox::new(host(), "limits");
    let group = sandbox.group();
    let resources = Resources {
        cpu: Cpu {
            quota_us: Some(50_000),
            period_us: Some(100_000),
            ..Cpu::default()
        },
        cpuset: Cpuset {
            cpus: Some("0".into()),
            mems: None,
        },
        memory: Memory {
            limit: Some(64 << 20),
            swap: Some(64 << 20),
            ..Memory::default()
        },
        pids_limit: Some(20),
        ..Resources::default()
    };
    group.apply(&resources).expect("limits");
    let stats = group.stats().expect("stats");
    assert_eq!((stats.memory.limit, stats.pids.limit), (64 << 20, Some(20)));

    // Raising and lowering both, in either direction, is valid at every step.
    for bytes in [256 << 20, 32 << 20] {
        let memory = Memory {
            limit: Some(bytes),
            swap: Some(bytes),
            ..Memory::default()
        };
        group
            .update(&Resources {
                memory,
                ..Resources::default()
            })
            .expect("an update");
        assert_eq!(
            group.stats().expect("stats").memory.limit,
            u64::try_from(bytes).expect("positive")
        );
    }
    let memory = Memory {
        limit: Some(-1),
        ..Memory::default()
    };
    group
        .update(&Resources {
            memory,
            ..Resources::default()
        })
        .expect("no limit");
    assert_eq!(group.stats().expect("stats").memory.limit, u64::MAX);
}

#[test]
fn processes_are_moved_counted_frozen_and_killed() {
    for hierarchy in std::iter::once(host()).chain(unified()) {
        let sandbox = Sandbox::new(hierarchy, "life");
        let group = sandbox.group();
        let mut child = shell("sleep 100 & wait");
        group.add(child.id()).expect("moved");
        go(&mut child);
        eventually("the shell has a child", || group.pids().expect("pids").len() == 2);
        assert!(group.pids().expect("pids").contains(&child.id()));

        group.freeze().expect("frozen");
        assert!(group.is_frozen().expect("a state"));
        group.thaw().expect("thawed");
        assert!(!group.is_frozen().expect("a state"));

        group.freeze().expect("frozen");
        group.kill().expect("killed, though frozen");
        child.wait().expect("ended");
        group
            .delete(Duration::from_secs(5))
            .expect("deleted while the last process is dying");
    }
}

/// Run by the next test in a process of its own, which the group takes in.
#[test]
fn process_that_enters_a_group() {
    let Ok(path) = std::env::var("WHARF_TEST_GROUP") else {
        return;
    };
    // The harness has more than one thread; this one is what is moved, and what is looked at.
    Cgroup::open(&host(), &path)
        .expect("the group")
        .enter()
        .expect("entered");
    let text = std::fs::read_to_string("/proc/thread-self/cgroup").expect("a list");
    std::process::exit(if text.contains(&path) { 77 } else { 1 });
}

#[test]
fn a_process_enters_a_group_by_itself() {
    let sandbox = Sandbox::new(host(), "enter");
    let group = sandbox.group();
    let status = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "process_that_enters_a_group", "--nocapture"])
        .env("WHARF_TEST_GROUP", group.path())
        .stdout(Stdio::null())
        .status()
        .expect("ended");
    assert_eq!(status.code(), Some(77));
}

#[test]
fn a_limit_added_later_takes_the_running_processes_along() {
    let sandbox = Sandbox::new(host(), "later");
    let group = sandbox.group();
    let mut child = shell("sleep 100");
    group.add(child.id()).expect("moved");
    let cpuset = Cpuset {
        cpus: Some("0".into()),
        mems: None,
    };
    group
        .update(&Resources {
            cpuset,
            ..Resources::default()
        })
        .expect("an update");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("a status");
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    group.kill().expect("killed");
    child.wait().expect("ended");
}

#[test]
fn a_process_over_its_memory_limit_is_counted_as_killed() {
    let sandbox = Sandbox::new(host(), "oom");
    let group = sandbox.group();
    let memory = Memory {
        limit: Some(16 << 20),
        swap: Some(16 << 20),
        ..Memory::default()
    };
    group
        .apply(&Resources {
            memory,
            ..Resources::default()
        })
        .expect("limits");
    let watch = group.watch_oom().expect("a watch");
    let mut child = shell("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived");
    group.add(child.id()).expect("moved");
    assert_eq!(group.oom_kills().expect("a count"), 0);
    go(&mut child);
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).expect("polled");
    assert_eq!(ready, 1, "no notice within ten seconds");
    watch.drain();
    child.wait().expect("ended");
    assert!(group.oom_kills().expect("a count") >= 1);
}

#[test]
fn device_rules_are_enforced_by_the_kernel() {
    let rule = |allow, kind, numbers: Option<(u32, u32)>| DeviceRule {
        allow,
        kind,
        major: numbers.map(|(major, _)| major),
        minor: numbers.map(|(_, minor)| minor),
        access: DeviceAccess::ALL,
    };
    let zero_only = vec![
        rule(false, DeviceKind::All, None),
        rule(true, DeviceKind::Char, Some((1, 5))),
    ];
    let null_too = [&zero_only[..], &[rule(true, DeviceKind::Char, Some((1, 3)))]].concat();
    for hierarchy in std::iter::once(host()).chain(unified()) {
        let version = hierarchy.version();
        let sandbox = Sandbox::new(hierarchy, "devices");
        let group = sandbox.group();
        let open = |group: &Cgroup, path: &str| {
            let mut child = shell(&format!("head -c 1 {path} > {path} && echo -n yes || echo -n no"));
            group.add(child.id()).expect("moved");
            go(&mut child);
            let output = child.wait_with_output().expect("ended");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        group
            .apply(&Resources {
                devices: zero_only.clone(),
                ..Resources::default()
            })
            .expect("rules");
        assert_eq!(
            (open(&group, "/dev/zero"), open(&group, "/dev/null")),
            ("yes".into(), "no".into()),
            "{version:?}"
        );
        group
            .update(&Resources {
                devices: null_too.clone(),
                ..Resources::default()
            })
            .expect("rules");
        assert_eq!(
            (open(&group, "/dev/zero"), open(&group, "/dev/null")),
            ("yes".into(), "yes".into()),
            "{version:?}"
        );
        assert_eq!(open(&group, "/dev/full"), "no", "{version:?}");
    }
}

#[test]
fn a_group_that_holds_the_caller_is_not_killed() {
    let hierarchy = host();
    let own = Cgroup::of_process(&hierarchy, std::process::id());
    // At the root of the hierarchy the group is refused already.
    let refused = own.and_then(|group| group.kill()).expect_err("it is our own");
    assert!(
        matches!(refused, wharf_cgroup::CgroupError::InvalidPath { .. }),
        "{refused}"
    );
}

#[test]
fn deleting_a_tree_takes_frozen_children_along() {
    let hierarchy = host();
    let path = format!("/wharf-cgroup-test-{}-tree", std::process::id());
    let mut children = Vec::new();
    for name in ["a", "a/deep", "b"] {
        let group = Cgroup::create(&hierarchy, &format!("{path}/{name}")).expect("a group");
        group.join_tracking().expect("joined");
        let child = shell("sleep 100");
        group.add(child.id()).expect("moved");
        if name == "b" {
            group.freeze().expect("frozen");
        }
        children.push(child);
    }
    Cgroup::delete_tree(&hierarchy, &path, Duration::from_secs(10)).expect("deleted");
    for mut child in children {
        assert!(!child.wait().expect("ended").success());
    }
    assert!(Cgroup::open(&hierarchy, &path).is_err());
    let named = Path::new("/sys/fs/cgroup/systemd").join(path.trim_start_matches('/'));
    assert!(
        !named.exists(),
        "left in the hierarchy of a supervisor: {}",
        named.display()
    );
}

#[test]
fn the_group_of_a_process_is_found() {
    let sandbox = Sandbox::new(host(), "of");
    let group = sandbox.group();
    let mut child = shell("true");
    group.add(child.id()).expect("moved");
    let found = Cgroup::of_process(&sandbox.hierarchy, child.id()).expect("its group");
    if found.version() == Version::V1 {
        assert!(found.directories().contains_key("memory") || !sandbox.hierarchy.has(wharf_cgroup::Controller::Memory));
    }
    assert_eq!(found.path(), group.path());
    go(&mut child);
    child.wait().expect("ended");
}

#[test]
fn tracking_is_joined_and_left_with_the_group() {
    let hierarchy = host();
    if hierarchy.version() == Version::V2 {
        eprintln!("not run: version 2 has one hierarchy only");
        return;
    }
    let sandbox = Sandbox::new(hierarchy, "tracking");
    let group = sandbox.group();
    let plain = group.entry_files().len();
    group.join_tracking().expect("joined");
    let files = group.entry_files();
    assert!(files.len() > plain, "{files:?}");
    assert!(files.iter().all(|file| file.exists()), "{files:?}");
    let mut child = shell("cat /proc/self/cgroup");
    group.add(child.id()).expect("added");
    go(&mut child);
    let output = child.wait_with_output().expect("output");
    let path = format!("{}/one", sandbox.path);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.lines().any(|line| line.ends_with(&format!("name=systemd:{path}"))),
        "{text}"
    );
    group.delete(Duration::from_secs(5)).expect("removed");
    assert!(!files.iter().any(|file| file.exists()), "{files:?}");
}
