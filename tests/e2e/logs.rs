//! Log drivers: real receivers, reading back, defaults, refusals.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use wharf_testkit::Sandbox;

const DEADLINE: Duration = Duration::from_secs(60);

/// A sandbox whose journal is a socket of the test's.
fn with_journal() -> (Sandbox, UnixDatagram) {
    let s = Sandbox::configured("journal-socket = '{dir}/journal'");
    s.import_busybox();
    let journal = UnixDatagram::bind(s.path("journal")).unwrap();
    journal.set_read_timeout(Some(DEADLINE)).unwrap();
    (s, journal)
}

fn run(s: &Sandbox, name: &str, options: &[&str], script: &str) {
    let given = [
        &["run", "--name", name, "--label", "tier=front"],
        options,
        &["busybox", "sh", "-c", script],
    ];
    s.docker(&given.concat()).ok();
}

/// `docker logs` reads back what went elsewhere.
fn reads_back(s: &Sandbox, name: &str, expected: &str) {
    assert_eq!(s.docker(&["logs", name]).ok(), expected, "{name}");
    assert_eq!(
        s.docker(&["logs", "--tail", "1", name]).ok(),
        expected.lines().last().unwrap()
    );
}

fn datagram(receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut buffer = [0u8; 4096];
    let length = receive(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn every_driver_delivers_and_logs_reads_back() {
    let (s, journal) = with_journal();
    run(
        &s,
        "jd",
        &["--log-driver", "journald", "--log-opt", "labels=tier"],
        "echo one; echo two",
    );
    let entry = datagram(|buffer| journal.recv(buffer));
    for field in [
        "MESSAGE=one\n",
        "PRIORITY=6\n",
        "CONTAINER_NAME=jd\n",
        "TIER=front\n",
        "CONTAINER_LOG_ORDINAL=1\n",
    ] {
        assert!(entry.contains(field), "{field:?} is not in {entry}");
    }
    assert!(datagram(|buffer| journal.recv(buffer)).contains("MESSAGE=two\n"));
    reads_back(&s, "jd", "one\ntwo");

    let gelf = UdpSocket::bind("127.0.0.1:0").unwrap();
    gelf.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = format!("gelf-address=udp://{}", gelf.local_addr().unwrap());
    let options = [
        "--log-driver",
        "gelf",
        "--log-opt",
        &address,
        "--log-opt",
        "gelf-compression-type=none",
    ];
    run(&s, "gf", &options, "echo hello");
    let message: serde_json::Value = serde_json::from_str(&datagram(|buffer| gelf.recv(buffer))).unwrap();
    assert_eq!(message["short_message"], "hello");
    assert_eq!(
        (&message["_container_name"], &message["_command"]),
        (&"gf".into(), &"sh -c echo hello".into())
    );
    reads_back(&s, "gf", "hello");

    let fluentd = UnixListener::bind(s.path("fluentd")).unwrap();
    let address = format!("fluentd-address=unix://{}", s.path("fluentd").display());
    run(
        &s,
        "fd",
        &["--log-driver", "fluentd", "--log-opt", &address, "--log-opt", "tag=a.b"],
        "echo hello",
    );
    let mut bytes = Vec::new();
    fluentd.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        bytes.starts_with(b"\x94\xa3a.b") && text.contains("log") && text.contains("hello"),
        "{text:?}"
    );
    reads_back(&s, "fd", "hello");

    let syslog = UnixDatagram::bind(s.path("syslog")).unwrap();
    syslog.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = format!("syslog-address=unixgram://{}", s.path("syslog").display());
    let options = [
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "tag={{.DaemonName}}/{{.Name}}",
    ];
    run(&s, "sl", &options, "echo hello >&2");
    let message = datagram(|buffer| syslog.recv(buffer));
    assert!(
        message.starts_with("<27>") && message.contains(" docker/sl["),
        "{message}"
    );
    assert!(message.ends_with("]: hello\n"), "{message}");
}

#[test]
fn a_target_with_a_name_gets_lines_while_the_engine_is_away() {
    let mut s = Sandbox::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = format!("syslog-address=tcp://localhost:{port}");
    let options = [
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "syslog-format=rfc5424",
    ];
    let script = "until [ -e /go ]; do sleep 0.05; done; echo alone; sleep 600";
    s.docker(
        &[
            &["run", "-d", "--name", "c1"],
            &options[..],
            &["busybox", "sh", "-c", script],
        ]
        .concat(),
    )
    .ok();
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    s.docker(&["exec", "-d", "c1", "sh", "-c", "sleep 1; touch /go"]).ok();
    s.kill();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("<30>1 ") && line.ends_with(" - alone\n"), "{line}");
    s.boot();
    assert_eq!(s.docker(&["logs", "c1"]).ok(), "alone");
    s.docker(&["rm", "-f", "c1"]).ok();
}

/// A TLS server that prints what it gets; killed on drop.
struct TlsServer(Child);

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn tls_is_spoken_with_those_who_can_prove_who_they_are() {
    let s = Sandbox::with_busybox();
    let file = |name: &str| s.path(name).to_string_lossy().into_owned();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new("openssl")
        .args(request.split(' '))
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("openssl");
    command
        .args([
            "s_server",
            "-quiet",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-cert",
            &certificate,
            "-key",
            &key,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = TlsServer(command.spawn().unwrap());
    let address = format!("syslog-address=tcp+tls://localhost:{port}");
    let common = [
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "syslog-format=rfc5424",
    ];
    // Nobody vouches for this certificate: not one line goes out.
    s.docker(
        &[
            &["run", "-d", "--name", "wary"],
            &common[..],
            &["busybox", "sh", "-c", "echo secret; sleep 600"],
        ]
        .concat(),
    )
    .ok();
    let authority = format!("syslog-tls-ca-cert={certificate}");
    run(
        &s,
        "sure",
        &[&common[..], &["--log-opt", &authority]].concat(),
        "echo trusted",
    );
    let lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let line = receiver.recv_timeout(DEADLINE).unwrap();
    let (length, message) = line.split_once(' ').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), message.len() + 1, "{line}");
    assert!(message.ends_with(" - trusted"), "{line}");
    assert_eq!(s.docker(&["logs", "wary"]).ok(), "secret");
    s.docker(&["rm", "-f", "wary"]).ok();
}

#[test]
fn a_container_that_keeps_no_log_has_none_to_read() {
    let (s, _journal) = with_journal();
    run(&s, "none", &["--log-driver", "none"], "echo x");
    run(
        &s,
        "elsewhere",
        &["--log-driver", "journald", "--log-opt", "cache-disabled=true"],
        "echo x",
    );
    for name in ["none", "elsewhere"] {
        let answer = s.docker(&["logs", name]);
        answer.fails(
            1,
            "Error response from daemon: configured logging driver does not support reading",
        );
    }
}

#[test]
fn wrong_options_are_refused_as_docker_does() {
    let s = Sandbox::with_busybox();
    for (options, words) in [
        (
            "--log-driver nothing",
            "logger: no log driver named 'nothing' is registered",
        ),
        ("--log-opt x=1", "unknown log opt 'x' for json-file log driver"),
        ("--log-driver gelf", "gelf-address is a required parameter"),
        ("--log-opt mode=fast", "logger: logging mode not supported: fast"),
    ] {
        let options: Vec<&str> = options.split(' ').collect();
        let answer = s.docker(&[&["create"], &options[..], &["busybox"]].concat());
        answer.fails(1, words);
    }
}

#[test]
fn containers_that_choose_nothing_log_as_the_engine_is_told() {
    let s = Sandbox::configured("log-driver = 'local'\n[log-opts]\nmax-size = '64k'\nmax-file = '3'\n");
    s.import_busybox();
    let script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789 $i; i=$((i+1)); done";
    run(&s, "c1", &[], script);
    let config = s.docker(&["inspect", "-f", "{{json .HostConfig.LogConfig}} {{.LogPath}}", "c1"]);
    assert_eq!(
        config.ok(),
        r#"{"Type":"local","Config":{"max-file":"3","max-size":"64k"}}"#
    );
    let info = s.docker(&["info", "-f", "{{.LoggingDriver}} {{.Plugins.Log}}"]);
    assert_eq!(info.ok(), "local [fluentd gelf journald json-file local none syslog]");
    let logs = s
        .root()
        .join("containers")
        .join(s.docker(&["inspect", "-f", "{{.Id}}", "c1"]).ok())
        .join("logs");
    let size = || -> u64 {
        let files = std::fs::read_dir(&logs).unwrap().flatten();
        files
            .filter_map(|file| file.metadata().ok())
            .map(|facts| facts.len())
            .sum()
    };
    assert!(size() < 3 * 64_000 + 64_000, "{} bytes of log", size());
    let tail = s.docker(&["logs", "--tail", "1000", "c1"]);
    let lines: Vec<&str> = tail.ok().lines().collect();
    assert_eq!(lines.len(), 1000);
    assert!(
        lines[0].ends_with(" 19000") && lines[999].ends_with(" 19999"),
        "{} {}",
        lines[0],
        lines[999]
    );
    s.docker(&["run", "--rm", "--log-driver", "json-file", "busybox", "true"])
        .ok();
}
