//! Limits, each shown by its effect inside a container.

use std::time::Duration;

use wharf_testkit::Sandbox;

#[test]
fn a_container_past_its_memory_is_killed_and_says_so() {
    let s = Sandbox::with_busybox();
    let hog = "x=a; while :; do x=$x$x; done";
    let out = s.docker(&[
        "run",
        "--name",
        "hog",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        hog,
    ]);
    assert_eq!(out.code, 137, "{out}");
    assert_eq!(
        s.docker(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hog"])
            .ok(),
        "true 137"
    );
    assert_eq!(s.events(&["event=oom"]), ["oom"]);
}

#[test]
fn no_more_processes_than_allowed() {
    let s = Sandbox::with_busybox();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; wait";
    let out = s.docker(&["run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script]);
    assert!(out.stderr.contains("can't fork"), "{out}");
}

#[test]
fn a_share_of_a_cpu_is_not_exceeded() {
    let s = Sandbox::with_busybox();
    // On a busy machine it may take a while until the container gets what it is then refused.
    let script = "
        throttled() { cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null | sed -n 's/^nr_throttled //p'; }
        end=$(($(date +%s)+60))
        while [ $(date +%s) -lt $end ] && [ $(throttled) -le 3 ]; do :; done
        throttled";
    let out = s.docker(&["run", "--rm", "--cpus", "0.05", "busybox", "sh", "-c", script]);
    let throttled = out.ok().parse::<u64>();
    assert!(throttled.is_ok_and(|n| n > 3), "{out}");
}

#[test]
fn a_limit_changes_while_the_container_runs() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "u1",
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
        "busybox",
        "sleep",
        "60",
    ])
    .ok();
    let seen = || {
        s.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "u1"])
            .ok()
            .to_owned()
    };
    assert!(seen().ends_with("/ 64MiB"), "{}", seen());
    s.docker(&["update", "--memory", "96m", "--memory-swap", "96m", "u1"])
        .ok();
    assert!(seen().ends_with("/ 96MiB"), "{}", seen());
}

/// Programs of the host's that ask the C library and the kernel's files how large the machine is.
const SIZED: &[&str] = &[
    "-v",
    "/usr/bin/getconf:/getconf:ro",
    "-v",
    "/lib:/lib:ro",
    "-v",
    "/lib64:/lib64:ro",
];

#[test]
fn with_the_view_of_limits_programs_see_what_they_may_use() {
    let s = Sandbox::with_busybox();
    let script = "
        /getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat
        sed -n 's/^MemTotal: *//p' /proc/meminfo
        wc -l < /proc/swaps; [ $(cut -d. -f1 /proc/uptime) -lt 300 ] && echo young; cut -d' ' -f1 /proc/loadavg
        cat /sys/devices/system/cpu/online";
    let limited = |extra: &[&str]| {
        let mut args = vec![
            "run",
            "--rm",
            "--network",
            "none",
            "--cpus",
            "0.5",
            "--memory",
            "64m",
            "--memory-swap",
            "64m",
        ];
        args.extend(SIZED.iter().chain(extra));
        args.extend(["busybox", "sh", "-c", script]);
        s.wharf(&args).ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let seen = limited(&["--host-view", "limits"]);
    assert_eq!(seen, ["1", "1", "1", "65536 kB", "1", "young", "0.00", "0"]);
    // docker's own clients can ask for it too.
    assert_eq!(limited(&["--annotation", "wharf.host-view=limits"])[..5], seen[..5]);
    let host = limited(&["--host-view", "host"]);
    let processors = std::thread::available_parallelism().expect("processors").get();
    assert_eq!(
        host[1].parse(),
        Ok(processors),
        "the host's view is the kernel's: {host:?}"
    );
    let refused = s.wharf(&["create", "--host-view", "guest", "busybox"]);
    assert!(refused.stderr.contains("one of host, limits"), "{refused}");
}

#[test]
fn the_view_of_limits_follows_an_update_and_outlives_the_engine() {
    let mut s = Sandbox::with_busybox();
    let base = [
        "run",
        "-d",
        "--name",
        "view",
        "--host-view",
        "limits",
        "--memory",
        "64m",
        "--memory-swap",
        "64m",
    ];
    s.wharf(&[&base[..], &["busybox", "sleep", "600"]].concat()).ok();
    let total = |s: &Sandbox| {
        let out = s.wharf(&["exec", "view", "sed", "-n", "s/^MemTotal: *//p", "/proc/meminfo"]);
        out.ok().to_owned()
    };
    assert_eq!(total(&s), "65536 kB");
    s.wharf(&["update", "--memory", "96m", "--memory-swap", "96m", "view"])
        .ok();
    assert_eq!(total(&s), "98304 kB");
    s.kill();
    s.boot();
    assert_eq!(total(&s), "98304 kB");
    // Readers at once, and one that goes away in the middle.
    let readers = "for i in 1 2 3 4 5 6 7 8; do (while [ $((n+=1)) -lt 50 ]; do cat /proc/stat /proc/meminfo; done \
                   > /dev/null) & done; wait; head -c 10 /proc/stat";
    assert!(s.wharf(&["exec", "view", "sh", "-c", readers]).ok().starts_with("cpu "));
}

/// A loop device over a file of a sandbox; detached on drop.
struct Loop(String);

impl Loop {
    fn new(s: &Sandbox, megabytes: u64) -> Self {
        let file = s.path("disk");
        std::fs::File::create(&file).unwrap().set_len(megabytes << 20).unwrap();
        let mut command = std::process::Command::new("losetup");
        command.args(["--find", "--show", "--direct-io=off"]).arg(&file);
        let out = wharf_testkit::run(&mut command, b"", Duration::from_secs(20)).unwrap();
        Self(out.ok().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup")
            .args(["--detach", &self.0])
            .status();
    }
}

#[test]
fn block_devices_are_read_and_written_no_faster_than_allowed() {
    let s = Sandbox::with_busybox();
    let disk = Loop::new(&s, 16);
    // Two megabytes in one case, twenty operations in the other: two seconds each at what is allowed.
    let whole = "bs=64k count=32";
    let pieces = "bs=4k count=20";
    let (from, to) = (
        "if=/dev/disk of=/dev/null iflag=direct",
        "if=/dev/zero of=/dev/disk oflag=direct",
    );
    let cases = [
        ("--device-read-bps", "1mb", from, whole),
        ("--device-write-bps", "1mb", to, whole),
        ("--device-read-iops", "10", from, pieces),
        ("--device-write-iops", "10", to, pieces),
    ];
    let given = format!("{}:/dev/disk", disk.0);
    for (flag, limit, what, size) in cases {
        let limit = format!("{}:{limit}", disk.0);
        let script = format!(
            "s=$(cut -d' ' -f1 /proc/uptime); dd {what} {size} 2>/dev/null || exit 9; echo $s $(cut -d' ' -f1 /proc/uptime)"
        );
        let out = s.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            flag,
            &limit,
            "--device",
            &given,
            "busybox",
            "sh",
            "-c",
            &script,
        ]);
        let times: Vec<f64> = out.ok().split(' ').map(|t| t.parse().unwrap()).collect();
        assert!(times[1] - times[0] > 1.0, "{flag}: {times:?}");
    }
}

#[test]
fn a_weight_of_block_io_is_what_its_scheduler_goes_by() {
    let s = Sandbox::with_busybox();
    let disk = Loop::new(&s, 4);
    let queue = format!("/sys/block/{}/queue/scheduler", disk.0.trim_start_matches("/dev/"));
    if std::fs::write(&queue, "bfq").is_err() {
        println!("NOT CHECKED: this kernel has no BFQ scheduler");
        return;
    }
    let weight = format!("{}:300", disk.0);
    let flags = [
        "run",
        "-d",
        "--name",
        "weighed",
        "--blkio-weight",
        "700",
        "--blkio-weight-device",
        &weight,
    ];
    s.docker(&[&flags[..], &["busybox", "sleep", "600"]].concat()).ok();
    // The scheduler's own view of the group.
    let read = "cat /sys/fs/cgroup/blkio/blkio.bfq.weight_device /sys/fs/cgroup/io.bfq.weight 2>/dev/null";
    let seen = s.docker(&["exec", "weighed", "sh", "-c", read]);
    assert!(seen.stdout.contains("700") && seen.stdout.contains("300"), "{seen}");
}

#[test]
fn shares_of_one_processor_are_in_proportion() {
    let s = Sandbox::with_busybox();
    let start = |name: &str, shares: &str| {
        let flags = [
            "run",
            "-d",
            "--name",
            name,
            "--cpuset-cpus",
            "0",
            "--cpu-shares",
            shares,
        ];
        s.docker(&[&flags[..], &["busybox", "sh", "-c", "while :; do :; done"]].concat())
            .ok();
    };
    start("small", "128");
    start("large", "2048");
    let used = |name: &str| -> u64 {
        let (_, stats) = s.api(
            "GET",
            &format!("/containers/{name}/stats?stream=false&one-shot=true"),
            "",
        );
        stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap()
    };
    let (small, large) = (used("small"), used("large"));
    // As long as it takes for both to have run: other tests want the processor too.
    s.eventually(Duration::from_secs(60), "the large one runs a second", || {
        used("large") > large + 1_000_000_000
    });
    let (small, large) = (used("small") - small, used("large") - large);
    assert!(large > 4 * small, "16 to 1 was asked for: {large} to {small}");
}

#[test]
fn processors_and_memory_nodes_are_those_allowed() {
    let s = Sandbox::with_busybox();
    let read = "grep -h allowed_list /proc/self/status | tr -s '\\t\\n' '  '; nproc";
    let out = s.docker(&[
        "run",
        "--rm",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "busybox",
        "sh",
        "-c",
        read,
    ]);
    assert_eq!(out.ok(), "Cpus_allowed_list: 0 Mems_allowed_list: 0 1");
}

#[test]
fn a_quota_of_a_period_is_not_exceeded() {
    let s = Sandbox::with_busybox();
    let script = "
        end=$(($(date +%s)+60))
        throttled() { cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null | sed -n 's/^nr_throttled //p'; }
        while [ $(date +%s) -lt $end ] && [ $(throttled) -le 3 ]; do :; done; throttled";
    let flags = ["run", "--rm", "--cpu-period", "50000", "--cpu-quota", "2500"];
    let out = s.docker(&[&flags[..], &["busybox", "sh", "-c", script]].concat());
    assert!(out.ok().parse::<u64>().is_ok_and(|n| n > 3), "{out}");
}

#[test]
fn without_the_killer_a_container_waits_at_its_limit_until_it_gets_more() {
    let s = Sandbox::with_busybox();
    if !std::path::Path::new("/sys/fs/cgroup/memory/memory.oom_control").exists() {
        println!("NOT CHECKED: only version 1 can switch the killer off");
        return;
    }
    // A string of 16 MB, which is held twice while it is made. Not through a pipe: a system call that finds no memory
    // is cut short.
    let script = "x=a; i=0; while [ $i -lt 24 ]; do x=$x$x; i=$((i+1)); done; echo ${#x}";
    let flags = [
        "run",
        "-d",
        "--name",
        "waits",
        "--oom-kill-disable",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
    ];
    s.docker(&[&flags[..], &["busybox", "sh", "-c", script]].concat()).ok();
    let group = format!(
        "/sys/fs/cgroup/memory/{}/{}",
        s.instance(),
        s.docker(&["inspect", "-f", "{{.Id}}", "waits"]).ok()
    );
    let waits =
        || std::fs::read_to_string(format!("{group}/memory.oom_control")).is_ok_and(|t| t.contains("under_oom 1"));
    s.eventually(Duration::from_secs(60), "it waits at the limit", waits);
    assert_eq!(s.docker(&["inspect", "-f", "{{.State.Running}}", "waits"]).ok(), "true");
    s.docker(&["update", "--memory", "256m", "--memory-swap", "256m", "waits"])
        .ok();
    assert_eq!(s.docker(&["wait", "waits"]).ok(), "0");
    assert_eq!(s.docker(&["logs", "waits"]).ok(), "16777216");
}

#[test]
fn a_score_makes_a_process_the_first_to_go() {
    let s = Sandbox::with_busybox();
    let score = |adjustment: &str| -> i64 {
        let flags = ["run", "--rm", "--network", "none", "--oom-score-adj", adjustment];
        let out = s.docker(&[&flags[..], &["busybox", "cat", "/proc/self/oom_score"]].concat());
        out.ok().parse().unwrap()
    };
    assert!(score("900") > score("0") + 300);
}

#[test]
fn real_time_is_had_by_the_one_that_asks_and_no_longer_than_allowed() {
    let s = Sandbox::with_busybox();
    let run = |extra: &[&str]| {
        let program = "
            read b _ < /proc/uptime; b=${b%.*}
            while read u _ < /proc/uptime && [ ${u%.*} -lt $((b+3)) ]; do :; done
            set -- $(cat /proc/$$/stat); echo $((${14}+${15}))";
        let chrt = [
            "-v",
            "/usr/bin/chrt:/chrt:ro",
            "-v",
            "/lib:/lib:ro",
            "-v",
            "/lib64:/lib64:ro",
        ];
        let flags = ["run", "--rm", "--network", "none", "--cap-add", "sys_nice"];
        let command = ["busybox", "/chrt", "-f", "1", "sh", "-c", program];
        s.docker(&[&flags[..], &chrt, extra, &command].concat())
    };
    let asks = ["--cpu-rt-runtime", "100000", "--cpu-rt-period", "1000000"];
    let asked = run(&asks);
    if !std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        assert!(asked.stderr.contains("not support CPU real-time"), "{asked}");
        println!("NOT CHECKED: this kernel counts no real-time processor time by group");
        return;
    }
    if asked.code != 0 && asked.stderr.contains("not as much real-time processor time left") {
        println!("NOT CHECKED: the groups around this machine have no real-time processor time to give");
        return;
    }
    // Hundredths of a second, of three seconds.
    let used: u64 = asked.ok().parse().unwrap();
    assert!(used < 150, "a tenth was allowed: {asked}");
    assert!(
        run(&[]).stderr.contains("not permitted"),
        "a group that asks for none has none"
    );
    // More of it for one that runs, beside one that has some: the group around them gets what both need.
    let sleeps = &|name: &str| {
        let flags = [&["run", "-d", "--name", name][..], &asks, &["busybox", "sleep", "600"]].concat();
        s.docker(&flags).ok();
    };
    std::thread::scope(|all| {
        // At the same moment, as after a boot.
        for name in ["first", "second", "third"] {
            all.spawn(move || sleeps(name));
        }
    });
    s.docker(&["update", "--cpu-rt-runtime", "200000", "second"]).ok();
    let refused = s.docker(&["update", "--cpu-rt-runtime", "990000", "second"]);
    assert!(
        refused.stderr.contains("not as much real-time processor time left"),
        "{refused}"
    );
}

#[test]
fn devices_are_opened_only_as_allowed() {
    let s = Sandbox::with_busybox();
    let disk = Loop::new(&s, 1);
    let given = format!("{}:/dev/disk:r", disk.0);
    let script = "head -c1 /dev/disk >/dev/null && echo read; echo x 2>/dev/null >/dev/disk || echo refused";
    let out = s.docker(&["run", "--rm", "--device", &given, "busybox", "sh", "-c", script]);
    assert_eq!(out.ok(), "read\nrefused");
    let script = "mknod /tmp/node c 10 229 && true < /tmp/node && echo opened || echo refused";
    let open = |rule: &[&str]| {
        let out = s.docker(&[&["run", "--rm"], rule, &["busybox", "sh", "-c", script]].concat());
        out.ok().to_owned()
    };
    assert_eq!(open(&[]), "refused");
    assert_eq!(open(&["--device-cgroup-rule", "c 10:229 rwm"]), "opened");
}

#[test]
fn files_and_shared_memory_are_no_larger_than_allowed() {
    let s = Sandbox::with_busybox();
    let script = "head -c 9000 /dev/zero > /tmp/file; wc -c < /tmp/file; head -c 2000000 /dev/zero 2>/dev/null > /dev/shm/file; \
                  wc -c < /dev/shm/file";
    let out = s.docker(&[
        "run",
        "--rm",
        "--ulimit",
        "fsize=4096:4096",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out.ok().lines().next(), Some("4096"), "{out}");
    let out = s.docker(&["run", "--rm", "--shm-size", "1m", "busybox", "sh", "-c", script]);
    assert_eq!(
        out.ok().split_whitespace().collect::<Vec<_>>(),
        ["9000", "1048576"],
        "{out}"
    );
}

#[test]
fn containers_without_limits_leave_the_reserve_to_the_host() {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = memory
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    // All but 200 MB, so that the test needs no more.
    let config = std::env::temp_dir().join(format!("wharf-e2e-reserve-{}.toml", std::process::id()));
    let text = format!(
        "reserve-memory-bytes = {}\nreserve-pids = 0\n",
        (total << 10) - (200 << 20)
    );
    std::fs::write(&config, text).unwrap();
    let s = Sandbox::start_with(&["--config", config.to_str().unwrap()]);
    std::fs::remove_file(&config).unwrap();
    s.import_busybox();
    s.docker(&["run", "-d", "--name", "quiet", "busybox", "sleep", "600"])
        .ok();
    let out = s.docker(&[
        "run",
        "--name",
        "hog",
        "busybox",
        "sh",
        "-c",
        "x=a; while :; do x=$x$x; done",
    ]);
    assert_eq!(out.code, 137, "{out}");
    assert_eq!(s.docker(&["inspect", "-f", "{{.State.OOMKilled}}", "hog"]).ok(), "true");
    assert_eq!(s.docker(&["inspect", "-f", "{{.State.Running}}", "quiet"]).ok(), "true");
}
