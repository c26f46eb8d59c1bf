//! Stories told from notes.
use super::*;

fn note(what: Happening) -> Note {
    Note {
        at: Timestamp::from_nanos(1),
        what,
    }
}

#[test]
fn who_sent_the_signal_is_told_for_the_run_that_it_ended() {
    let started = || {
        note(Happening::Started {
            by: Cause::UserStart,
            pid: 7,
        })
    };
    let kill = |by| note(Happening::Signalled { by, signal: 9 });
    let check = |notes: Vec<Note>, signal: i32, expected: &str| {
        assert!(
            sender(signal, &notes).contains(expected),
            "{:?}",
            sender(signal, &notes)
        );
    };
    check(vec![started(), kill(Cause::UserKill)], 9, "a user's kill");
    check(vec![started(), kill(Cause::StopTimeout)], 9, "time that stop gave");
    check(vec![kill(Cause::UserKill), started()], 9, "not this engine");
    check(
        vec![started(), note(Happening::OutOfMemory(OomReport::default()))],
        9,
        "want of memory",
    );
    check(
        vec![started(), note(Happening::KeeperLost { killed: true })],
        9,
        "nothing kept",
    );
    check(vec![started()], 11, "must not");
}

#[test]
fn the_engine_s_deaths_are_part_of_the_story() {
    let at = Timestamp::from_nanos;
    let run = |started, ended: Option<i64>, rebooted| EngineRun {
        started: at(started),
        ended: ended.map(at),
        rebooted,
    };
    let runs = [run(1, None, false), run(20, Some(30), false), run(40, None, true)];
    let texts: Vec<String> = engine_lines(&runs, at(10)).into_iter().map(|l| l.text).collect();
    assert_eq!(texts.len(), 3);
    assert!(
        texts[0].contains("killed") && texts[1].contains("stopped") && texts[2].contains("booted"),
        "{texts:?}"
    );
}

#[test]
fn a_container_that_is_gone_is_told_from_events() {
    let event = |action: &str, attributes: &[(&str, &str)]| {
        std::sync::Arc::new(Event {
            seq: 1,
            kind: EventKind::Container,
            action: action.into(),
            actor: "a".repeat(64),
            attributes: attributes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            time: Timestamp::from_nanos(5),
        })
    };
    let events = [
        event("start", &[("name", "x")]),
        event("die", &[("name", "x"), ("exitCode", "3")]),
    ];
    let why = tell_gone("x", &events).expect("known");
    assert!(why.summary.contains("exit code 3"), "{}", why.summary);
    assert_eq!(why.story[1].text, "die exitCode=3");
    assert!(tell_gone("aaaaaaaaaaaa", &events).is_some());
    assert!(tell_gone("y", &events).is_none());
}

#[test]
fn spans_read_well() {
    assert_eq!(span(20), "20 ms");
    assert_eq!(span(3_250), "3.2 s");
    assert_eq!(span(63_000), "1 min 3 s");
    assert_eq!(span(7_320_000), "2 h 2 min");
}
