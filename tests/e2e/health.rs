//! What is done about an unhealthy container, by the engine that saw it or by the next.

use std::time::Duration;
use wharf_testkit::Sandbox;

const SOON: Duration = Duration::from_secs(30);

fn of(s: &Sandbox, name: &str, format: &str) -> String {
    s.docker(&["inspect", "-f", format, name]).ok().to_owned()
}

/// A container that is healthy as long as its file /well exists.
fn patient(s: &Sandbox, name: &str, more: &[&str]) {
    let check = [
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
        "--stop-timeout",
        "0",
    ];
    let command = ["busybox", "sh", "-c", "touch /well; sleep 600"];
    s.wharf(&[&["run", "-d", "--name", name], &check[..], more, &command].concat())
        .ok();
    s.eventually(SOON, "it is healthy", || {
        of(s, name, "{{.State.Health.Status}}") == "healthy"
    });
}

fn hurt(s: &Sandbox, name: &str) {
    s.docker(&["exec", name, "rm", "-f", "/well"]).ok();
}

#[test]
fn an_unhealthy_container_is_dealt_with_as_asked() {
    let s = Sandbox::with_busybox();
    patient(&s, "none", &[]);
    patient(&s, "killed", &["--health-on-failure", "kill"]);
    patient(
        &s,
        "killed-and-back",
        &["--health-on-failure=kill", "--restart=on-failure"],
    );
    patient(&s, "stopped", &["--health-on-failure", "stop", "--restart", "always"]);
    patient(&s, "annotated", &["--annotation", "wharf.health-on-failure=restart"]);
    patient(&s, "frozen", &["--health-on-failure", "none"]);
    s.wharf(&["update", "--health-on-failure", "freeze", "frozen"]).ok();
    assert_eq!(of(&s, "killed", "{{.HostConfig.RestartPolicy.Name}}"), "no");
    let host = s.api("GET", "/containers/frozen/json", "").1["HostConfig"].clone();
    assert_eq!(host["Annotations"]["wharf.health-on-failure"], "freeze");
    for name in ["none", "killed", "killed-and-back", "stopped", "annotated", "frozen"] {
        hurt(&s, name);
    }
    let status = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}";
    for (name, expected) in [
        ("killed", "exited 137 0"),
        ("killed-and-back", "running 0 1"),
        ("stopped", "exited 137 0"),
        ("annotated", "running 0 1"),
        ("frozen", "paused 0 0"),
    ] {
        s.eventually(SOON, name, || of(&s, name, status) == expected);
    }
    assert_eq!(
        of(&s, "none", "{{.State.Status}} {{.State.Health.Status}}"),
        "running unhealthy"
    );
    s.wharf(&["run", "--health-on-failure", "pray", "busybox"])
        .fails(125, "invalid value \"pray\"");
}

#[test]
fn what_is_to_be_done_survives_the_engine() {
    let mut s = Sandbox::with_busybox();
    patient(&s, "one", &["--health-on-failure", "freeze"]);
    s.kill();
    s.boot();
    hurt(&s, "one");
    s.eventually(SOON, "it is frozen", || of(&s, "one", "{{.State.Status}}") == "paused");
    s.kill();
    s.boot();
    assert_eq!(
        of(&s, "one", "{{.State.Status}} {{.State.Health.Status}}"),
        "paused unhealthy"
    );
    // It is not cured by being let go: the next failing check freezes it again.
    s.docker(&["unpause", "one"]).ok();
    s.eventually(SOON, "it is frozen again", || {
        of(&s, "one", "{{.State.Status}}") == "paused"
    });
    let events = s.events(&["container=one"]);
    let pauses = events
        .iter()
        .filter(|e| e.contains("pause") && !e.contains("unpause"))
        .count();
    assert!(pauses >= 2, "{events:?}");
}

#[test]
fn a_probe_that_hangs_is_killed_and_counts_as_failed() {
    let s = Sandbox::with_busybox();
    let check = [
        "--health-cmd",
        "echo before; sleep 700",
        "--health-timeout",
        "200ms",
        "--health-interval",
        "100ms",
    ];
    s.docker(
        &[
            &["run", "-d", "--name", "one", "--health-retries=1"],
            &check[..],
            &["busybox", "sleep", "600"],
        ]
        .concat(),
    )
    .ok();
    s.eventually(SOON, "it is unhealthy", || {
        of(&s, "one", "{{.State.Health.Status}}") == "unhealthy"
    });
    let probe = of(
        &s,
        "one",
        "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}",
    );
    assert!(
        probe.starts_with("-1 Health check exceeded timeout (200ms): before"),
        "{probe}"
    );
    s.docker(&["pause", "one"]).ok();
    let processes = s.docker(&["top", "one"]);
    assert!(processes.ok().matches("sleep 700").count() <= 1, "{processes}");
}
