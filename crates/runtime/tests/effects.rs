//! Limits by what they do to processes, and what of it is to be seen, on
//! whichever cgroup version this machine has. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A container that sees its own cgroup.
fn limited(script: &str, resources: Value) -> Bundle {
    let mut bundle = Bundle::new(script);
    bundle
        .add_mount(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] }))
        .set("/linux/resources", resources);
    bundle
}

/// The same file of the controller for both versions, from inside.
fn inside(controller: &str, file: &str) -> String {
    if is_v2() {
        format!("/sys/fs/cgroup/{file}")
    } else {
        format!("/sys/fs/cgroup/{controller}/{file}")
    }
}

#[test]
fn a_fork_beyond_the_process_limit_fails() {
    let script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; echo not reached";
    let outcome = limited(script, json!({ "pids": { "limit": 5 } })).run();
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
    let script = "for n in 1 2 3; do true & done; wait; echo reached";
    let outcome = limited(script, json!({ "pids": { "limit": 5 } })).run();
    assert_eq!(outcome.ok(), "reached");
}

#[test]
fn a_program_beyond_its_quota_is_throttled() {
    // Long enough for any processor to meet the end of a period.
    let script = format!(
        "n=0; while [ $n -lt 20 ]; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; \
         grep -q '^nr_throttled [1-9]' {0} && echo throttled && exit; n=$((n+1)); done; cat {0}",
        inside("cpu", "cpu.stat")
    );
    let resources = json!({ "cpu": { "quota": 5000, "period": 100_000 } });
    assert_eq!(limited(&script, resources).run().ok(), "throttled");
}

#[test]
fn a_program_beyond_its_memory_limit_is_killed_and_its_parent_lives() {
    // It takes the memory alone: whoever else asks for some while its pages come back slowly, be it for the
    // other end of a pipe, has the kernel look for a further victim, and finds the parent.
    let script = "sh -c 'echo 1000 > /proc/self/oom_score_adj; exec tail -c 90000000 /dev/zero' >/dev/null; echo alive";
    let resources = json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 } });
    let script = format!("({script}) 2>/dev/null; {}", oom_count());
    let outcome = limited(&script, resources).run();
    assert_eq!(outcome.ok(), "alive\noom_kill 1");
}

fn oom_count() -> String {
    let file = if is_v2() { "memory.events" } else { "memory.oom_control" };
    format!("grep '^oom_kill ' {}", inside("memory", file))
}

#[test]
fn a_program_runs_on_its_processors_only() {
    let script = "grep Cpus_allowed_list /proc/self/status";
    let outcome = limited(script, json!({ "cpu": { "cpus": "0" } })).run();
    assert_eq!(outcome.ok(), "Cpus_allowed_list:\t0");
}

#[test]
fn huge_pages_beyond_the_limit_are_refused() {
    let pages = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let is_there = pages.is_ok_and(|text| text.trim().parse::<u32>().is_ok_and(|count| count >= 4));
    let has_controller = std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| text.contains("hugetlb"))
        || std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("hugetlb"));
    if !(is_there && has_controller) {
        eprintln!("not run: this machine has no free huge pages, or no controller for them");
        return;
    }
    let script = "fallocate -l 2M /huge/a && echo one; fallocate -l 4M /huge/b 2>/dev/null || echo no more";
    let mut bundle = limited(
        script,
        json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 2 << 20 }] }),
    );
    bundle.add_mount(
        json!({ "destination": "/huge", "type": "hugetlbfs", "source": "huge", "options": ["pagesize=2M"] }),
    );
    assert_eq!(bundle.run().ok(), "one\nno more");
}

#[test]
fn a_throttled_disk_takes_its_time() {
    let Some(disk) = disk_below(&std::env::temp_dir()) else {
        eprintln!("not run: the temporary directory lies on no whole disk");
        return;
    };
    let (major, minor) = disk;
    let device = json!([{ "major": major, "minor": minor, "rate": 1 << 20 }]);
    let script = "dd if=/dev/zero of=/file bs=1M count=4 oflag=direct 2>/dev/null && echo written";
    let begin = Instant::now();
    let outcome = limited(script, json!({ "blockIO": { "throttleWriteBpsDevice": device } })).run();
    let took = begin.elapsed();
    assert_eq!(outcome.ok(), "written");
    assert!(took > Duration::from_secs(2), "4 MiB at 1 MiB/s took {took:?}");
}

/// Major and minor number of the disk that a directory lies on.
fn disk_below(path: &std::path::Path) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let device = std::fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // Partitions and file systems without a disk have no queue.
    node.join("queue").exists().then_some((major, minor))
}

#[test]
fn the_container_sees_its_group_as_the_top_one() {
    let script = "cat /proc/self/cgroup; ls -d /sys/fs/cgroup/memory* | wc -l";
    let outcome = limited(script, json!({})).run().ok();
    if is_v2() {
        assert!(outcome.starts_with("0::/\n"), "{outcome}");
    } else {
        assert!(outcome.lines().any(|line| line.ends_with(":memory:/")), "{outcome}");
    }
    assert!(!outcome.ends_with("\n0"), "{outcome}");
}

#[test]
fn files_of_version_2_are_set_by_name() {
    if !is_v2() {
        eprintln!("not run: needs cgroup v2");
        return;
    }
    let script = "cat /sys/fs/cgroup/memory.high /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.weight";
    let unified = json!({ "memory.high": "33554432", "pids.max": "77", "cpu.weight": "42" });
    let outcome = limited(script, json!({ "unified": unified })).run();
    assert_eq!(outcome.ok(), "33554432\n77\n42");
    for (file, what) in [
        ("memory.nonsense", "memory"),
        ("../pids.max", "not a file of a cgroup"),
        ("cgroup.procs", "cgroup.procs"),
    ] {
        let bundle = limited("true", json!({ "unified": { file: "1" } }));
        let outcome = bundle.run();
        assert_ne!(outcome.code, 0, "{file}");
        assert!(outcome.stderr.contains(what), "{file}: {outcome:?}");
        assert!(!bundle.has_cgroup(), "{file}");
    }
}

#[test]
fn everything_in_the_group_is_killed_at_once() {
    // Without a pid namespace of its own nothing dies with init.
    let mut bundle = limited(
        "(trap '' TERM; sleep 1000) & (setsid sleep 1000) & sleep 1000",
        json!({}),
    );
    let namespaces = bundle.config["linux"]["namespaces"]
        .as_array()
        .expect("namespaces")
        .clone();
    let rest: Vec<Value> = namespaces.into_iter().filter(|each| each["type"] != "pid").collect();
    bundle.set("/linux/namespaces", json!(rest));
    bundle.start().ok();
    let list = |bundle: &Bundle| bundle.cli(&["ps", "--format", "json", &bundle.id]);
    let count = |bundle: &Bundle| {
        serde_json::from_str::<Vec<u32>>(&list(bundle).ok())
            .expect("JSON")
            .len()
    };
    let end = Instant::now() + Duration::from_secs(60);
    while count(&bundle) < 3 {
        assert!(Instant::now() < end, "the processes never came");
        std::thread::sleep(Duration::from_millis(10));
    }
    // A frozen process, too.
    bundle.cli(&["pause", &bundle.id]).ok();
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert!(!bundle.has_cgroup());
}
