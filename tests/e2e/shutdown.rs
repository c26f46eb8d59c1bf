//! The host goes down: containers are stopped in order, and come back as their policies say.

use std::time::Duration;
use wharf_testkit::Sandbox;

const SOON: Duration = Duration::from_secs(30);

fn state(s: &Sandbox, name: &str) -> String {
    s.docker(&["inspect", "-f", "{{.State.Status}}", name]).ok().to_owned()
}

#[test]
fn dependents_are_stopped_first_and_policies_bring_them_back() {
    let mut s = Sandbox::with_busybox();
    let run = |name: &str, more: &[&str]| {
        s.docker(
            &[
                &["run", "-d", "--stop-timeout", "0", "--name", name],
                more,
                &["busybox", "sleep", "600"],
            ]
            .concat(),
        )
        .ok();
    };
    run("base", &["--restart", "always"]);
    run(
        "joined",
        &["--network", "container:base", "--restart", "unless-stopped"],
    );
    run("linked", &["--link", "base:db"]);
    let compose = |service: &str| format!("com.docker.compose.service={service}");
    let project = "com.docker.compose.project=p";
    run(
        "store",
        &["-l", project, "-l", &compose("store"), "--restart", "unless-stopped"],
    );
    let depends = "com.docker.compose.depends_on=store:service_started:false";
    run("app", &["-l", project, "-l", &compose("app"), "-l", depends]);
    run("resting", &["--restart", "always"]);
    s.docker(&["stop", "resting"]).ok();
    s.wharf(&["system", "stop-all"]).ok();
    // The CLI cuts relative times to whole seconds: say which nanosecond is meant.
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let shown = ["--filter", "event=die", "--format", "{{.Actor.Attributes.name}}"];
    let ends = s.docker(&[&["events", "--since", "0", "--until", &until], &shown[..]].concat());
    let names: Vec<&str> = ends.ok().lines().collect();
    let place = |name: &str| {
        names
            .iter()
            .rposition(|n| *n == name)
            .unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    assert!(
        place("joined") < place("base") && place("linked") < place("base"),
        "{names:?}"
    );
    assert!(place("app") < place("store"), "{names:?}");
    for name in ["base", "joined", "linked", "store", "app"] {
        assert_eq!(state(&s, name), "exited", "{name}");
    }
    assert!(s.wharf(&["why", "base"]).ok().contains("the shutdown of the host"));
    s.terminate();
    s.boot();
    for name in ["base", "store"] {
        s.eventually(SOON, name, || state(&s, name) == "running");
    }
    for name in ["linked", "app", "resting"] {
        assert_eq!(state(&s, name), "exited", "{name}");
    }
}
