//! Engines that are killed: containers do not notice, the next engine tells the truth, and
//! nothing leaks.
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use wharf_engine::model::requests::*;
use wharf_engine::model::{HostConfig, Status};
use wharf_engine::{Engine, ErrorKind};

use crate::stage::{Stage, import_busybox, logged, script};

/// Where the engine that is to be killed works.
const DIR: &str = "WHARF_TEST_CRASH_DIR";
const INSTANCE: &str = "WHARF_TEST_CRASH_INSTANCE";

#[test]
fn a_container_outlives_its_engine_and_loses_no_line() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let counting = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 3";
        engine
            .containers()
            .create(script("count", counting))
            .await
            .expect("create");
        engine.containers().start("count").await.expect("start");
    });
    stage.with_engine(|engine| async move {
        let seen = engine.containers().snapshot("count").expect("known");
        assert_eq!(seen.state.status, Status::Running);
        let end = engine
            .containers()
            .wait("count", WaitCondition::NotRunning)
            .await
            .expect("wait");
        assert_eq!(end.result().await.status_code, 3);
        let expected: String = (1..=60).map(|n| format!("{n}\n")).collect();
        assert_eq!(logged(&engine, "count").await, expected);
        engine
            .containers()
            .remove("count", RemoveOptions::default())
            .await
            .expect("remove");
    });
    stage.assert_nothing_left();
}

#[test]
fn an_end_that_no_engine_saw_is_told_by_the_next() {
    let stage = Stage::new();
    stage.with_engine(|engine| async move {
        let mut removed = script("auto", "sleep 0.3");
        removed.host.auto_remove = true;
        for request in [script("kept", "sleep 0.3; exit 9"), removed] {
            let created = engine.containers().create(request).await.expect("create");
            engine.containers().start(&created.id).await.expect("start");
        }
    });
    std::thread::sleep(Duration::from_millis(600));
    stage.with_engine(|engine| async move {
        let seen = engine.containers().snapshot("kept").expect("known");
        assert_eq!((seen.state.status, seen.state.exit_code), (Status::Exited, 9));
        let until = Instant::now() + Duration::from_secs(5);
        while engine.containers().snapshot("auto").is_ok() {
            assert!(Instant::now() < until, "not removed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        engine
            .containers()
            .remove("kept", RemoveOptions::default())
            .await
            .expect("remove");
    });
    stage.assert_nothing_left();
}

/// The engine that is killed: started by the test below in a process of its own.
#[test]
#[ignore = "started by killed_engines_leak_nothing"]
fn crashing_engine() {
    let (Some(dir), Ok(instance)) = (std::env::var_os(DIR), std::env::var(INSTANCE)) else {
        panic!("needs {DIR} and {INSTANCE}")
    };
    let runtime = Runtime::new().expect("runtime");
    runtime.block_on(async {
        let engine = Engine::start(Stage::config_at(Path::new(&dir), &instance))
            .await
            .expect("start");
        import_busybox(&engine).await;
        println!("working");
        for round in 0u32.. {
            let name = format!("r{}-{round}", std::process::id());
            let mut request = script(&name, "sleep 0.05");
            if round % 2 == 0 {
                request.host = HostConfig {
                    network_mode: "bridge".into(),
                    ..HostConfig::default()
                };
            }
            request.config.volumes = Some([("/data".to_owned(), Default::default())].into());
            let containers = engine.containers();
            containers.create(request).await.expect("create");
            containers.start(&name).await.expect("start");
            let exec = CreateExec {
                cmd: vec!["true".into()],
                ..CreateExec::default()
            };
            if let Ok(id) = containers.exec_create(&name, exec).await {
                let _ = containers.exec_start_detached(id.as_str(), StartExec::default()).await; // it may have ended
            }
            let options = StopOptions {
                signal: None,
                timeout_s: Some(0),
                ..StopOptions::default()
            };
            let _ = containers.stop(&name, options).await; // likewise
            let options = RemoveOptions {
                force: true,
                volumes: true,
                link: false,
            };
            containers.remove(&name, options).await.expect("remove");
        }
    });
}

#[test]
fn killed_engines_leak_nothing() {
    let stage = Stage::new();
    // A spread of moments: the first ones hit the start of the engine, the rest its work.
    for round in 0..12u64 {
        let mut engine = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "survival::crashing_engine", "--ignored", "--nocapture"])
            .env(DIR, stage.dir())
            .env(INSTANCE, stage.instance())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        std::thread::sleep(Duration::from_millis(120 + 137 * round));
        engine.kill().expect("kill");
        engine.wait().expect("reap");
    }
    let begun = Instant::now();
    stage.with_engine(|engine| async move {
        assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
        for record in engine.containers().snapshots() {
            let options = RemoveOptions {
                force: true,
                volumes: true,
                link: false,
            };
            match engine.containers().remove(record.id.as_str(), options).await {
                // The engine has just completed the removal that the one before had begun.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.expect("remove"),
            }
        }
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let volumes = engine.volumes().usage().await.expect("volumes");
            let journal = engine.shared().db.journal().expect("journal");
            if volumes.is_empty() && journal.is_empty() {
                return;
            }
            assert!(
                Instant::now() < end,
                "anonymous volumes {volumes:?} or operations {journal:?} left"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    stage.assert_nothing_left();
}
