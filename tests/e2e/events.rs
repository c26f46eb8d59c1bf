//! The history of events, and the stories told from records.

use std::time::Duration;
use wharf_testkit::Sandbox;

const SOON: Duration = Duration::from_secs(20);

fn actions(s: &Sandbox, filters: &[&str]) -> Vec<String> {
    s.events(filters)
}

#[test]
fn the_history_survives_the_engine() {
    let mut s = Sandbox::with_busybox();
    s.docker(&["run", "--name", "first", "busybox", "true"]).ok();
    // More than is kept in memory, from many at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..30 {
                    s.docker(&["run", "--rm", "--network", "none", "busybox", "true"]).ok();
                }
            });
        }
    });
    s.docker(&["rename", "first", "last"]).ok();
    let before = actions(&s, &[]);
    s.eventually(SOON, "the last event is on disk", || {
        std::fs::read_to_string(s.root().join("events/current")).is_ok_and(|text| text.contains("oldName"))
    });
    s.kill();
    s.boot();
    let after = actions(&s, &[]);
    assert!(before.len() > 600, "{}", before.len());
    assert_eq!(before, after, "nothing is lost, nothing comes twice, the order stays");
    s.docker(&["rm", "last"]).ok();
    let own = actions(&s, &["container=last"]);
    assert!(own.last().unwrap().contains("destroy"), "{own:?}");
}

#[test]
fn a_story_survives_the_engine() {
    let mut s = Sandbox::with_busybox();
    let command = ["busybox", "sh", "-c", "sleep 0.2; exit 3"];
    s.docker(
        &[
            &["run", "-d", "--name", "fails", "--restart", "on-failure:1"],
            &command[..],
        ]
        .concat(),
    )
    .ok();
    s.docker(&["run", "--name", "absent", "busybox", "no-such-program"]);
    s.docker(&["run", "-d", "--name", "shot", "busybox", "sleep", "600"])
        .ok();
    let pid: u32 = s
        .docker(&["inspect", "-f", "{{.State.Pid}}", "shot"])
        .ok()
        .parse()
        .unwrap();
    s.docker(&["run", "-d", "--name", "shouted", "busybox", "sleep", "600"])
        .ok();
    s.docker(&["kill", "shouted"]).ok();
    s.eventually(SOON, "restarts are used up", || {
        s.wharf(&["why", "fails"]).stdout.contains("used up")
    });
    s.kill();
    wharf_testkit::process::kill(pid);
    s.boot();
    let why = |name: &str| s.wharf(&["why", name]).ok().to_owned();
    s.eventually(SOON, "the end is known", || why("shot").contains("ended by SIGKILL"));
    for (name, expected) in [
        (
            "fails",
            "created from busybox to run `sh -c sleep 0.2; exit 3`, restart policy on-failure:1",
        ),
        (
            "fails",
            "will be started again after 100 ms because of its restart policy (restart 1 in a row)",
        ),
        ("fails", "exit code 3"),
        ("absent", "no-such-program is not in the image"),
        (
            "shot",
            "not this engine: a process in the container or on the host sent it",
        ),
        ("shot", "the engine started again after it had been killed"),
        ("shouted", "a user's kill sent it"),
    ] {
        assert!(why(name).contains(expected), "{name}: {}", why(name));
    }
    let (status, document) = s.api("GET", "/containers/fails/why", "");
    assert_eq!((status, &document["Status"]), (200, &"exited".into()));
    let json = s.wharf(&["why", "--format", "json", "fails"]);
    assert!(json.ok().starts_with('{'), "{json}");
    s.docker(&["rm", "fails"]).ok();
    assert!(
        why("fails").contains("no such container any more: it ended with exit code 3"),
        "{}",
        why("fails")
    );
    s.wharf(&["why", "never-was"]).fails(1, "No such container: never-was");
}
