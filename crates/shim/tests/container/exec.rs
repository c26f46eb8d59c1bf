//! Further processes in a running container.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;
use wharf_shim::plan::{AttachSpec, ConsoleSize, ExecPlan, StdioPlan};
use wharf_shim::protocol::FaultKind;

use crate::stage::{Stage, connection, exec_exited, exited, outputs, read_all, read_until, run};

fn exec(id: &str, args: &[&str], stdio: StdioPlan) -> ExecPlan {
    let process = json!({"args": args, "cwd": "/", "env": ["PATH=/bin", "TERM=xterm"], "user": {"uid": 0, "gid": 0}});
    ExecPlan {
        id: id.into(),
        process,
        stdio,
        ..ExecPlan::default()
    }
}

#[test]
fn an_exec_has_streams_and_an_exit_of_its_own() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        let (ours, theirs) = connection();
        let plan = exec(
            "e1",
            &["sh", "-c", "hostname; echo oops >&2; exit 42"],
            StdioPlan::default(),
        );
        client
            .exec(
                plan,
                vec![(
                    AttachSpec {
                        framed: true,
                        ..outputs()
                    },
                    theirs,
                )],
            )
            .await
            .expect("runs");
        let (id, exit) = exec_exited(&mut events).await;
        assert_eq!((id.as_str(), exit.code), ("e1", 42));
        assert_eq!(client.state().await.expect("a state").execs[0].exit, Some(exit));
        client.acknowledge_exec("e1").await.expect("taken");
        let frames = read_all(ours).await;
        let text = String::from_utf8_lossy(&frames);
        assert!(text.contains("stage\n") && text.contains("oops\n"), "{text:?}");
        assert!(client.state().await.expect("a state").execs.is_empty());
        assert_eq!(stage.log_text(), "", "an exec does not write to the container's log");
        client.kill(9).await.expect("killed");
        exited(&mut events).await;
        stage.leave(&client).await;
    });
}

#[test]
fn the_end_of_an_execs_stream_waits_for_its_exit_to_be_taken() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        let (ours, theirs) = connection();
        client
            .exec(
                exec("e1", &["echo", "hi"], StdioPlan::default()),
                vec![(outputs(), theirs)],
            )
            .await
            .expect("runs");
        read_until(&ours, "hi\n").await;
        exec_exited(&mut events).await;
        ours.set_nonblocking(true).expect("non-blocking");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let early = std::io::Read::read(&mut &ours, &mut [0u8; 1]).map_err(|error| error.kind());
        assert_eq!(early, Err(std::io::ErrorKind::WouldBlock));
        ours.set_nonblocking(false).expect("blocking");
        client.acknowledge_exec("e1").await.expect("taken");
        assert_eq!(read_all(ours).await, b"");
        client.destroy().await.expect("destroyed");
    });
}

#[test]
fn what_cannot_be_executed_is_told_apart() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, _events) = stage.launch(Vec::new()).await;
        let early = client
            .exec(exec("e0", &["true"], StdioPlan::default()), Vec::new())
            .await;
        assert_eq!(
            early.expect_err("not running").fault().map(|fault| fault.kind),
            Some(FaultKind::Conflict)
        );
        client.start().await.expect("started");
        for (args, kind) in [
            (["nosuch"], FaultKind::CommandNotFound),
            (["/etc"], FaultKind::CommandNotExecutable),
        ] {
            let (_ours, theirs) = connection();
            let failed = client
                .exec(exec("e1", &args, StdioPlan::default()), vec![(outputs(), theirs)])
                .await;
            assert_eq!(
                failed.expect_err("it cannot run").fault().map(|fault| fault.kind),
                Some(kind),
                "{args:?}"
            );
        }
        assert!(client.state().await.expect("a state").execs.is_empty());
        client.destroy().await.expect("destroyed");
    });
}

#[test]
fn an_exec_reads_its_client_to_the_end_and_has_a_terminal_on_request() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        let typing = AttachSpec {
            stdin: true,
            ..outputs()
        };
        let (mut ours, theirs) = connection();
        let piped = StdioPlan {
            open_stdin: true,
            ..StdioPlan::default()
        };
        client
            .exec(exec("cat", &["cat"], piped), vec![(typing.clone(), theirs)])
            .await
            .expect("runs");
        ours.write_all(b"x y").expect("written");
        ours.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(exec_exited(&mut events).await.1.code, 0);
        client.acknowledge_exec("cat").await.expect("taken");
        assert_eq!(read_all(ours).await, b"x y");

        let (mut ours, theirs) = connection();
        let console_size = Some(ConsoleSize { rows: 11, cols: 22 });
        let tty = StdioPlan {
            terminal: true,
            console_size,
            ..piped
        };
        client
            .exec(
                exec("tty", &["sh", "-c", "stty size; read go; stty size"], tty),
                vec![(typing, theirs)],
            )
            .await
            .expect("runs");
        read_until(&ours, "11 22\r\n").await;
        client
            .exec_resize("tty", ConsoleSize { rows: 33, cols: 44 })
            .await
            .expect("resized");
        ours.write_all(b"\n").expect("typed");
        read_until(&ours, "33 44\r\n").await;
        assert_eq!(exec_exited(&mut events).await.1.code, 0);
        client.destroy().await.expect("destroyed");
    });
}

#[test]
fn the_end_of_the_container_ends_its_execs_first() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        client
            .exec(exec("e1", &["sleep", "100"], StdioPlan::default()), Vec::new())
            .await
            .expect("runs");
        client.kill(9).await.expect("killed");
        assert_eq!(exec_exited(&mut events).await.1.code, 137);
        assert_eq!(exited(&mut events).await.code, 137);
        stage.leave(&client).await;
    });
}
