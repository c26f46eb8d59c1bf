//! Engines and shims of different versions understand each other: messages of version 1 are recorded (as text) and
//! frozen (as types); today's code must read both, and what it writes must be readable for the frozen types.
#![allow(clippy::unwrap_used)]

#[path = "protocol_v1/messages.rs"]
mod v1;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wharf_shim::plan::{AttachSpec, ConsoleSize, ExecPlan, LaunchPlan, LogPlan, RootfsPlan, RuntimePlan, StdioPlan};
use wharf_shim::protocol::{
    Call, Event, ExecState, ExitRecord, Fault, FaultKind, Outcome, Phase, Reply, Request, Response, State,
};

const REQUESTS: &str = include_str!("protocol_v1/requests.jsonl");
const RESPONSES: &str = include_str!("protocol_v1/responses.jsonl");
const EVENTS: &str = include_str!("protocol_v1/events.jsonl");
const EXITS: &str = include_str!("protocol_v1/exits.jsonl");

/// Every recorded message is read by today's type `T`, and nothing of it is lost.
fn reads_all<T: DeserializeOwned + Serialize>(recorded: &str) -> Vec<T> {
    let lines: Vec<&str> = recorded.lines().filter(|line| !line.is_empty()).collect();
    assert!(!lines.is_empty());
    let read = |line: &&str| {
        let old: Value = serde_json::from_str(line).unwrap();
        let message: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let today = serde_json::to_value(&message).unwrap();
        assert!(contains(&today, &old), "of {old}\nonly {today} is left");
        message
    };
    lines.iter().map(read).collect()
}

/// Whether everything of `old` is in `new` too.
fn contains(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => old
            .iter()
            .all(|(key, old)| new.get(key).map_or(old.is_null(), |new| contains(new, old))),
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| contains(new, old))
        }
        (new, old) => new == old,
    }
}

/// What today's code writes is read by the frozen type `Old`, and what that knows of it survives.
fn understood<Old: DeserializeOwned + Serialize>(message: &impl Serialize) -> Old {
    let today = serde_json::to_string(message).unwrap();
    let old: Old = serde_json::from_str(&today).unwrap_or_else(|error| panic!("{today}: {error}"));
    let known = serde_json::to_value(&old).unwrap();
    assert!(
        contains(&serde_json::from_str(&today).unwrap(), &known),
        "{today}\nis read as {known}"
    );
    old
}

fn names(recorded: &str, key: &str) -> std::collections::BTreeSet<String> {
    let value = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()[key]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    recorded.lines().filter(|line| !line.is_empty()).map(value).collect()
}

#[test]
fn recorded_requests_of_version_1_are_read_whole() {
    reads_all::<Request>(REQUESTS);
    reads_all::<v1::Request>(REQUESTS);
    let calls = [
        "launch",
        "state",
        "start",
        "kill",
        "attach",
        "resize",
        "close_stdin",
        "exec",
        "pause",
        "resume",
        "update",
        "rotate_log",
        "acknowledge_exec",
        "shutdown",
    ];
    assert_eq!(
        names(REQUESTS, "call"),
        calls.map(str::to_owned).into(),
        "every call is recorded"
    );
}

#[test]
fn recorded_answers_and_exit_files_of_version_1_are_read_whole() {
    let answers = reads_all::<Response>(RESPONSES);
    reads_all::<v1::Response>(RESPONSES);
    let states = answers.iter().filter_map(|answer| match &answer.outcome {
        Outcome::Ok(Reply::State(state)) => Some(state),
        _ => None,
    });
    assert!(
        states
            .clone()
            .any(|state| !state.execs.is_empty() && state.execs.iter().all(|e| e.note.is_none()))
    );
    assert!(states.clone().all(|state| state.protocol == 1));
    reads_all::<ExitRecord>(EXITS);
}

#[test]
fn recorded_events_of_version_1_are_read_whole() {
    let events = reads_all::<Event>(EVENTS);
    reads_all::<v1::Event>(EVENTS);
    assert_eq!(events.len(), 6);
    let kinds = ["exited", "exec_exited", "out_of_memory", "detached"];
    assert_eq!(names(EVENTS, "event"), kinds.map(str::to_owned).into());
}

/// Every call with every field set.
fn all_calls() -> Vec<Call> {
    let exec = Some("e1".to_owned());
    let size = ConsoleSize { rows: 24, cols: 80 };
    let spec = AttachSpec {
        stdin: true,
        detach_keys: vec![16, 17],
        early_stdin: b"x".to_vec(),
        ..AttachSpec::default()
    };
    let stdio = StdioPlan {
        terminal: true,
        console_size: Some(size),
        ..StdioPlan::default()
    };
    let launch = LaunchPlan {
        id: "c1".into(),
        bundle: "/b".into(),
        rootfs: RootfsPlan::Overlay {
            lower: vec!["/l".into()],
            upper: "/u".into(),
            work: "/w".into(),
            volatile: true,
        },
        user: Some("1:2".into()),
        group_add: vec!["3".into()],
        stdio,
        log: Some(LogPlan::new("/log")),
        runtime: RuntimePlan::Foreign {
            path: "/runc".into(),
            args: vec!["--debug".into()],
            root: "/r".into(),
        },
        shim_cgroup: Some("/i/shims".into()),
        ..LaunchPlan::default()
    };
    let run = ExecPlan {
        id: "e1".into(),
        process: serde_json::json!({"args": ["true"]}),
        user: Some("1".into()),
        stdio,
        privileged: true,
        note: Some(serde_json::json!({"a": 1})),
        ..ExecPlan::default()
    };
    let attaches = vec![spec.clone()];
    vec![
        Call::Launch {
            plan: Box::new(launch),
            attaches: attaches.clone(),
        },
        Call::State,
        Call::Start,
        Call::Kill {
            exec: exec.clone(),
            signal: 9,
            all: true,
        },
        Call::Attach {
            exec: exec.clone(),
            spec,
        },
        Call::Resize {
            exec: exec.clone(),
            size,
        },
        Call::CloseStdin { exec },
        Call::Exec {
            plan: Box::new(run),
            attaches,
        },
        Call::Pause,
        Call::Resume,
        Call::Update {
            resources: Box::default(),
        },
        Call::RotateLog,
        Call::AcknowledgeExec { exec: "e1".into() },
        Call::Shutdown { force: true },
    ]
}

#[test]
fn a_shim_of_version_1_understands_every_request_that_it_has() {
    for call in all_calls() {
        understood::<v1::Request>(&Request { id: 3, fds: 1, call });
    }
}

#[test]
fn an_engine_of_version_1_understands_every_answer_and_event() {
    let exit = ExitRecord {
        code: 137,
        signal: Some(9),
        oom_killed: true,
        started_at_ns: 1,
        exited_at_ns: 2,
    };
    let state = State {
        protocol: 1,
        id: "c1".into(),
        phase: Phase::Paused,
        exit: Some(exit.clone()),
        execs: vec![ExecState {
            id: "e1".into(),
            pid: 7,
            exit: Some(exit.clone()),
            note: Some(serde_json::json!({"a": 1})),
        }],
        ..State::default()
    };
    let started = Reply::Started {
        pid: 1,
        start_ticks: 2,
        at_ns: 3,
    };
    for reply in [Reply::Done, started, Reply::State(Box::new(state))] {
        let outcome = Outcome::Ok(reply);
        understood::<v1::Response>(&Response { id: 1, outcome });
    }
    for kind in [
        FaultKind::System,
        FaultKind::CommandNotFound,
        FaultKind::CommandNotExecutable,
        FaultKind::Invalid,
        FaultKind::Conflict,
        FaultKind::NotFound,
        FaultKind::Unsupported,
    ] {
        let fault = Fault {
            kind,
            message: "no".into(),
            step: Some("s".into()),
            errno: Some(2),
        };
        let outcome = Outcome::Err(fault);
        understood::<v1::Response>(&Response { id: 1, outcome });
    }
    let exec = "e1".to_owned();
    let events = [
        Event::Exited(exit.clone()),
        Event::ExecExited {
            exec: exec.clone(),
            exit,
        },
        Event::OutOfMemory,
        Event::Detached { exec: Some(exec) },
    ];
    for event in events {
        understood::<v1::Event>(&event);
    }
}

#[cfg(feature = "client")]
mod driven {
    //! A shim of version 1, played by the frozen types, is driven by today's client.
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use wharf_shim::client::connect;

    fn receive(stream: &mut UnixStream) -> Option<Value> {
        let mut length = [0u8; 4];
        stream.read_exact(&mut length).ok()?;
        let mut content = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut content).ok()?;
        serde_json::from_slice(&content).ok()
    }

    fn send(stream: &mut UnixStream, message: &impl Serialize) {
        let content = serde_json::to_vec(message).unwrap();
        stream
            .write_all(&u32::try_from(content.len()).unwrap().to_le_bytes())
            .unwrap();
        stream.write_all(&content).unwrap();
    }

    fn answer(request: &Value) -> v1::Outcome {
        let Ok(known) = serde_json::from_value::<v1::Request>(request.clone()) else {
            return v1::Outcome::Err(v1::Fault {
                kind: v1::FaultKind::Unsupported,
                message: "unknown call".into(),
                ..v1::Fault::default()
            });
        };
        match known.call {
            v1::Call::State => {
                let recorded = RESPONSES
                    .lines()
                    .map(|line| serde_json::from_str::<v1::Response>(line).unwrap());
                let is_state = |outcome: &v1::Outcome| matches!(outcome, v1::Outcome::Ok(v1::Reply::State(_)));
                recorded.map(|response| response.outcome).find(is_state).unwrap()
            }
            v1::Call::Exec { .. } | v1::Call::Start => v1::Outcome::Ok(v1::Reply::Started {
                pid: 42,
                start_ticks: 1,
                at_ns: 2,
            }),
            _ => v1::Outcome::Ok(v1::Reply::Done),
        }
    }

    /// Plays until the engine hangs up.
    fn play(listener: &UnixListener) {
        let (mut stream, _) = listener.accept().unwrap();
        // An event of the future comes between; the engine skips it.
        send(
            &mut stream,
            &serde_json::json!({"event": "checkpointed", "data": {"to": "/x"}}),
        );
        while let Some(request) = receive(&mut stream) {
            let outcome = answer(&request);
            let id = request["id"].as_u64().unwrap();
            send(&mut stream, &v1::Response { id, outcome });
        }
    }

    #[tokio::test]
    async fn an_old_shim_is_driven_by_a_new_engine() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let shim = std::thread::spawn(move || play(&listener));
        let (client, events) = connect(dir.path()).await.unwrap();
        let state = client.state().await.unwrap();
        assert_eq!((state.protocol, state.id.is_empty()), (1, false));
        client.kill(15).await.unwrap();
        client.pause().await.unwrap();
        let plan = ExecPlan {
            id: "e1".into(),
            note: Some(Value::Null),
            ..ExecPlan::default()
        };
        assert_eq!(client.exec(plan, vec![]).await.unwrap().pid, 42);
        client.acknowledge_exit().await.unwrap();
        drop((client, events));
        // ORDER: not on this thread, on which the client's own task still has to end.
        tokio::task::spawn_blocking(move || shim.join().unwrap()).await.unwrap();
    }
}
