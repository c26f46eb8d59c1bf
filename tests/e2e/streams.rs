//! Standard streams: attach, exec, logs, terminals.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wharf_testkit::{Sandbox, run};

/// Runs a shell line under a pseudo terminal of its own, as a person at a keyboard would.
fn on_a_terminal(s: &Sandbox, line: &str, typed: &str) -> String {
    let mut command = Command::new("script");
    command
        .args(["-qec", line, "/dev/null"])
        .env("DOCKER_HOST", format!("unix://{}", s.socket().display()))
        .env("TERM", "xterm");
    run(&mut command, typed.as_bytes(), Duration::from_secs(30))
        .unwrap()
        .stdout
}

#[test]
fn stdin_flows_in_and_both_outputs_stay_apart() {
    let s = Sandbox::with_busybox();
    let out = s.docker_fed(
        &["run", "-i", "--rm", "busybox", "sh", "-c", "cat; echo err >&2"],
        b"one\ntwo\n",
    );
    assert_eq!((out.ok(), out.stderr.trim()), ("one\ntwo", "err"));
}

#[test]
fn a_megabyte_goes_through_unharmed() {
    let s = Sandbox::with_busybox();
    let data = (0..200_000).map(|i| format!("{i}\n")).collect::<String>();
    let out = s.docker_fed(&["run", "-i", "--rm", "busybox", "cat"], data.as_bytes());
    assert_eq!(out.code, 0);
    assert!(out.stdout == data, "{} bytes of {}", out.stdout.len(), data.len());
}

#[test]
fn a_terminal_is_a_terminal_with_its_size() {
    let s = Sandbox::with_busybox();
    let seen = on_a_terminal(
        &s,
        "stty rows 33 cols 77; docker run -it --rm busybox sh -c 'tty; sleep 0.3; stty size'",
        "",
    );
    assert!(seen.contains("/dev/pts/0") && seen.contains("33 77"), "{seen}");
}

#[test]
fn exec_runs_beside_and_answers_with_its_code() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "x1",
        "-e",
        "FROM=container",
        "busybox",
        "sleep",
        "60",
    ])
    .ok();
    assert_eq!(
        s.docker(&[
            "exec",
            "-e",
            "MORE=1",
            "-w",
            "/tmp",
            "-u",
            "33",
            "x1",
            "sh",
            "-c",
            "echo $FROM $MORE $PWD $(id -u)"
        ])
        .ok(),
        "container 1 /tmp 33"
    );
    assert_eq!(s.docker(&["exec", "x1", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(s.docker(&["exec", "x1", "nothing-here"]).code, 127);
    assert_eq!(s.docker_fed(&["exec", "-i", "x1", "cat"], b"fed").ok(), "fed");
    let seen = on_a_terminal(&s, "docker exec -it x1 tty", "");
    assert!(seen.contains("/dev/pts/"), "{seen}");
    s.docker(&["exec", "-d", "x1", "touch", "/tmp/detached"]).ok();
    s.eventually(Duration::from_secs(5), "the detached exec ran", || {
        s.docker(&["exec", "x1", "ls", "/tmp/detached"]).code == 0
    });
}

/// What the first look at the answer to an exec finds, by a client that is slow to look, and how slow it was.
fn first_of_an_exec(s: &Sandbox) -> (String, Duration) {
    let exec = r#"{"AttachStdout":true,"Cmd":["echo","out"]}"#;
    let (_, made) = s.api("POST", "/containers/x1/exec", exec);
    let body = r#"{"Detach":false,"Tty":false}"#;
    let path = format!("/exec/{}/start", made["Id"].as_str().unwrap());
    let mut client = UnixStream::connect(s.socket()).unwrap();
    let head = "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json";
    let begun = Instant::now();
    write!(
        client,
        "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    // Longer than the exec takes.
    std::thread::sleep(Duration::from_millis(40));
    let mut piece = [0; 4096];
    let length = client.read(&mut piece).unwrap();
    let took = begun.elapsed();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    let first = String::from_utf8_lossy(&piece[..length]).into_owned();
    assert!(format!("{first}{rest}").ends_with("out\n"), "{first:?} {rest:?}");
    (first, took)
}

#[test]
fn a_client_that_is_slow_to_read_gets_the_head_of_an_execs_answer_by_itself() {
    let s = Sandbox::with_busybox();
    s.docker(&["run", "-d", "--name", "x1", "busybox", "sleep", "1000"])
        .ok();
    // It is waited for 100 ms; on a busy machine a client may be slower than it means to be.
    let in_time = |(_, took): &(String, Duration)| *took < Duration::from_millis(90);
    let firsts: Vec<_> = (0..50).map(|_| first_of_an_exec(&s)).filter(in_time).take(5).collect();
    assert_eq!(firsts.len(), 5, "the machine is too busy for this test");
    assert!(
        firsts.iter().all(|(first, _)| first.ends_with("\r\n\r\n")),
        "{firsts:?}"
    );
}

#[test]
fn several_clients_attach_at_once() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-di",
        "--name",
        "a1",
        "busybox",
        "sh",
        "-c",
        "read go; i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done",
    ])
    .ok();
    let mut readers: Vec<_> = (0..3)
        .map(|_| {
            s.docker_command()
                .args(["attach", "--no-stdin", "a1"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    s.eventually(Duration::from_secs(10), "three attached", || {
        s.events(&["event=attach"]).len() >= 3
    });
    s.docker_fed(&["attach", "a1"], b"go\n");
    for reader in &mut readers {
        let mut text = String::new();
        reader.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        reader.wait().unwrap();
        assert_eq!(text.lines().count(), 100, "{text}");
    }
}

#[test]
fn logs_tail_since_and_follow() {
    let s = Sandbox::with_busybox();
    s.docker(&[
        "run",
        "-d",
        "--name",
        "l1",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo out $i; done; echo bad >&2; sleep 3; echo last",
    ])
    .ok();
    s.eventually(Duration::from_secs(5), "five lines", || {
        s.docker(&["logs", "l1"]).stdout.lines().count() >= 5
    });
    let mut follower = s
        .docker_command()
        .args(["logs", "-f", "--tail", "0", "l1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    assert!(lines.next().is_none(), "the follower ends with the container");
    follower.wait().unwrap();
    assert_eq!(s.docker(&["logs", "--tail", "2", "l1"]).stdout, "last\n");
    assert_eq!(s.docker(&["logs", "l1"]).stderr, "bad\n");
    let stamped = s.docker(&["logs", "-t", "l1"]);
    assert!(
        stamped
            .ok()
            .lines()
            .all(|l| l.split(' ').next().is_some_and(|t| t.len() == 30 && t.ends_with('Z'))),
        "{stamped}"
    );
}

#[test]
fn detach_keys_leave_the_container_running() {
    let s = Sandbox::with_busybox();
    let mut command = Command::new("script");
    command
        .args(["-qec", "docker run -it --name d1 busybox sh", "/dev/null"])
        .env("DOCKER_HOST", format!("unix://{}", s.socket().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let running = || s.docker(&["inspect", "-f", "{{.State.Running}}", "d1"]).stdout.trim() == "true";
    s.eventually(Duration::from_secs(10), "it runs", running);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"\x10\x11").unwrap();
    stdin.flush().unwrap();
    s.eventually(Duration::from_secs(10), "the client detached", || {
        matches!(child.try_wait(), Ok(Some(_)))
    });
    assert!(running());
}

#[test]
fn logs_are_bounded_by_default_options() {
    let s = Sandbox::with_busybox();
    let flags = ["--log-opt", "max-size=64k", "--log-opt", "max-file=2"];
    let script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789 $i; i=$((i+1)); done";
    s.docker(
        &[
            &["run", "--name", "flood"][..],
            &flags,
            &["busybox", "sh", "-c", script],
        ]
        .concat(),
    );
    let dir = s
        .root()
        .join("containers")
        .join(s.docker(&["inspect", "-f", "{{.Id}}", "flood"]).ok())
        .join("logs");
    let used: u64 = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(used < 200_000, "{used} bytes of log");
    assert!(s.docker(&["logs", "--tail", "1", "flood"]).ok().ends_with(" 19999"));
}
