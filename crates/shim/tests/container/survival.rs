//! The engine dies; the container does not notice.

use std::time::Duration;

use wharf_shim::client::{connect, read_exit};
use wharf_shim::protocol::Phase;

use crate::stage::{Stage, connection, eventually, exited, outputs, read_all, read_until, run};

const COUNT: &str = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i; sleep 0.01; done; exit 5";

fn counted() -> String {
    (1..=100).map(|number| format!("line {number}\n")).collect()
}

#[test]
fn another_engine_takes_over_where_the_first_left() {
    run(async {
        let stage = Stage::new(COUNT);
        let (ours, theirs) = connection();
        let (client, events) = stage.launch(vec![(outputs(), theirs)]).await;
        client.start().await.expect("started");
        read_until(&ours, "line 3\n").await;
        drop((client, events));
        let (client, mut events) = connect(&stage.home()).await.expect("reconnected");
        assert_eq!(client.state().await.expect("a state").phase, Phase::Running);
        assert!(
            String::from_utf8(read_all(ours).await)
                .expect("text")
                .ends_with("line 100\n")
        );
        assert_eq!(exited(&mut events).await.code, 5);
        assert_eq!(stage.log_text(), counted());
        stage.leave(&client).await;
    });
}

#[test]
fn an_exit_while_no_engine_lives_waits_to_be_taken() {
    run(async {
        let stage = Stage::new("echo bye; exit 9");
        let (client, events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        drop((client, events));
        eventually("the exit is on disk", || read_exit(&stage.home()).is_some());
        let (client, _events) = connect(&stage.home()).await.expect("the shim waits");
        let state = client.state().await.expect("a state");
        assert_eq!((state.phase, state.pid), (Phase::Exited, 0));
        assert_eq!(state.exit.map(|exit| exit.code), Some(9));
        assert_eq!(stage.log_text(), "bye\n");
        stage.leave(&client).await;
    });
}

#[test]
fn several_engines_may_be_connected_at_once() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (first, mut first_events) = stage.launch(Vec::new()).await;
        let (second, mut second_events) = connect(&stage.home()).await.expect("connected");
        first.start().await.expect("started");
        assert_eq!(second.state().await.expect("a state").phase, Phase::Running);
        second.kill(15).await.expect("sent");
        second.kill(9).await.expect("killed");
        assert_eq!(exited(&mut first_events).await, exited(&mut second_events).await);
        stage.leave(&first).await;
    });
}

#[test]
fn a_shim_that_gets_no_order_ends_and_leaves_its_place_free() {
    run(async {
        let stage = Stage::new("exit 3");
        let launcher = wharf_shim::client::ShimLauncher::new(crate::stage::shim_binary());
        let spawned = launcher.spawn(&stage.home(), &stage.plan.id).await.expect("spawned");
        assert!(wharf_shim::client::is_kept(&stage.home()));
        drop(spawned);
        eventually("the shim ends", || !stage.home().exists());
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        assert_eq!(exited(&mut events).await.code, 3);
        stage.leave(&client).await;
    });
}

/// Run by the next test in a process of its own.
#[test]
fn engine_to_be_killed() {
    let Some(home) = std::env::var_os("WHARF_TEST_STAGE") else {
        return;
    };
    run(async move {
        let home = std::path::PathBuf::from(home);
        let plan = std::fs::read(home.with_file_name("plan.json")).expect("a plan");
        let plan = serde_json::from_slice(&plan).expect("a plan");
        let launcher = wharf_shim::client::ShimLauncher::new(crate::stage::shim_binary());
        let launched = launcher.launch(&home, &plan, Vec::new()).await.expect("launched");
        launched.client.start().await.expect("started");
        tokio::time::sleep(Duration::from_secs(20)).await;
    });
}

#[test]
fn killing_the_engine_costs_neither_the_container_nor_a_line() {
    run(async {
        let stage = Stage::new(COUNT);
        stage.write_config();
        let plan = serde_json::to_vec(&stage.plan).expect("JSON");
        std::fs::write(stage.home().with_file_name("plan.json"), plan).expect("written");
        let mut engine = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "survival::engine_to_be_killed", "--nocapture"])
            .env("WHARF_TEST_STAGE", stage.home())
            .env("WHARF_SHIM", crate::stage::shim_binary())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("an engine");
        eventually("it counts", || stage.log_text().lines().count() > 5);
        engine.kill().expect("killed");
        engine.wait().expect("ended");
        let (client, mut events) = connect(&stage.home()).await.expect("the shim lives");
        assert_eq!(exited(&mut events).await.code, 5);
        assert_eq!(stage.log_text(), counted());
        stage.leave(&client).await;
    });
}
