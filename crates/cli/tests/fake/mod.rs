//! A tiny engine for tests of command lines: it answers from a table and remembers what it was
//! asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// One request as the engine saw it, without the version in its path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// The method and the path.
    pub(crate) call: String,
    /// The query, sorted.
    pub(crate) query: BTreeMap<String, Vec<String>>,
    /// The JSON body, `null` without one.
    pub(crate) body: Value,
}

/// Status, content type and body of an answer.
pub(crate) type Answer = (u16, &'static str, String);

/// Decides the answer to a call; `None` is 404.
pub(crate) type Answers = fn(call: &str) -> Option<Answer>;

/// The running engine; it ends with the process.
pub(crate) struct FakeEngine {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What a command line did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What it asked of the engine.
    pub(crate) seen: Vec<Seen>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// The exit code.
    pub(crate) code: i32,
}

impl FakeEngine {
    /// Listens on a socket of its own.
    pub(crate) fn start(answers: Answers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let record = Arc::clone(&record);
                std::thread::spawn(move || serve(stream, answers, &record));
            }
        });
        Self {
            _dir: dir,
            socket,
            seen,
        }
    }

    /// Runs a program with arguments against this engine.
    pub(crate) fn run(&self, program: &Path, arguments: &[&str]) -> Ran {
        self.seen.lock().unwrap().clear();
        let home = tempfile::tempdir().unwrap();
        let Output { status, stdout, stderr } = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home.path())
            .env("TZ", "UTC")
            .env("FROM_HERE", "value")
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ran {
            seen: self.seen.lock().unwrap().clone(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            code: status.code().unwrap_or(-1),
        }
    }
}

fn serve(stream: UnixStream, answers: Answers, record: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some((head, body)) = read_request(&mut reader) {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let call = format!("{method} {}", unversioned(path));
        if !path.ends_with("/_ping") {
            record.lock().unwrap().push(Seen {
                call: call.clone(),
                query: parse_query(query),
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            });
        }
        let (status, kind, text) = if path.ends_with("/_ping") {
            (200, "text/plain", String::new())
        } else {
            answers(&call).unwrap_or((404, "application/json", r#"{"message":"not here"}"#.to_owned()))
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nApi-Version: 1.50\r\nOstype: linux\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn unversioned(path: &str) -> &str {
    match path.strip_prefix("/v").and_then(|rest| rest.find('/')) {
        Some(end) => &path[end + 2..],
        None => path,
    }
}

/// The request line and the body, `None` at the end of the connection.
fn read_request(reader: &mut BufReader<UnixStream>) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
    let (mut length, mut chunked) = (0usize, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    let mut body = vec![0; length];
    if chunked {
        body = read_chunks(reader)?;
    } else {
        reader.read_exact(&mut body).ok()?;
    }
    Some((first, body))
}

fn read_chunks(reader: &mut BufReader<UnixStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn parse_query(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        found.entry(decode(key)).or_default().push(decode(value));
    }
    found
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// The first docker CLI whose words and requests ours are.
const SINCE: u32 = 28;

/// The real docker CLI, when this machine has one that is not too old to be the judge.
pub(crate) fn docker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let docker = std::env::split_paths(&path)
        .map(|dir| dir.join("docker"))
        .find(|file| file.is_file())?;
    let said = Command::new(&docker).arg("--version").output().ok()?.stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let major = said.strip_prefix("Docker version ")?.split('.').next()?.parse().ok();
    major.is_some_and(|major: u32| major >= SINCE).then_some(docker)
}

/// Our CLI under the name `docker`, so that both speak of themselves alike.
pub(crate) fn ours() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("docker");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf"), &link).unwrap();
    (dir, link)
}

/// JSON without what `null`, left out and empty say alike.
pub(crate) fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| {
                    (
                        key.clone(),
                        if value.is_array() && matches!(key.as_str(), "Binds" | "Env" | "Ulimits" | "Config") {
                            sorted(value)
                        } else {
                            normal(value)
                        },
                    )
                })
                .filter(|(key, value)| !(value.is_null() || key == "Detach" && fields.contains_key("Cmd")))
                .collect(),
        ),
        Value::Array(list) => list.iter().map(normal).collect(),
        other => other.clone(),
    }
}

/// Docker's CLI sends binds, variables, limits and the subnets of a network in any order.
fn sorted(value: &Value) -> Value {
    let mut list: Vec<Value> = value.as_array().cloned().unwrap_or_default();
    list.sort_by_key(Value::to_string);
    if list.is_empty() {
        Value::Null
    } else {
        Value::Array(list)
    }
}
