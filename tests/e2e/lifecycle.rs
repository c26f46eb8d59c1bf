//! A container's life as the docker CLI leads it.

use std::time::Duration;
use wharf_testkit::Sandbox;

const TRAP: &str = "trap 'exit 4' TERM; while :; do sleep 0.05; done";

fn status(sandbox: &Sandbox, name: &str) -> String {
    sandbox
        .docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name])
        .ok()
        .to_owned()
}

#[test]
fn every_state_of_a_life_is_reported() {
    let s = Sandbox::with_busybox();
    s.docker(&["create", "--name", "a1", "busybox", "sh", "-c", TRAP]).ok();
    assert_eq!(status(&s, "a1"), "created 0");
    s.docker(&["start", "a1"]).ok();
    assert_eq!(status(&s, "a1"), "running 0");
    s.docker(&["pause", "a1"]).ok();
    assert_eq!(status(&s, "a1"), "paused 0");
    s.docker(&["unpause", "a1"]).ok();
    s.docker(&["stop", "-t", "10", "a1"]).ok();
    assert_eq!(status(&s, "a1"), "exited 4");
    s.docker(&["restart", "a1"]).ok();
    assert_eq!(status(&s, "a1"), "running 0");
    s.docker(&["kill", "a1"]).ok();
    s.eventually(Duration::from_secs(5), "the kill is seen", || {
        status(&s, "a1") == "exited 137"
    });
    s.docker(&["rm", "a1"]).ok();
    s.docker(&["inspect", "a1"]).fails(1, "No such object");
}

#[test]
fn stop_kills_what_ignores_its_signal() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "deaf",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 1; done",
    ])
    .ok();
    s.docker(&["stop", "-t", "1", "deaf"]).ok();
    assert_eq!(status(&s, "deaf"), "exited 137");
}

#[test]
fn wait_answers_with_the_exit_code() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "-d", "--name", "w1", "busybox", "sh", "-c", "sleep 0.3; exit 9"])
        .ok();
    assert_eq!(s.docker(&["wait", "w1"]).ok(), "9");
}

#[test]
fn a_restart_policy_restarts_until_its_count() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--restart",
        "on-failure:2",
        "--name",
        "r1",
        "busybox",
        "false",
    ])
    .ok();
    let count = || {
        s.docker(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "r1"])
            .ok()
            .to_owned()
    };
    s.eventually(Duration::from_secs(20), "two restarts and an end", || {
        count() == "2 exited"
    });
}

#[test]
fn rename_update_and_labels_are_seen_in_ps() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run", "-d", "--name", "old", "--label", "tier=web", "busybox", "sleep", "60",
    ])
    .ok();
    s.docker(&["rename", "old", "new"]).ok();
    s.docker(&["update", "--memory", "64m", "--memory-swap", "64m", "new"])
        .ok();
    assert_eq!(
        s.docker(&["ps", "--filter", "label=tier=web", "--format", "{{.Names}}"])
            .ok(),
        "new"
    );
    assert_eq!(
        s.docker(&["inspect", "-f", "{{.HostConfig.Memory}}", "new"]).ok(),
        "67108864"
    );
}

#[test]
fn events_tell_a_run_in_order() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "--rm", "--name", "e1", "busybox", "true"]).ok();
    let seen = s.events(&["type=container"]);
    assert_eq!(seen, ["create", "attach", "start", "die", "destroy"]);
}

#[test]
fn health_checks_turn_healthy_and_unhealthy() {
    let s = Sandbox::with_busybox();
    let flags = ["--health-interval", "100ms", "--health-retries", "1"];
    let health = |name: &str| {
        s.docker(&["inspect", "-f", "{{.State.Health.Status}}", name])
            .ok()
            .to_owned()
    };
    s.docker(
        &[
            &["run", "-d", "--name", "good", "--health-cmd", "true"][..],
            &flags,
            &["busybox", "sleep", "60"],
        ]
        .concat(),
    )
    .ok();
    s.docker(
        &[
            &["run", "-d", "--name", "bad", "--health-cmd", "false"][..],
            &flags,
            &["busybox", "sleep", "60"],
        ]
        .concat(),
    )
    .ok();
    s.eventually(Duration::from_secs(10), "healthy", || health("good") == "healthy");
    s.eventually(Duration::from_secs(10), "unhealthy", || health("bad") == "unhealthy");
}

#[test]
fn top_stats_and_diff_describe_a_running_container() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "t1",
        "busybox",
        "sh",
        "-c",
        "echo x > /new; rm /etc/group; exec sleep 60",
    ])
    .ok();
    s.eventually(Duration::from_secs(5), "sleep runs", || {
        s.docker(&["top", "t1"]).ok().contains("sleep 60")
    });
    let diff = s.docker(&["diff", "t1"]);
    assert!(
        diff.ok().lines().any(|l| l == "A /new") && diff.stdout.lines().any(|l| l == "D /etc/group"),
        "{diff}"
    );
    let stats = s.docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "t1"]);
    assert_eq!(stats.ok(), "t1 1");
}

#[test]
fn commit_export_and_cp_carry_files() {
    let s = Sandbox::with_busybox();
    s.docker(&["create", "--name", "c1", "busybox", "cat", "/data/f"]).ok();
    let file = s.path("f");
    std::fs::create_dir_all(s.path("data")).unwrap();
    std::fs::write(&file, "carried\n").unwrap();
    std::fs::write(s.path("data/f"), "carried\n").unwrap();
    s.docker(&["cp", &s.path("data").to_string_lossy(), "c1:/"]).ok();
    assert_eq!(s.docker(&["start", "-a", "c1"]).ok(), "carried");
    s.docker(&["cp", "c1:/data/f", &s.path("back").to_string_lossy()]).ok();
    assert_eq!(std::fs::read_to_string(s.path("back")).unwrap(), "carried\n");
    s.docker(&["commit", "-c", "CMD [\"cat\",\"/data/f\"]", "c1", "kept:1"])
        .ok();
    assert_eq!(s.docker(&["run", "--rm", "kept:1"]).ok(), "carried");
    let tar = s.path("c.tar");
    s.docker(&["export", "-o", &tar.to_string_lossy(), "c1"]).ok();
    let list = std::process::Command::new("tar")
        .arg("-tf")
        .arg(&tar)
        .output()
        .unwrap()
        .stdout;
    assert!(String::from_utf8_lossy(&list).lines().any(|l| l == "data/f"));
}

#[test]
fn prune_removes_only_what_is_stopped() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "-d", "--name", "live", "busybox", "sleep", "60"])
        .ok();
    s.docker(&["run", "--name", "dead", "busybox", "true"]).ok();
    s.docker(&["container", "prune", "-f"]).ok();
    assert_eq!(s.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "live");
}

#[test]
fn a_container_that_removes_itself_can_be_restarted_and_keeps_its_files() {
    let mut s = Sandbox::with_busybox();
    let script = "cat /kept 2>/dev/null; echo again >> /kept; trap 'exit 0' TERM; sleep 600 & wait";
    s.docker(&["run", "-d", "--rm", "--name", "kept", "busybox", "sh", "-c", script])
        .ok();
    let lines = |s: &Sandbox| s.docker(&["logs", "kept"]).ok().lines().count();
    s.docker(&["restart", "kept"]).ok();
    s.eventually(Duration::from_secs(30), "it runs again", || lines(&s) == 1);
    // The mark of the first mount is found by another engine too.
    s.kill();
    s.boot();
    s.docker(&["restart", "kept"]).ok();
    s.eventually(Duration::from_secs(30), "it runs a third time", || lines(&s) == 3);
    s.docker(&["stop", "kept"]).ok();
    s.eventually(Duration::from_secs(30), "it is gone", || {
        s.docker(&["ps", "-aq"]).ok().is_empty()
    });
}
