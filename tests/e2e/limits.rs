//! Limits, each shown by its effect inside a container.

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
