//! Conversations with a systemd that is a thread of the test.

use super::*;
use crate::systemd::address::{Address, Place};
use crate::systemd::wire::{FIXED_HEADER, Kind, Message};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

const SCOPE_PATH: &str = "/org/freedesktop/systemd1/unit/box_2escope";

/// What it answers to a call: any messages, the reply among them.
type Script = dyn Fn(&Message, usize) -> Vec<Message> + Send;

struct Fake {
    _directory: tempfile::TempDir,
    address: Address,
    /// Members called, in order.
    calls: Arc<Mutex<Vec<String>>>,
}

/// Serves one connection by a script, which is told how often that member was called before.
fn serve(is_direct: bool, greeting: &'static [u8], script: Box<Script>) -> Fake {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        read_greeting(&mut stream);
        stream.write_all(greeting).expect("answer");
        while let Some(call) = read_message(&mut stream) {
            let member = call.member.clone().unwrap_or_default();
            let before = seen
                .lock()
                .expect("calls")
                .iter()
                .filter(|known| **known == member)
                .count();
            seen.lock().expect("calls").push(member);
            for answer in script(&call, before) {
                stream.write_all(&answer.encode()).expect("answer");
            }
        }
    });
    Fake {
        _directory: directory,
        address: Address {
            place: Place::Path(path),
            is_direct,
        },
        calls,
    }
}

fn read_greeting(stream: &mut UnixStream) {
    let (mut said, mut byte) = (Vec::new(), [0u8]);
    while !said.ends_with(b"BEGIN\r\n") {
        stream.read_exact(&mut byte).expect("the handshake");
        said.extend(byte);
    }
    assert!(said.starts_with(b"\0AUTH EXTERNAL\r\n"), "{said:?}");
}

fn read_message(stream: &mut UnixStream) -> Option<Message> {
    let mut bytes = vec![0u8; FIXED_HEADER];
    stream.read_exact(&mut bytes).ok()?;
    bytes.resize(Message::length(&bytes).expect("a header"), 0);
    stream.read_exact(&mut bytes[FIXED_HEADER..]).ok()?;
    Some(Message::decode(&bytes).expect("a message"))
}

fn reply(call: &Message, body: Vec<Value>) -> Message {
    Message {
        kind: Kind::Return,
        serial: 1,
        reply_to: Some(call.serial),
        body,
        ..Message::default()
    }
}

fn refusal(call: &Message, name: &str) -> Message {
    Message {
        kind: Kind::Error,
        error: Some(format!("org.freedesktop.systemd1.{name}")),
        ..reply(call, vec![Value::text("no")])
    }
}

fn job_removed(job: &str, result: &str) -> Message {
    Message {
        kind: Kind::Signal,
        serial: 2,
        path: Some(ROOT.to_owned()),
        interface: Some(MANAGER.to_owned()),
        member: Some("JobRemoved".to_owned()),
        body: vec![
            Value::Uint32(1),
            Value::Path(job.to_owned()),
            Value::text("box.scope"),
            Value::text(result),
        ],
        ..Message::default()
    }
}

/// A systemd with which everything goes well.
fn willing(call: &Message) -> Vec<Message> {
    match call.member.as_deref() {
        Some("StartTransientUnit" | "StopUnit") => vec![
            job_removed("/job/other", "failed"),
            // The end of the job may be heard of before its beginning.
            job_removed("/job/ours", "done"),
            reply(call, vec![Value::Path("/job/ours".into())]),
        ],
        Some("GetUnit") => vec![reply(call, vec![Value::Path(SCOPE_PATH.into())])],
        Some("Get") => vec![reply(
            call,
            vec![Value::Variant(Box::new(Value::text("/a.slice/box.scope")))],
        )],
        _ => vec![reply(call, vec![])],
    }
}

fn connect(fake: &Fake) -> Result<Systemd, SystemdError> {
    Ok(Systemd {
        bus: Connection::open(std::slice::from_ref(&fake.address))?,
        is_subscribed: false,
    })
}

const WELCOME: &[u8] = b"DATA\r\nOK 0123456789abcdef\r\n";

fn unit(name: &str) -> UnitPlan {
    UnitPlan {
        name: name.to_owned(),
        slice: "a.slice".to_owned(),
    }
}

#[test]
fn a_unit_has_started_when_its_own_job_is_done() {
    let fake = serve(true, WELCOME, Box::new(|call, _| willing(call)));
    let mut systemd = connect(&fake).expect("connected");
    assert_eq!(
        systemd.start_unit(&unit("box.scope"), &[]).ok().as_deref(),
        Some("/a.slice/box.scope")
    );
    systemd.stop_unit("box.scope").expect("stopped");
    let calls = fake.calls.lock().expect("calls").clone();
    assert_eq!(
        calls,
        ["StartTransientUnit", "GetUnit", "Get", "StopUnit", "ResetFailedUnit"]
    );
}

#[test]
fn on_a_bus_signals_are_asked_for_before_anything_is_started() {
    let fake = serve(false, WELCOME, Box::new(|call, _| willing(call)));
    let mut systemd = connect(&fake).expect("connected");
    systemd.start_unit(&unit("box.scope"), &[]).expect("started");
    let calls = fake.calls.lock().expect("calls").clone();
    assert_eq!(calls[..4], ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
}

#[test]
fn a_job_that_fails_is_an_error_with_its_outcome() {
    let script = |call: &Message, _: usize| match call.member.as_deref() {
        Some("StartTransientUnit") => {
            vec![
                reply(call, vec![Value::Path("/job/ours".into())]),
                job_removed("/job/ours", "timeout"),
            ]
        }
        _ => willing(call),
    };
    let fake = serve(true, WELCOME, Box::new(script));
    let outcome = connect(&fake).and_then(|mut systemd| systemd.start_unit(&unit("box.scope"), &[]));
    let expected = "systemd could not start unit box.scope: job timeout";
    assert_eq!(outcome.map_err(|error| error.to_string()), Err(expected.to_owned()));
}

#[test]
fn a_failed_unit_of_that_name_is_cleared_and_a_running_one_is_not_taken() {
    let exists_until = |turns: usize| {
        move |call: &Message, before: usize| match call.member.as_deref() {
            Some("StartTransientUnit") if before < turns => vec![refusal(call, "UnitExists")],
            _ => willing(call),
        }
    };
    let fake = serve(true, WELCOME, Box::new(exists_until(1)));
    connect(&fake)
        .and_then(|mut systemd| systemd.start_unit(&unit("box.scope"), &[]))
        .expect("started");
    let fake = serve(true, WELCOME, Box::new(exists_until(9)));
    let outcome = connect(&fake).and_then(|mut systemd| systemd.start_unit(&unit("box.scope"), &[]));
    assert!(outcome.is_err_and(|error| error.is_named("UnitExists")));
    // A slice that is there already is shared.
    let fake = serve(true, WELCOME, Box::new(exists_until(9)));
    connect(&fake)
        .and_then(|mut systemd| systemd.start_unit(&unit("box.slice"), &[]))
        .expect("shared");
}

#[test]
fn stopping_a_unit_that_is_gone_succeeds() {
    let script = |call: &Message, _: usize| match call.member.as_deref() {
        Some("StopUnit" | "ResetFailedUnit") => vec![refusal(call, "NoSuchUnit")],
        _ => willing(call),
    };
    let fake = serve(true, WELCOME, Box::new(script));
    connect(&fake)
        .and_then(|mut systemd| systemd.stop_unit("box.scope"))
        .expect("stopped");
}

#[test]
fn versions_are_read_in_every_spelling() {
    for (text, expected) in [("252.39-1~deb12u2", 252), ("v256", 256), ("systemd 245", 245), ("?", 0)] {
        let script =
            move |call: &Message, _: usize| vec![reply(call, vec![Value::Variant(Box::new(Value::text(text)))])];
        let fake = serve(true, WELCOME, Box::new(script));
        assert_eq!(
            connect(&fake).and_then(|mut systemd| systemd.version()).ok(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn an_end_that_refuses_or_hangs_up_is_an_error() {
    let fake = serve(true, b"REJECTED EXTERNAL\r\n", Box::new(|call, _| willing(call)));
    let refused = connect(&fake).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|text| text.contains("REJECTED EXTERNAL")));
    let rubbish = |_: &Message, _: usize| -> Vec<Message> { panic!("this thread ends, and the connection with it") };
    let fake = serve(true, WELCOME, Box::new(rubbish));
    let outcome = connect(&fake).and_then(|mut systemd| systemd.version());
    assert!(matches!(outcome, Err(SystemdError::Transfer { .. })), "{outcome:?}");
}
