//! From launch to the end.

use std::time::Duration;

use wharf_shim::client::{CallError, LaunchError, connect};
use wharf_shim::protocol::{Event, FaultKind, Phase};

use crate::stage::{Stage, connection, eventually, exited, outputs, read_all, run};

#[test]
fn a_container_runs_and_its_end_is_reported_after_its_last_word() {
    run(async {
        let stage = Stage::new("echo out; echo err >&2; exit 7");
        let (ours, theirs) = connection();
        let (client, mut events) = stage.launch(vec![(outputs(), theirs)]).await;
        assert_eq!(client.state().await.expect("a state").phase, Phase::Created);
        client.start().await.expect("started");
        let exit = exited(&mut events).await;
        assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
        assert!(exit.started_at_ns > 0 && exit.exited_at_ns >= exit.started_at_ns);
        assert_eq!(stage.log_text(), "out\nerr\n");
        let text = String::from_utf8(read_all(ours).await).expect("text");
        assert!(text.contains("out\n") && text.contains("err\n"), "{text}");
        assert_eq!(wharf_shim::client::read_exit(&stage.home()), Some(exit));
        stage.leave(&client).await;
    });
}

#[test]
fn not_one_byte_of_three_megabytes_is_lost() {
    run(async {
        let stage = Stage::new("seq 1 400000; echo -n end");
        let (ours, theirs) = connection();
        let (client, mut events) = stage.launch(vec![(outputs(), theirs)]).await;
        client.start().await.expect("started");
        // The client reads only later: the process is throttled, nothing is dropped.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let got = read_all(ours).await;
        let expected: String = (1..=400_000)
            .map(|n| format!("{n}\n"))
            .chain(["end".to_owned()])
            .collect();
        assert!(
            got == expected.as_bytes(),
            "{} bytes instead of {}",
            got.len(),
            expected.len()
        );
        exited(&mut events).await;
        assert!(stage.log_text() == expected);
        stage.leave(&client).await;
    });
}

#[test]
fn a_missing_command_fails_the_start_with_127() {
    run(async {
        let mut stage = Stage::new("");
        stage.config["process"]["args"] = serde_json::json!(["/no/such/command"]);
        let (client, mut events) = match stage.try_launch(Vec::new()).await {
            Ok(launched) => (launched.client, launched.events),
            Err(LaunchError::Create(fault)) => {
                assert_eq!(fault.kind, FaultKind::CommandNotFound, "{fault:?}");
                assert!(!stage.home().exists(), "the shim left its directory");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let error = client.start().await.expect_err("no such command");
        assert_eq!(
            error.fault().map(|fault| fault.kind),
            Some(FaultKind::CommandNotFound),
            "{error}"
        );
        assert_eq!(exited(&mut events).await.code, 127);
        stage.leave(&client).await;
    });
}

#[test]
fn a_broken_configuration_fails_the_launch_and_leaves_nothing() {
    run(async {
        let mut stage = Stage::new("");
        stage.config["process"] = "nonsense".into();
        let error = stage.try_launch(Vec::new()).await.expect_err("nonsense");
        assert!(
            matches!(&error, LaunchError::Create(fault) if fault.kind == FaultKind::Invalid),
            "{error:?}"
        );
        assert!(!stage.home().exists(), "the shim left its directory");
    });
}

#[test]
fn a_signal_ends_the_container_with_128_and_its_number() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        client.kill(9).await.expect("killed");
        let exit = exited(&mut events).await;
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        let error = client.kill(9).await.expect_err("it has ended");
        assert_eq!(error.fault().map(|fault| fault.kind), Some(FaultKind::Conflict));
        stage.leave(&client).await;
    });
}

#[test]
fn a_container_over_its_memory_limit_is_reported_as_such() {
    run(async {
        let mut stage = Stage::new("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived");
        stage.config["linux"]["resources"] = serde_json::json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        let mut has_been_told = false;
        let exit = loop {
            match events.next().await.expect("the connection lives") {
                Event::OutOfMemory => has_been_told = true,
                Event::Exited(exit) => break exit,
                _ => {}
            }
        };
        assert!(has_been_told && exit.oom_killed, "{exit:?}");
        assert!(!stage.log_text().contains("survived"));
        stage.leave(&client).await;
    });
}

#[test]
fn a_paused_container_stands_still_and_dies_when_killed() {
    run(async {
        let stage = Stage::new("i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        eventually("it counts", || stage.log_text().lines().count() > 2);
        client.pause().await.expect("paused");
        assert_eq!(client.state().await.expect("a state").phase, Phase::Paused);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = stage.log_text();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stage.log_text(), before);
        client.resume().await.expect("resumed");
        eventually("it counts on", || stage.log_text().len() > before.len());
        client.pause().await.expect("paused");
        client.kill(9).await.expect("killed");
        assert_eq!(exited(&mut events).await.code, 137);
        stage.leave(&client).await;
    });
}

#[test]
fn limits_change_while_the_container_runs() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        let resources = wharf_cgroup::Resources {
            pids_limit: Some(33),
            ..Default::default()
        };
        client.update(resources).await.expect("updated");
        let hierarchy = wharf_cgroup::Hierarchy::probe().expect("a hierarchy");
        let group = wharf_cgroup::Cgroup::open(&hierarchy, &stage.cgroup_path()).expect("a group");
        assert_eq!(group.stats().expect("stats").pids.limit, Some(33));
        client.kill(9).await.expect("killed");
        exited(&mut events).await;
        stage.leave(&client).await;
    });
}

#[test]
fn a_created_container_can_be_destroyed_without_ever_running() {
    run(async {
        let stage = Stage::new("echo never");
        let (client, mut events) = stage.launch(Vec::new()).await;
        let refused = client.acknowledge_exit().await.expect_err("it has not ended");
        assert!(matches!(refused, CallError::Fault(fault) if fault.kind == FaultKind::Conflict));
        let pid = client.state().await.expect("a state").pid;
        client.destroy().await.expect("destroyed");
        assert_eq!(exited(&mut events).await.code, 137);
        eventually("init is gone", || wharf_shim::identity::start_ticks(pid).is_none());
        eventually("the directory is gone", || !stage.home().exists());
        assert!(connect(&stage.home()).await.is_err());
        assert_eq!(stage.log_text(), "");
    });
}

#[test]
fn a_second_shim_in_the_same_place_is_refused_and_the_first_not_harmed() {
    run(async {
        let mut stage = Stage::new("echo still here; exit 3");
        stage.plan.shim_cgroup = Some(stage.cgroup_path().replace("/c", "/shims"));
        let (client, mut events) = stage.launch(Vec::new()).await;
        let error = stage.try_launch(Vec::new()).await.expect_err("it is taken");
        assert!(
            matches!(&error, LaunchError::Create(fault) if fault.kind == FaultKind::Conflict),
            "{error:?}"
        );
        let shim = wharf_shim::client::shim_pid(&stage.home()).expect("a living shim");
        let groups = std::fs::read_to_string(format!("/proc/{shim}/cgroup")).expect("its groups");
        assert!(groups.contains("/shims"), "{groups}");
        client.start().await.expect("started");
        assert_eq!(exited(&mut events).await.code, 3);
        assert_eq!(stage.log_text(), "still here\n");
        stage.leave(&client).await;
    });
}

#[test]
fn nobody_can_write_to_the_program_of_a_shim() {
    run(async {
        let stage = Stage::new("sleep 100");
        let (client, _events) = stage.launch(Vec::new()).await;
        let shim = client.state().await.expect("a state").shim_pid;
        // Once nothing executes it any more, only the mount it is reached through forbids writing.
        let program = format!("/proc/{shim}/exe");
        let seen = rustix::fs::statvfs(&program).expect("its file system");
        let is_read_only = seen.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        // KERNEL(5.12): before, it is a copy in memory that takes no writes.
        let file = std::fs::File::open(&program).expect("its program");
        let is_sealed =
            rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE));
        assert!(is_read_only || is_sealed);
        client.destroy().await.expect("destroyed");
    });
}

#[test]
fn orphans_in_the_hosts_pid_namespace_are_killed_and_reaped() {
    run(async {
        let mut stage = Stage::new("sleep 1000 & sleep 1001 & echo started; exit 3");
        let namespaces = stage.config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| namespace["type"] != "pid");
        let (client, mut events) = stage.launch(Vec::new()).await;
        client.start().await.expect("started");
        assert_eq!(exited(&mut events).await.code, 3);
        assert_eq!(stage.log_text(), "started\n");
        stage.leave(&client).await;
    });
}
