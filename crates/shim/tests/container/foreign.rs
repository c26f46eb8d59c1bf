//! The same shim around the runtimes of others, wherever they are installed.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use wharf_shim::plan::{AttachSpec, ConsoleSize, ExecPlan, RootfsPlan, RuntimePlan, StdioPlan};
use wharf_shim::protocol::FaultKind;

use crate::stage::{Stage, connection, exec_exited, exited, outputs, read_all, read_until, run};

/// The installed ones; those that are not are named, so that a gap is seen.
fn runtimes() -> Vec<PathBuf> {
    let candidates = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/bin/crun"].map(PathBuf::from);
    let (found, missing): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|path| path.exists());
    println!("not installed: {missing:?}");
    found
}

fn stage(script: &str, runtime: &Path) -> Stage {
    let mut stage = Stage::new(script);
    let root = stage.home().with_file_name("states");
    stage.plan.id = stage.cgroup_path().replace('/', "-").trim_start_matches('-').to_owned();
    stage.plan.runtime = RuntimePlan::Foreign {
        path: runtime.to_path_buf(),
        args: Vec::new(),
        root,
    };
    stage
}

#[test]
fn a_foreign_runtime_runs_execs_and_leaves_nothing() {
    for runtime in runtimes() {
        run(async move {
            let mut stage = stage("echo out; read go; exit 7", &runtime);
            stage = stage.with_stdio(StdioPlan {
                open_stdin: true,
                stdin_once: true,
                ..StdioPlan::default()
            });
            let (mut ours, theirs) = connection();
            let spec = AttachSpec {
                stdin: true,
                ..outputs()
            };
            let (client, mut events) = stage.launch(vec![(spec, theirs)]).await;
            client.start().await.expect("started");
            read_until(&ours, "out\n").await;
            let process = json!({"args": ["sh", "-c", "hostname; exit 42"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
            let plan = ExecPlan {
                id: "e1".into(),
                process,
                ..ExecPlan::default()
            };
            let (exec_client, theirs) = connection();
            client.exec(plan, vec![(outputs(), theirs)]).await.expect("runs");
            assert_eq!(exec_exited(&mut events).await.1.code, 42, "{runtime:?}");
            client.acknowledge_exec("e1").await.expect("taken");
            assert_eq!(read_all(exec_client).await, b"stage\n");
            client.pause().await.expect("paused");
            client.resume().await.expect("resumed");
            ours.write_all(b"go\n").expect("typed");
            assert_eq!(exited(&mut events).await.code, 7, "{runtime:?}");
            assert_eq!(stage.log_text(), "out\n");
            stage.leave(&client).await;
        });
    }
}

#[test]
fn a_foreign_runtime_gets_an_overlay_a_resolved_user_and_a_terminal() {
    for runtime in runtimes() {
        run(async move {
            let mut stage = stage("stty size; id; echo kept > /tmp/new", &runtime);
            let RootfsPlan::Directory { path: lower } = stage.plan.rootfs.clone() else {
                panic!("a directory")
            };
            std::os::unix::fs::symlink("busybox", lower.join("bin/id")).expect("a link");
            std::fs::write(lower.join("etc/passwd"), "someone:x:1234:55::/:\n").expect("written");
            let dirs = ["upper", "work"].map(|name| stage.home().with_file_name(name));
            dirs.iter()
                .for_each(|dir| std::fs::create_dir(dir).expect("a directory"));
            std::fs::set_permissions(lower.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
                .expect("open to all");
            let [upper, work] = dirs;
            stage.plan.rootfs = RootfsPlan::Overlay {
                lower: vec![lower],
                upper: upper.clone(),
                work,
                volatile: false,
            };
            stage.plan.user = Some("someone".into());
            let console_size = Some(ConsoleSize { rows: 30, cols: 100 });
            let stage = stage.with_stdio(StdioPlan {
                terminal: true,
                console_size,
                ..StdioPlan::default()
            });
            let (ours, theirs) = connection();
            let (client, mut events) = stage.launch(vec![(outputs(), theirs)]).await;
            client.start().await.expect("started");
            let text = String::from_utf8(read_all(ours).await).expect("text");
            assert!(
                text.contains("30 100\r\n") && text.contains("uid=1234"),
                "{runtime:?}: {text}"
            );
            assert_eq!(exited(&mut events).await.code, 0, "{runtime:?}");
            assert_eq!(
                std::fs::read_to_string(upper.join("tmp/new")).expect("in the upper layer"),
                "kept\n"
            );
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
            let home = stage.home();
            assert!(!mounts.contains(&*home.to_string_lossy()), "the host sees the overlay");
            stage.leave(&client).await;
        });
    }
}

#[test]
fn a_foreign_runtimes_failures_keep_their_meaning() {
    for runtime in runtimes() {
        run(async move {
            let mut stage = stage("", &runtime);
            stage.config["process"]["args"] = json!(["nosuch"]);
            match stage.try_launch(Vec::new()).await {
                Err(wharf_shim::client::LaunchError::Create(fault)) => {
                    assert_eq!(fault.kind, FaultKind::CommandNotFound, "{runtime:?}: {fault:?}");
                }
                Ok(launched) => {
                    let error = launched.client.start().await.expect_err("no such command");
                    assert_eq!(
                        error.fault().map(|fault| fault.kind),
                        Some(FaultKind::CommandNotFound),
                        "{error}"
                    );
                    launched.client.destroy().await.expect("destroyed");
                }
                Err(error) => panic!("{runtime:?}: {error:?}"),
            }
        });
    }
}
