//! Logs that also go elsewhere: real receivers, hung ones, absent ones.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};

use wharf_shim::target::{Address, Format, SyslogForm, TargetPlan};

use crate::stage::{Stage, eventually, exited, run};

const DEADLINE: Duration = Duration::from_secs(60);

fn syslog() -> Format {
    Format::Syslog {
        form: SyslogForm::Rfc5424,
        facility: 3,
        hostname: "host".into(),
        tag: "tag".into(),
        utc_offset_s: 0,
        counted: false,
    }
}

fn tcp(port: u16) -> Address {
    Address::Tcp {
        host: "127.0.0.1".into(),
        port,
    }
}

fn staged(script: &str, plan: TargetPlan) -> Stage {
    let mut stage = Stage::new(script);
    stage.plan.log.as_mut().expect("a log").target = Some(plan);
    stage
}

fn to(address: Address) -> TargetPlan {
    TargetPlan {
        address,
        format: syslog(),
        retry_ms: 20,
        retry_max_ms: 50,
        ..TargetPlan::default()
    }
}

/// The text of a syslog message.
fn text(message: &str) -> &str {
    message.trim_end().rsplit(" - ").next().unwrap_or_default()
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

fn accepted(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

/// Runs a container to its end while a thread receives.
fn received<T: Send + 'static>(stage: &Stage, receive: impl FnOnce() -> T + Send + 'static) -> T {
    let receiver = std::thread::spawn(receive);
    run(async {
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        exited(&mut events).await;
        stage.leave(&client).await;
    });
    receiver.join().expect("received")
}

/// Puts a datagram into a buffer.
type Receive = Box<dyn FnMut(&mut [u8]) -> usize + Send>;

#[test]
fn syslog_messages_arrive_over_every_transport() {
    const SCRIPT: &str = "echo one; echo two >&2; sleep 0.05; echo -n three";
    let check = |name: &str, mut messages: Vec<String>| {
        messages.sort_by_key(|message| ["one", "two", "three"].iter().position(|word| *word == text(message)));
        let heads: Vec<&str> = messages.iter().map(|message| &message[..6]).collect();
        let texts: Vec<&str> = messages.iter().map(|message| text(message)).collect();
        assert_eq!(texts, ["one", "two", "three"], "{name}: {messages:?}");
        assert_eq!(heads, ["<30>1 ", "<27>1 ", "<30>1 "], "{name}");
    };
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    udp.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let address = Address::Udp {
        host: "127.0.0.1".into(),
        port: udp.local_addr().expect("an address").port(),
    };
    let datagrams = |mut receive: Receive| {
        move || {
            let mut buffer = [0u8; 2048];
            let message = |_| {
                let length = receive(&mut buffer);
                String::from_utf8(buffer[..length].to_vec()).expect("text")
            };
            (0..3).map(message).collect::<Vec<_>>()
        }
    };
    let receive = datagrams(Box::new(move |buffer| udp.recv(buffer).expect("a datagram")));
    check("udp", received(&staged(SCRIPT, to(address)), receive));

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("dgram");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let unix = |path, datagram| Address::Unix {
        paths: vec!["/nonexistent/log".into(), path],
        datagram,
    };
    let receive = datagrams(Box::new(move |buffer| socket.recv(buffer).expect("a datagram")));
    // Asked for as a stream, which it is not.
    check("unixgram", received(&staged(SCRIPT, to(unix(path, false))), receive));

    let lines = |mut stream: Box<dyn std::io::Read + Send>| {
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("text");
        all.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let path = dir.path().join("stream");
    let socket = UnixListener::bind(&path).expect("a socket");
    let receive = move || lines(Box::new(socket.accept().expect("a connection").0));
    check("unix", received(&staged(SCRIPT, to(unix(path, false))), receive));

    let (socket, port) = listener();
    let receive = move || lines(Box::new(accepted(&socket)));
    check("tcp", received(&staged(SCRIPT, to(tcp(port))), receive));
}

#[test]
fn a_hung_target_blocks_neither_the_container_nor_its_log() {
    let (listener, port) = listener();
    let stage = staged("seq 1 300000; echo end", to(tcp(port)));
    run(async {
        let (client, mut events) = stage.launch(Vec::new()).await;
        let hung = accepted(&listener);
        client.start().await.expect("started");
        exited(&mut events).await;
        let state = client.state().await.expect("a state");
        assert!(state.log_dropped > 0, "what was not taken is counted");
        assert!(stage.log_text().ends_with("299999\n300000\nend\n"));
        assert_eq!(stage.log_text().lines().count(), 300_001);
        stage.leave(&client).await;
        drop(hung);
    });
}

#[test]
fn a_slow_target_gets_every_line_in_order() {
    let (listener, port) = listener();
    let stage = staged("seq 1 200000", to(tcp(port)));
    let all = received(&stage, move || {
        let mut stream = accepted(&listener);
        let (mut all, mut buffer) = (Vec::new(), vec![0u8; 256 << 10]);
        loop {
            let length = stream.read(&mut buffer).expect("bytes");
            if length == 0 {
                return String::from_utf8(all).expect("text");
            }
            all.extend_from_slice(&buffer[..length]);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let numbers = all.lines().map(|line| text(line).parse::<u32>().expect("a number"));
    assert!(numbers.eq(1..=200_000));
}

#[test]
fn a_target_that_comes_late_is_told_what_it_missed() {
    let (early, port) = listener();
    drop(early);
    let plan = TargetPlan {
        buffer_bytes: 2000,
        waits: false,
        ..to(tcp(port))
    };
    let stage = staged("seq 1 1000; sleep 600", plan);
    run(async {
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        eventually("everything is written", || stage.log_text().ends_with("1000\n"));
        let state = client.state().await.expect("a state");
        let dropped = state.log_dropped;
        assert!(dropped > 0 && state.log_error.is_some(), "{state:?}");
        let late = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port");
        let mut stream = accepted(&late);
        let (mut all, mut buffer) = (String::new(), [0u8; 4096]);
        let end = Instant::now() + DEADLINE;
        while !all.contains("dropped") {
            let length = stream.read(&mut buffer).expect("bytes");
            assert!(length > 0 && Instant::now() < end, "{all}");
            all.push_str(std::str::from_utf8(&buffer[..length]).expect("text"));
        }
        let kept = 1000 - dropped;
        let texts: Vec<&str> = all.lines().map(text).collect();
        let numbers: Vec<String> = (1..=kept).map(|number| number.to_string()).collect();
        assert_eq!(texts[..texts.len() - 1], numbers);
        assert!(texts[texts.len() - 1].starts_with(&format!("wharf: {dropped} log lines were dropped")));
        let state = client.state().await.expect("a state");
        assert_eq!(state.log_error, None);
        client.kill(9).await.expect("killed");
        exited(&mut events).await;
        stage.leave(&client).await;
    });
}

#[test]
fn an_unconfirmed_message_is_sent_again() {
    let (listener, port) = listener();
    let format = Format::Fluentd {
        tag: "tag".into(),
        record: Default::default(),
        sub_second: false,
        ack: true,
    };
    let plan = TargetPlan {
        format,
        ..to(tcp(port))
    };
    let chunk = |stream: &mut TcpStream| {
        let (mut all, mut buffer) = (Vec::new(), [0u8; 4096]);
        loop {
            let marker = all.windows(7).position(|part: &[u8]| part == b"chunk\xd9\x20");
            // The chunk's 32 digits end the message.
            if marker.is_some_and(|at| all.len() >= at + 7 + 32) {
                break;
            }
            let length = stream.read(&mut buffer).expect("bytes");
            assert!(length > 0);
            all.extend_from_slice(&buffer[..length]);
        }
        all.split_off(all.len() - 32)
    };
    let (first, second) = received(&staged("echo hello", plan), move || {
        let first = chunk(&mut accepted(&listener));
        let mut stream = accepted(&listener);
        let second = chunk(&mut stream);
        stream.write_all(b"\x81\xa3ack\xd9\x20").expect("sent");
        stream.write_all(&second).expect("sent");
        (first, second)
    });
    assert_eq!(first, second);
}

#[test]
fn rotated_files_are_compressed_while_the_container_writes() {
    let mut stage = Stage::new("seq 1 60000");
    let log = stage.plan.log.as_mut().expect("a log");
    (log.max_bytes, log.max_files, log.compress) = (512 << 10, 20, true);
    run(async {
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        exited(&mut events).await;
        let directory = stage.log_path().parent().expect("a parent").to_path_buf();
        let named = |end: &str| {
            let entries = std::fs::read_dir(&directory).expect("a listing").flatten();
            let names = entries.map(|entry| entry.file_name().into_string().expect("a name"));
            names.filter(|name| name.ends_with(end)).count()
        };
        eventually("all rotated files are compressed", || {
            named(".gz") >= 8 && named("log") == 1 && named(".pack") == 0
        });
        let expected: String = (1..=60_000).map(|number| format!("{number}\n")).collect();
        assert!(stage.log_text() == expected);
        stage.leave(&client).await;
    });
}
