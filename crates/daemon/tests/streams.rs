//! Connections that leave HTTP, streams that begin before their first byte, clients that go away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_testkit::Sandbox;

/// A request that was sent and whose answer is still to be read.
struct Exchange(BufReader<UnixStream>);

impl Exchange {
    fn send(sandbox: &Sandbox, method: &str, path: &str, headers: &str, body: &str) -> Self {
        let mut stream = UnixStream::connect(sandbox.socket()).expect("the engine listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("sent");
        Self(BufReader::new(stream))
    }

    /// Status line and headers.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(
                self.0.read_line(&mut head).expect("a line") > 0,
                "the engine hung up: {head}"
            );
        }
        head
    }

    /// Everything until the engine closes its half.
    fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("the end");
        bytes
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("written");
    }

    fn end_input(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).expect("half-closed");
    }
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

/// Payloads by stream, from frames.
fn frames(mut bytes: &[u8]) -> [Vec<u8>; 3] {
    let mut streams: [Vec<u8>; 3] = Default::default();
    while let [kind, _, _, _, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        streams[usize::from(*kind)].extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "no frame: {bytes:?}");
    streams
}

fn post(sandbox: &Sandbox, path: &str, body: &Value) -> Value {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (status, answer) = sandbox.api("POST", path, &text);
    assert!(status < 300, "POST {path}: {status} {answer}");
    answer
}

fn create(sandbox: &Sandbox, name: &str, config: Value) {
    post(sandbox, &format!("/containers/create?name={name}"), &config);
}

#[test]
fn an_attachment_made_before_the_start_sees_every_byte() {
    let sandbox = Sandbox::with_busybox();
    for (headers, status) in [(UPGRADE, "HTTP/1.1 101 UPGRADED\r\n"), ("", "HTTP/1.1 200 OK\r\n")] {
        create(
            &sandbox,
            "aa",
            json!({"Image": "busybox", "OpenStdin": true, "StdinOnce": true,
                   "Cmd": ["sh", "-c", "echo first; echo second >&2; cat"]}),
        );
        let path = "/v1.50/containers/aa/attach?stream=1&stdin=1&stdout=1&stderr=1";
        let mut attached = Exchange::send(&sandbox, "POST", path, headers, "");
        assert!(attached.head().starts_with(status));
        post(&sandbox, "/containers/aa/start", &Value::Null);
        attached.write(b"typed\n");
        attached.end_input();
        let [_, out, err] = frames(&attached.rest());
        assert_eq!(
            (out.as_slice(), err.as_slice()),
            (&b"first\ntyped\n"[..], &b"second\n"[..])
        );
        sandbox.docker(&["rm", "-f", "aa"]).ok();
    }
}

#[test]
fn input_sent_with_the_request_arrives() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .docker(&["run", "-d", "--name", "aa", "busybox", "sleep", "60"])
        .ok();
    let exec = post(
        &sandbox,
        "/containers/aa/exec",
        &json!({"AttachStdin": true, "AttachStdout": true, "Cmd": ["cat"]}),
    );
    let path = format!("/v1.50/exec/{}/start", exec["Id"].as_str().expect("an id"));
    let mut stream = UnixStream::connect(sandbox.socket()).expect("the engine listens");
    let head = format!("POST {path} HTTP/1.1\r\nHost: d\r\n{UPGRADE}Content-Type: application/json\r\n");
    let text = format!("{head}Content-Length: 2\r\n\r\n{{}}early");
    stream.write_all(text.as_bytes()).expect("sent");
    let mut exchange = Exchange(BufReader::new(stream));
    exchange.head();
    exchange.end_input();
    assert_eq!(frames(&exchange.rest())[1], b"early");
}

#[test]
fn a_wait_says_that_it_waits_before_the_end() {
    let sandbox = Sandbox::with_busybox();
    create(
        &sandbox,
        "aa",
        json!({"Image": "busybox", "Cmd": ["sh", "-c", "exit 7"]}),
    );
    let path = "/v1.50/containers/aa/wait?condition=next-exit";
    let mut waiting = Exchange::send(&sandbox, "POST", path, "Connection: close\r\n", "");
    assert!(waiting.head().starts_with("HTTP/1.1 200 OK\r\n"));
    post(&sandbox, "/containers/aa/start", &Value::Null);
    let answer = String::from_utf8(waiting.rest()).expect("text");
    assert!(answer.contains("{\"StatusCode\":7}\n"), "{answer}");
}

#[test]
fn streams_end_when_their_client_goes() {
    let sandbox = Sandbox::start();
    let listeners = || sandbox.api("GET", "/info", "").1["NEventsListener"].as_u64();
    assert_eq!(listeners(), Some(0));
    let mut events = Exchange::send(&sandbox, "GET", "/events", "", "");
    assert!(events.head().contains("Content-Type: application/json\r\n"));
    sandbox.eventually(Duration::from_secs(5), "the watcher counts", || listeners() == Some(1));
    drop(events);
    sandbox.eventually(Duration::from_secs(5), "the watcher is gone", || listeners() == Some(0));
}

#[test]
fn followed_logs_begin_at_once_and_go_on() {
    let sandbox = Sandbox::with_busybox();
    sandbox
        .docker(&["run", "-d", "--name", "aa", "busybox", "sh", "-c", "sleep 2; echo late"])
        .ok();
    let path = "/v1.50/containers/aa/logs?follow=1&stdout=1&timestamps=1";
    let begun = Instant::now();
    let mut logs = Exchange::send(&sandbox, "GET", path, "Connection: close\r\n", "");
    let head = logs.head();
    assert!(
        begun.elapsed() < Duration::from_millis(1500),
        "the headers waited for the first line"
    );
    assert!(
        head.contains("Content-Type: application/vnd.docker.multiplexed-stream\r\n"),
        "{head}"
    );
    let text = String::from_utf8_lossy(&logs.rest()).into_owned();
    assert!(text.contains("Z late\n"), "{text}");
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let sandbox = Sandbox::start();
    let mut stream = UnixStream::connect(sandbox.socket()).expect("the engine listens");
    let body = vec![b'x'; 4 << 20];
    let head = format!(
        "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&body).expect("taken in although it is not wanted");
    let mut exchange = Exchange(BufReader::new(stream));
    assert!(exchange.head().starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

/// An engine of a sandbox that also serves a port.
struct Remote {
    engine: std::process::Child,
    address: String,
    sandbox: Sandbox,
}

impl Remote {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("tcp://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let mut sandbox = Sandbox::start();
        sandbox.terminate();
        let engine = std::process::Command::new(wharf_testkit::sandbox::wharf_binary())
            .arg("daemon")
            .args(["--instance", sandbox.instance(), "-H", &address])
            .args(["-H", &format!("unix://{}", sandbox.socket().display()), "--root"])
            .arg(sandbox.root())
            .arg("--run")
            .arg(sandbox.run_dir())
            .spawn()
            .expect("the engine starts");
        let remote = Self {
            engine,
            address,
            sandbox,
        };
        let answers = || UnixStream::connect(remote.sandbox.socket()).is_ok();
        remote
            .sandbox
            .eventually(Duration::from_secs(10), "the engine answers", answers);
        remote
    }

    fn docker(&self, arguments: &[&str], input: &[u8]) -> wharf_testkit::Output {
        let mut command = self.sandbox.docker_command();
        command.env("DOCKER_HOST", &self.address).args(arguments);
        wharf_testkit::run(&mut command, input, Duration::from_secs(30)).expect("the docker CLI runs")
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.engine.kill();
        let _ = self.engine.wait();
    }
}

#[test]
fn remote_clients_attach_too() {
    let remote = Remote::start();
    remote.sandbox.import_busybox();
    let run = remote.docker(&["run", "--rm", "-i", "busybox", "cat"], b"through the wire");
    assert_eq!(run.ok(), "through the wire");
    remote
        .docker(&["run", "-d", "--name", "aa", "busybox", "sleep", "60"], b"")
        .ok();
    assert_eq!(remote.docker(&["exec", "-i", "aa", "cat"], b"again").ok(), "again");
}

#[test]
fn the_socket_is_for_root_and_its_group_and_goes_with_the_engine() {
    use std::os::unix::fs::PermissionsExt;
    let mut sandbox = Sandbox::start();
    let mode = std::fs::metadata(sandbox.socket())
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    sandbox.kill();
    assert!(sandbox.socket().exists(), "a killed engine cannot clean up");
    sandbox.boot();
    sandbox.terminate();
    assert!(!sandbox.socket().exists());
    sandbox.boot();
}
