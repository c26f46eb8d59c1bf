//! Stands in for CRIU in tests: speaks its RPC on descriptor 3, writes the
//! requests it gets as JSON into the directory `FAKE_CRIU`, and does to the
//! processes what CRIU would do: a dump ends them, a restore starts
//! `FAKE_CRIU_PROGRAM` as a child of the caller. With `FAKE_CRIU_FAIL` it fails.

use serde_json::{Value, json};
use std::error::Error;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wharf_sys::clone::{CloneOptions, clone3};

const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const PRE_DUMP: u64 = 4;
const NOTIFY: u64 = 6;
const FEATURE_CHECK: u64 = 9;
const VERSION: u64 = 10;
const CLONE_PARENT: u32 = 0x8000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let socket = wharf_sys::fd::take_inherited(3).ok_or("no socket")?;
    let request = read(&parse(&receive(&socket)?)?);
    let kind = request["1"][0].as_u64().ok_or("no type")?;
    if let Some(directory) = std::env::var_os("FAKE_CRIU") {
        let path = std::path::Path::new(&directory).join(format!("{kind}.json"));
        std::fs::write(path, request.to_string())?;
    }
    match kind {
        // 3.17.1
        VERSION => send(&socket, &[8, 10, 16, 1, 0x52, 6, 8, 3, 16, 17, 32, 1]),
        FEATURE_CHECK => send(&socket, &[8, 9, 16, 1, 0x42, 4, 8, 1, 16, 1]),
        DUMP | PRE_DUMP | RESTORE if std::env::var_os("FAKE_CRIU_FAIL").is_some() => fail(&socket, kind, &request),
        DUMP | PRE_DUMP => dump(&socket, kind, &request),
        RESTORE => restore(&socket),
        other => Err(format!("unknown type {other}").into()),
    }
}

fn number(request: &Value, field: &str) -> i64 {
    request["2"][0][field][0].as_i64().unwrap_or(0)
}

/// EOPNOTSUPP, with the reason in the log.
fn fail(socket: &OwnedFd, kind: u64, request: &Value) -> Outcome<()> {
    let caller = rustix::process::getppid().ok_or("no caller")?.as_raw_nonzero();
    let name = request["2"][0]["10"][0].as_str().ok_or("no log")?;
    let log = format!("/proc/{caller}/fd/{}/{name}", number(request, "1"));
    std::fs::write(log, "(00.1) working\n(00.2) Error (made/up.c:1): no such luck\n")?;
    send(socket, &[8, u8::try_from(kind)?, 16, 0, 0x38, 95])
}

fn dump(socket: &OwnedFd, kind: u64, request: &Value) -> Outcome<()> {
    notify(socket, "network-lock", 0)?;
    notify(socket, "post-dump", 0)?;
    let pid = i32::try_from(number(request, "2"))?;
    if kind == DUMP && number(request, "3") == 0 {
        let pid = rustix::process::Pid::from_raw(pid).ok_or("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    send(socket, &[8, u8::try_from(kind)?, 16, 1])
}

fn restore(socket: &OwnedFd) -> Outcome<()> {
    let program = std::env::var("FAKE_CRIU_PROGRAM").unwrap_or_else(|_| "sleep 100".to_owned());
    let text = |text: &str| CString::new(text);
    let args = [text("sh")?, text("-c")?, text(&program)?];
    let options = CloneOptions {
        flags: CLONE_PARENT,
        cgroup: None,
    };
    let child = clone3(options, |_| {
        let _ = wharf_sys::process::execve(c"/bin/busybox", &args, &[]);
        127
    })?;
    let pid = child.pid.as_raw_nonzero().get();
    notify(socket, "setup-namespaces", pid)?;
    notify(socket, "post-restore", pid)?;
    let pid = varint(u64::try_from(pid)?);
    let restored = [&[8][..], &pid].concat();
    send(
        socket,
        &[&[8, 2, 16, 1, 0x22, u8::try_from(restored.len())?], &restored[..]].concat(),
    )
}

/// Sends a notice and waits for the answer that all is well.
fn notify(socket: &OwnedFd, script: &str, pid: i32) -> Outcome<()> {
    let mut body = vec![10, u8::try_from(script.len())?];
    body.extend(script.as_bytes());
    body.push(16);
    body.extend(varint(u64::try_from(pid)?));
    let message = [&[8, 6, 16, 1, 0x2a, u8::try_from(body.len())?], &body[..]].concat();
    send(socket, &message)?;
    let answer = read(&parse(&receive(socket)?)?);
    match (answer["1"][0].as_u64(), answer["3"][0].as_u64()) {
        (Some(NOTIFY), Some(1)) => Ok(()),
        _ => Err(format!("{script} was answered by {answer}").into()),
    }
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> Outcome<()> {
    wharf_sys::fdpass::send(socket, bytes, &[])?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> Outcome<Vec<u8>> {
    let mut bytes = vec![0; 64 << 10];
    let (length, _) = wharf_sys::fdpass::receive(socket, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(u8::try_from(value % 128).unwrap_or(0) + 128);
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap_or(0));
    bytes
}

enum Part {
    Number(i64),
    Bytes(Vec<u8>),
}

/// Field and value of each part; only numbers and blocks occur.
fn parse(bytes: &[u8]) -> Outcome<Vec<(u64, Part)>> {
    let mut parts = Vec::new();
    let mut at = 0;
    let next = |at: &mut usize| -> Outcome<u64> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = *bytes.get(*at).ok_or("too short")?;
            *at += 1;
            value |= u64::from(byte % 128) << shift;
            shift += 7;
            if byte < 128 {
                return Ok(value);
            }
        }
    };
    while at < bytes.len() {
        let key = next(&mut at)?;
        let value = next(&mut at)?;
        let part = match key % 8 {
            0 => Part::Number(value.cast_signed()),
            2 => {
                let end = at + usize::try_from(value)?;
                let block = bytes.get(at..end).ok_or("too short")?.to_vec();
                at = end;
                Part::Bytes(block)
            }
            other => return Err(format!("wire type {other}").into()),
        };
        parts.push((key / 8, part));
    }
    Ok(parts)
}

/// Lists of values by field; blocks that hold messages become objects.
fn read(parts: &[(u64, Part)]) -> Value {
    const MESSAGES: [u64; 6] = [2, 5, 11, 23, 25, 27];
    let mut object = serde_json::Map::new();
    for (field, part) in parts {
        let value = match part {
            Part::Number(number) => json!(number),
            Part::Bytes(bytes) => match parse(bytes) {
                Ok(inner) if MESSAGES.contains(field) && !inner.is_empty() && !is_text(bytes) => read(&inner),
                _ => json!(String::from_utf8_lossy(bytes)),
            },
        };
        let list = object.entry(field.to_string()).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(value);
        }
    }
    Value::Object(object)
}

/// Texts of requests are printable; messages begin with a small number.
fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (32..127).contains(byte))
}
