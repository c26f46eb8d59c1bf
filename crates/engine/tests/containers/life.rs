//! A container's life: what callers see and what is left behind.
use wharf_engine::model::Status;
use wharf_engine::model::requests::*;
use wharf_engine::{Engine, ErrorKind};

use crate::stage::{Stage, logged, script};

#[test]
fn a_container_runs_logs_ends_and_leaves_nothing() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let containers = engine.containers();
        containers
            .create(script("one", "echo hello; exit 7"))
            .await
            .expect("create");
        let end = containers.wait("one", WaitCondition::NextExit).await.expect("wait");
        containers.start("one").await.expect("start");
        assert_eq!(end.result().await.status_code, 7);
        assert_eq!(logged(&engine, "one").await, "hello\n");
        let seen = containers.snapshot("one").expect("known");
        assert_eq!((seen.state.status, seen.state.exit_code), (Status::Exited, 7));
        containers
            .remove("one", RemoveOptions::default())
            .await
            .expect("remove");
        assert_eq!(
            containers.snapshot("one").expect_err("gone").kind(),
            ErrorKind::NotFound
        );
    });
    stage.assert_nothing_left();
}

#[test]
fn a_failed_start_says_why_and_leaves_nothing_running() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let containers = engine.containers();
        let mut request = script("bad", "");
        request.config.cmd = Some(vec!["no-such-command".into()]);
        containers.create(request).await.expect("create");
        let err = containers.start("bad").await.expect_err("fails");
        assert!(err.message().contains("executable file not found in $PATH"), "{err}");
        let seen = containers.snapshot("bad").expect("known");
        assert_eq!((seen.state.status, seen.state.exit_code), (Status::Created, 127));
        containers
            .remove("bad", RemoveOptions::default())
            .await
            .expect("remove");
    });
    stage.assert_nothing_left();
}

#[test]
fn a_stop_that_is_ignored_ends_in_a_kill() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let containers = engine.containers();
        let request = script("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done");
        containers.create(request).await.expect("create");
        containers.start("deaf").await.expect("start");
        while logged(&engine, "deaf").await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let options = StopOptions {
            signal: None,
            timeout_s: Some(1),
            ..StopOptions::default()
        };
        containers.stop("deaf", options).await.expect("stop");
        assert_eq!(containers.snapshot("deaf").expect("known").state.exit_code, 137);
        let again = containers
            .stop("deaf", StopOptions::default())
            .await
            .expect_err("stopped");
        assert_eq!(again.kind(), ErrorKind::NotModified);
    });
}

#[test]
fn the_same_call_twice_at_once_is_answered_twice() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let containers = engine.containers();
        containers.create(script("twice", "sleep 60")).await.expect("create");
        let (a, b) = tokio::join!(containers.start("twice"), containers.start("twice"));
        let kinds = [a, b].map(|r| r.err().map(|e| e.kind()));
        assert!(
            kinds.contains(&None) && kinds.contains(&Some(ErrorKind::NotModified)),
            "{kinds:?}"
        );
        let force = RemoveOptions {
            force: true,
            ..RemoveOptions::default()
        };
        let (a, b) = tokio::join!(containers.remove("twice", force), containers.remove("twice", force));
        assert!(a.is_ok() || b.is_ok(), "{a:?} {b:?}");
    });
    stage.assert_nothing_left();
}

#[test]
fn a_name_can_be_taken_again_after_a_removal() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let containers = engine.containers();
        for _ in 0..3 {
            let mut request = script("again", "true");
            request.host.auto_remove = true;
            containers.create(request).await.expect("create");
            let end = containers.wait("again", WaitCondition::Removed).await.expect("wait");
            containers.start("again").await.expect("start");
            assert_eq!(end.result().await.status_code, 0);
        }
        let taken = containers.create(script("again", "true")).await;
        taken.expect("free again");
        let conflict = containers.create(script("again", "true")).await.expect_err("taken");
        assert!(
            conflict
                .message()
                .starts_with("Conflict. The container name \"/again\""),
            "{conflict}"
        );
    });
}

#[test]
fn a_root_has_one_engine() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let second = Engine::start(engine.shared().config.clone()).await;
        let err = second.expect_err("refused");
        assert_eq!(err.kind(), ErrorKind::Conflict);
        assert!(err.message().contains("another engine"), "{err}");
    });
}
