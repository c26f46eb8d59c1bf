//! Clients at the container's streams.

use std::io::Write as _;
use std::net::Shutdown;

use wharf_shim::plan::{AttachSpec, ConsoleSize, StdioPlan};
use wharf_shim::protocol::Event;

use crate::stage::{Stage, connection, exited, outputs, read_all, read_until, run};

const PIPED: StdioPlan = StdioPlan {
    terminal: false,
    open_stdin: true,
    stdin_once: true,
    console_size: None,
};

fn terminal() -> StdioPlan {
    let console_size = Some(ConsoleSize { rows: 30, cols: 100 });
    StdioPlan {
        terminal: true,
        open_stdin: true,
        stdin_once: false,
        console_size,
    }
}

fn typing() -> AttachSpec {
    AttachSpec {
        stdin: true,
        detach_keys: AttachSpec::DEFAULT_DETACH_KEYS.into(),
        ..outputs()
    }
}

#[test]
fn two_clients_see_the_same_and_frames_tell_the_streams_apart() {
    run(async {
        let stage = Stage::new("echo out; echo err >&2");
        let ((first, first_fd), (second, second_fd)) = (connection(), connection());
        let framed = AttachSpec {
            framed: true,
            ..outputs()
        };
        let errors_only = AttachSpec {
            stdout: false,
            preface: b"hello ".to_vec(),
            ..outputs()
        };
        let (client, mut events) = stage.launch(vec![(framed, first_fd), (errors_only, second_fd)]).await;
        client.start().await.expect("started");
        let frames = read_all(first).await;
        let (out, err) = (b"\x01\0\0\0\0\0\0\x04out\n", b"\x02\0\0\0\0\0\0\x04err\n");
        assert!(
            frames == [&out[..], err].concat() || frames == [&err[..], out].concat(),
            "{frames:?}"
        );
        assert_eq!(read_all(second).await, b"hello err\n");
        exited(&mut events).await;
        stage.leave(&client).await;
    });
}

#[test]
fn input_typed_before_the_start_arrives_and_its_end_ends_the_process() {
    run(async {
        let stage = Stage::new("cat; echo done").with_stdio(PIPED);
        let (mut ours, theirs) = connection();
        let spec = AttachSpec {
            early_stdin: b"one\n".to_vec(),
            ..typing()
        };
        let (client, mut events) = stage.launch(vec![(spec, theirs)]).await;
        ours.write_all(b"two\n").expect("written");
        ours.shutdown(Shutdown::Write).expect("half closed");
        client.start().await.expect("started");
        assert_eq!(read_all(ours).await, b"one\ntwo\ndone\n");
        assert_eq!(exited(&mut events).await.code, 0);
        stage.leave(&client).await;
    });
}

#[test]
fn large_input_flows_through_a_small_pipe() {
    run(async {
        let stage = Stage::new("wc -c; echo end").with_stdio(PIPED);
        let (mut ours, theirs) = connection();
        let (client, mut events) = stage.launch(vec![(typing(), theirs)]).await;
        client.start().await.expect("started");
        let mut writer = ours.try_clone().expect("a duplicate");
        let written = tokio::task::spawn_blocking(move || {
            writer.write_all(&vec![7; 3_000_000]).expect("written");
            writer.shutdown(Shutdown::Write).expect("half closed");
        });
        assert_eq!(
            read_all(ours.try_clone().expect("a duplicate")).await,
            b"3000000\nend\n"
        );
        written.await.expect("written");
        exited(&mut events).await;
        ours.flush().expect("nothing left");
        stage.leave(&client).await;
    });
}

#[test]
fn a_client_that_goes_at_once_leaves_its_input_behind() {
    run(async {
        let stage = Stage::new("sleep 0.3; wc -c").with_stdio(PIPED);
        let (mut ours, theirs) = connection();
        let (client, mut events) = stage.launch(vec![(typing(), theirs)]).await;
        client.start().await.expect("started");
        // More than the pipe and what is typed ahead can hold, so that some is still in the socket.
        ours.set_nonblocking(true).expect("non-blocking");
        let mut sent = 0;
        for _ in 0..100 {
            match ours.write(&[7; 4096]) {
                Ok(length) => sent += length,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            }
        }
        drop(ours);
        assert_eq!(exited(&mut events).await.code, 0);
        assert_eq!(stage.log_text(), format!("{sent}\n"));
        stage.leave(&client).await;
    });
}

#[test]
fn input_stays_open_for_the_next_client_unless_asked_otherwise() {
    run(async {
        let stage = Stage::new("cat").with_stdio(StdioPlan {
            stdin_once: false,
            ..PIPED
        });
        let (mut first, fd) = connection();
        let (client, mut events) = stage.launch(vec![(typing(), fd)]).await;
        client.start().await.expect("started");
        first.write_all(b"first\n").expect("written");
        read_until(&first, "first\n").await;
        first.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(read_all(first).await, b"", "the end of input ends the attachment");
        let (mut second, fd) = connection();
        client.attach(typing(), fd).await.expect("attached");
        second.write_all(b"second\n").expect("written");
        read_until(&second, "second\n").await;
        client.close_stdin().await.expect("closed");
        assert_eq!(exited(&mut events).await.code, 0);
        stage.leave(&client).await;
    });
}

#[test]
fn a_terminal_has_its_size_from_the_start_and_follows_changes() {
    run(async {
        let stage = Stage::new("stty size; read go; stty size").with_stdio(terminal());
        let (mut ours, theirs) = connection();
        let (client, mut events) = stage.launch(vec![(typing(), theirs)]).await;
        client.start().await.expect("started");
        read_until(&ours, "30 100\r\n").await;
        client
            .resize(ConsoleSize { rows: 40, cols: 120 })
            .await
            .expect("resized");
        ours.write_all(b"\n").expect("typed");
        read_until(&ours, "40 120\r\n").await;
        assert_eq!(exited(&mut events).await.code, 0);
        assert!(stage.log_text().contains("40 120\r\n"));
        stage.leave(&client).await;
    });
}

#[test]
fn the_detach_keys_leave_the_container_running() {
    run(async {
        let stage = Stage::new("echo ready; cat").with_stdio(terminal());
        let (mut ours, theirs) = connection();
        let (client, mut events) = stage.launch(vec![(typing(), theirs)]).await;
        client.start().await.expect("started");
        read_until(&ours, "ready").await;
        ours.write_all(b"\x10\x11").expect("typed");
        assert_eq!(events.next().await, Some(Event::Detached { exec: None }));
        read_all(ours).await;
        let (mut again, fd) = connection();
        client.attach(typing(), fd).await.expect("attached");
        again.write_all(b"hello\n\x04").expect("typed");
        read_until(&again, "hello").await;
        assert_eq!(exited(&mut events).await.code, 0);
        stage.leave(&client).await;
    });
}

#[test]
fn a_client_that_joins_late_and_never_reads_holds_nobody_up() {
    run(async {
        let stage = Stage::new("read go; seq 1 400000; echo the end").with_stdio(StdioPlan {
            stdin_once: false,
            ..PIPED
        });
        let (mut typist, fd) = connection();
        let spec = AttachSpec {
            stdin: true,
            ..AttachSpec::default()
        };
        let (client, mut events) = stage.launch(vec![(spec, fd)]).await;
        client.start().await.expect("started");
        let (_never_reads, fd) = connection();
        client.attach(outputs(), fd).await.expect("attached");
        typist.write_all(b"go\n").expect("typed");
        assert_eq!(exited(&mut events).await.code, 0);
        assert!(stage.log_text().ends_with("the end\n"));
        stage.leave(&client).await;
    });
}
