//! Edges of the lifecycle: creators that are killed, inits that die early, commands at the same time, signals to
//! what is stopped or paused, cgroups with processes left. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn status(bundle: &Bundle) -> String {
    let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    state["status"].as_str().expect("status").to_owned()
}

fn init_of(bundle: &Bundle) -> String {
    let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    state["pid"].to_string()
}

/// Processes with the id among their arguments: the runtime's own, and inits before their program.
fn processes(id: &str) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let path = entry.ok()?.path().join("cmdline");
        Some((path.display().to_string(), std::fs::read(path).ok()?))
    });
    let mentions = |line: &[u8]| line.split(|byte| *byte == 0).any(|word| word == id.as_bytes());
    lines.filter(|(_, line)| mentions(line)).map(|(path, _)| path).collect()
}

fn mounts_below(path: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let path = path.display().to_string();
    table
        .lines()
        .filter(|line| line.contains(&path))
        .map(str::to_owned)
        .collect()
}

fn assert_nothing_left(bundle: &Bundle, when: &str) {
    until(&format!("{when}: no process is left"), || {
        processes(&bundle.id).is_empty()
    });
    assert!(!bundle.has_cgroup(), "{when}: a cgroup is left");
    assert_eq!(mounts_below(bundle.path()), Vec::<String>::new(), "{when}");
    let state = bundle.path().join("state");
    let left: Vec<_> = std::fs::read_dir(state).map_or(Vec::new(), |all| all.flatten().collect());
    assert!(left.is_empty(), "{when}: {left:?}");
}

/// Starts `create` and waits until it, or its init, stands still after `step`.
fn create_up_to(bundle: &Bundle, step: &str) -> (Child, impl Sized) {
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let mut child = bundle
        .command(&["create", "--bundle", &path, &bundle.id])
        .env("WHARF_TRACE", "1")
        .env("WHARF_STOP_AT", step)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("create");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let reached = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.ends_with(&format!(" us  {step}")));
    assert!(reached, "create never came to {step:?}");
    (child, lines)
}

fn with_limits() -> Bundle {
    let mut bundle = Bundle::new("sleep 1000");
    let resources = json!({ "memory": { "limit": 64 << 20 }, "cpu": { "cpus": "0" }, "pids": { "limit": 50 } });
    bundle.set("/linux/resources", resources);
    bundle
}

const STEPS: [&str; 14] = [
    "configuration read",
    "plan",
    "cgroups",
    "cloned",
    "seccomp compiled",
    "announced",
    "standing",
    "recorded",
    "init: cloned",
    "init: root attached",
    "init: mounts",
    "init: masks",
    "init: pivoted",
    "init: settled",
];

#[test]
fn delete_cleans_up_after_a_runtime_that_was_killed_at_any_step() {
    for step in STEPS {
        let bundle = with_limits();
        let (mut create, _stderr) = create_up_to(&bundle, step);
        create.kill().expect("kill");
        create.wait().expect("wait");
        bundle.cli(&["delete", "--force", &bundle.id]).ok();
        assert_nothing_left(&bundle, step);
        // The id is free again.
        bundle.start().ok();
        assert_eq!(status(&bundle), "running", "{step}");
    }
}

#[test]
fn an_init_that_dies_during_create_is_a_failed_create_that_leaves_nothing() {
    for step in STEPS.iter().filter(|step| step.starts_with("init: ")) {
        let bundle = with_limits();
        let (mut create, _stderr) = create_up_to(&bundle, step);
        let mut pid = String::from("0");
        until("init is known", || {
            pid = init_of(&bundle);
            pid != "0"
        });
        assert_eq!(status(&bundle), "creating");
        let pid = pid.parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill init");
        assert_eq!(create.wait().expect("wait").code(), Some(1), "{step}");
        assert_nothing_left(&bundle, step);
    }
}

#[test]
fn a_forced_delete_takes_a_container_from_a_create_that_hangs_in_a_hook() {
    for stage in ["createContainer", "createRuntime"] {
        let mut bundle = Bundle::new("true");
        let marker = bundle.path().join("hook");
        let script = format!("touch {}; exec sleep 8", marker.display());
        let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
        bundle.set("/hooks", json!({ stage: hook }));
        bundle.write();
        let path = bundle.path().to_string_lossy().into_owned();
        let mut create = bundle.command(&["create", "--bundle", &path, &bundle.id]);
        let mut create = create
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("create");
        until("the hook runs", || marker.exists());
        bundle.cli(&["delete", "--force", &bundle.id]).ok();
        assert!(!bundle.has_cgroup(), "{stage}");
        assert_eq!(bundle.cli(&["state", &bundle.id]).code, 1);
        // Another container of that id is not touched by the end of the first.
        bundle.config["hooks"] = json!({});
        bundle.set("/process/args", json!(["sleep", "1000"]));
        bundle.start().ok();
        assert_eq!(create.wait().expect("wait").code(), Some(1), "{stage}");
        assert_eq!(status(&bundle), "running", "{stage}");
    }
}

#[test]
fn one_of_many_creates_of_an_id_wins() {
    let bundle = Bundle::new("sleep 1000");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let children: Vec<Child> = (0..8)
        .map(|_| {
            let mut create = bundle.command(&["create", "--bundle", &path, &bundle.id]);
            create
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("create")
        })
        .collect();
    let codes: Vec<_> = children
        .into_iter()
        .map(|mut child| child.wait().expect("wait").code())
        .collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 1))), "{codes:?}");
    assert_eq!(status(&bundle), "created");
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert_nothing_left(&bundle, "after the race");
}

#[test]
fn commands_at_the_same_time_on_one_id_never_leave_it_in_between() {
    let bundle = Bundle::new("sleep 1000");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let commands: [&[&str]; 6] = [
        &["create", "--bundle", &path, &bundle.id],
        &["start", &bundle.id],
        &["delete", "--force", &bundle.id],
        &["state", &bundle.id],
        &["create", "--bundle", &path, &bundle.id],
        &["kill", &bundle.id, "KILL"],
    ];
    std::thread::scope(|scope| {
        for arguments in commands {
            let bundle = &bundle;
            scope.spawn(move || {
                for _ in 0..25 {
                    let mut command = bundle.command(arguments);
                    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
                    let code = child.expect("run").code();
                    assert!(matches!(code, Some(0 | 1)), "{arguments:?}: {code:?}");
                }
            });
        }
    });
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert_nothing_left(&bundle, "after the commands");
    bundle.start().ok();
    assert_eq!(status(&bundle), "running");
}

#[test]
fn a_delete_during_a_start_waits_for_it_or_takes_the_container() {
    let mut bundle = Bundle::new("sleep 1000");
    let marker = bundle.path().join("hook");
    let script = format!("touch {}; sleep 1", marker.display());
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
    bundle.set("/hooks", json!({ "poststart": hook }));
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let create = bundle
        .command(&["create", "--bundle", &path, &bundle.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(create.expect("create").success());
    let mut start = bundle.command(&["start", &bundle.id]).spawn().expect("start");
    until("the hook runs", || marker.exists());
    let refused = bundle.cli(&["delete", &bundle.id]);
    assert_eq!(
        refused.stderr,
        format!(
            "wharf-runtime: error: cannot delete container {} that is not stopped: running",
            bundle.id
        )
    );
    assert!(start.wait().expect("wait").success());
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert_nothing_left(&bundle, "after the start");
}

#[test]
fn signals_reach_what_is_stopped_or_paused_when_it_goes_on() {
    let bundle = Bundle::new("trap 'exit 5' TERM; echo ready >/ready; while :; do sleep 0.02; done");
    bundle.start().ok();
    until("the trap is set", || bundle.rootfs().join("ready").exists());
    let kill = |signal: &str| bundle.cli(&["kill", &bundle.id, signal]).ok();
    // A signal to a paused container waits for it to be resumed.
    bundle.cli(&["pause", &bundle.id]).ok();
    kill("TERM");
    assert_eq!(status(&bundle), "paused");
    bundle.cli(&["resume", &bundle.id]).ok();
    until("it is stopped", || status(&bundle) == "stopped");
    let refused = bundle.cli(&["kill", &bundle.id, "TERM"]);
    assert!(refused.stderr.contains("container not running"), "{refused:?}");
    assert_eq!(bundle.cli(&["resume", &bundle.id]).code, 1);
    assert_eq!(bundle.cli(&["pause", &bundle.id]).code, 1);
    assert_eq!(bundle.cli(&["exec", &bundle.id, "true"]).code, 255);
}

#[test]
fn a_kill_ends_a_paused_and_a_job_stopped_container() {
    for how in ["pause", "STOP"] {
        let bundle = Bundle::new("sleep 1000");
        bundle.start().ok();
        match how {
            "pause" => bundle.cli(&["pause", &bundle.id]).ok(),
            signal => bundle.cli(&["kill", &bundle.id, signal]).ok(),
        };
        bundle.cli(&["kill", &bundle.id, "KILL"]).ok();
        until("it is stopped", || status(&bundle) == "stopped");
        bundle.cli(&["delete", &bundle.id]).ok();
        assert_nothing_left(&bundle, how);
    }
}

/// Without a pid namespace nothing ends the others when init is gone.
#[test]
fn processes_left_in_the_cgroup_go_with_the_container() {
    let mut bundle = Bundle::new("sleep 1000 & sleep 1001 & exit 0");
    let namespaces = json!([{ "type": "mount" }, { "type": "ipc" }]);
    bundle.set("/linux/namespaces", namespaces);
    bundle.config.as_object_mut().expect("object").remove("hostname");
    bundle.start().ok();
    until("it is stopped", || status(&bundle) == "stopped");
    let left: Vec<u32> = serde_json::from_str(&bundle.cli(&["ps", "-f", "json", &bundle.id]).ok()).expect("JSON");
    assert_eq!(left.len(), 2);
    bundle.cli(&["delete", &bundle.id]).ok();
    assert_nothing_left(&bundle, "after delete");
    for pid in left {
        until("the processes are gone", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }
}

#[test]
fn nested_cgroups_that_the_container_made_go_with_it() {
    let mut bundle = Bundle::new(
        "mkdir -p /sys/fs/cgroup/*/a/b/c 2>/dev/null; for d in /sys/fs/cgroup/memory /sys/fs/cgroup; do mkdir -p $d/x/y/z 2>/dev/null; done; sleep 1000",
    );
    bundle.add_mount(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"] }),
    );
    bundle.start().ok();
    let init = init_of(&bundle);
    assert_ne!(init, "0");
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert_nothing_left(&bundle, "after delete");
}

#[test]
fn hundreds_of_creates_leave_no_mount_cgroup_process_or_state() {
    let count: u32 = std::env::var("WHARF_CREATES").map_or(200, |text| text.parse().expect("a number"));
    let bundle = with_limits();
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    for number in 0..count {
        let mut create = bundle.command(&["create", "--bundle", &path, &bundle.id]);
        let created = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(created.expect("create").success(), "create {number}");
        if number % 2 == 0 {
            bundle.cli(&["start", &bundle.id]).ok();
        }
        bundle.cli(&["delete", "--force", &bundle.id]).ok();
    }
    assert_nothing_left(&bundle, "after all");
}

#[test]
fn the_library_keeps_no_descriptor_of_a_container_that_is_gone() {
    let bundle = Bundle::new("exit 0");
    assert_eq!(bundle.launch(json!({ "repeat": 50 })).ok(), "descriptors: the same");
}
