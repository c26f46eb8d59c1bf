//! Checkpoint and restore: how the runtime talks to CRIU, with a stand-in, and
//! the real one as far as the machine lets it. Needs root.

mod bundle;

use bundle::{Bundle, Outcome, program};
use serde_json::{Value, json};
use std::process::Stdio;

/// `wharf-runtime --criu FAKE ARGUMENTS`.
fn with_fake(bundle: &Bundle, env: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let fake = program("fake_criu").to_string_lossy().into_owned();
    let arguments = [&["--criu", &fake], arguments].concat();
    let mut command = bundle.command(&arguments);
    command.env("FAKE_CRIU", bundle.path()).envs(env.iter().copied());
    let (out, err) = (bundle.path().join("cli.out"), bundle.path().join("cli.err"));
    let file = |path| std::fs::File::create(path).expect("a file");
    // Files, as what is restored keeps them open.
    let status = command.stdout(file(&out)).stderr(file(&err)).status().expect("run");
    let text = |path| std::fs::read_to_string(path).expect("output").trim_end().to_owned();
    Outcome {
        code: status.code().unwrap_or(-1),
        stdout: text(&out),
        stderr: text(&err),
    }
}

/// The options of the request of this type that the stand-in got last.
fn request(bundle: &Bundle, kind: u32) -> Value {
    let text = std::fs::read(bundle.path().join(format!("{kind}.json"))).expect("a request");
    let request: Value = serde_json::from_slice(&text).expect("JSON");
    request["2"][0].clone()
}

fn images(bundle: &Bundle) -> String {
    bundle.path().join("images").to_string_lossy().into_owned()
}

fn running() -> Bundle {
    let mut bundle = Bundle::new("sleep 100");
    std::fs::create_dir(bundle.path().join("data")).expect("source");
    bundle.add_mount(json!({ "destination": "/data", "source": "data", "options": ["bind"] }));
    bundle.start().ok();
    bundle
}

fn status(bundle: &Bundle) -> String {
    let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    state["status"].as_str().expect("status").to_owned()
}

#[test]
fn a_checkpoint_tells_criu_everything_and_removes_the_container() {
    let bundle = running();
    let pid = bundle.pid();
    let images = images(&bundle);
    let flags = [
        "checkpoint",
        "--image-path",
        &images,
        "--tcp-established",
        "--file-locks",
        "--shell-job",
        "--ext-unix-sk",
        "--link-remap",
        "--manage-cgroups-mode",
        "ignore",
        "--empty-ns=network",
        "--page-server",
        "192.0.2.1:27",
        &bundle.id,
    ];
    with_fake(&bundle, &[], &flags).ok();
    let options = request(&bundle, 1);
    for (field, expected) in [
        ("2", pid),
        ("3", 0),
        ("4", 1),
        ("5", 1),
        ("7", 1),
        ("8", 1),
        ("18", 1),
        ("34", 0),
    ] {
        assert_eq!(options[field][0], json!(expected), "{field} in {options}");
    }
    assert_eq!(options["38"][0], json!(0x4000_0000));
    assert_eq!(options["13"][0], json!(bundle.rootfs()));
    assert_eq!(options["51"][0], "/etc/criu/runc.conf");
    assert_eq!(options["11"][0], json!({ "1": ["192.0.2.1"], "2": [27] }));
    let mounts = options["23"].as_array().expect("external mounts");
    assert!(mounts.contains(&json!({ "1": ["/data"], "2": ["/data"] })), "{options}");
    assert!(mounts.iter().any(|mount| mount["2"][0] == "/dev/null"), "{options}");
    let freezer = options["44"][0].as_str().expect("a freezer");
    assert!(freezer.ends_with(&bundle.id), "{options}");
    let descriptors = std::fs::read_to_string(format!("{images}/descriptors.json")).expect("descriptors");
    let links: Vec<String> = serde_json::from_str(&descriptors).expect("JSON");
    // Its streams in these tests are nowhere, nowhere, and a file.
    assert_eq!((links.len(), links[0].as_str()), (3, "/dev/null"));
    assert_eq!(bundle.cli(&["state", &bundle.id]).code, 1, "the container is gone");
    assert!(!bundle.has_cgroup());
}

#[test]
fn a_container_goes_on_when_left_running_pre_dumped_or_failed() {
    let bundle = running();
    let images = images(&bundle);
    let checkpoint = |env: &[(&str, &str)], flag: &str| {
        with_fake(&bundle, env, &["checkpoint", "--image-path", &images, flag, &bundle.id])
    };
    checkpoint(&[], "--leave-running").ok();
    assert_eq!(request(&bundle, 1)["3"][0], json!(1));
    checkpoint(&[], "--pre-dump").ok();
    assert_eq!(request(&bundle, 4)["2"][0], json!(bundle.pid()));
    let outcome = checkpoint(&[("FAKE_CRIU_FAIL", "1")], "--lazy-pages");
    assert_eq!(outcome.code, 1);
    let expected = "criu dump failed: operation not supported: (00.2) Error (made/up.c:1): no such luck";
    assert!(outcome.stderr.contains(expected), "{outcome:?}");
    assert_eq!(status(&bundle), "running");
    std::fs::create_dir(format!("{images}/earlier")).expect("a parent");
    checkpoint(&[], "--parent-path=earlier").ok();
    assert_eq!(request(&bundle, 1)["14"][0], "earlier");
}

#[test]
fn a_restored_container_is_a_container_like_any() {
    let mut bundle = running();
    let images = images(&bundle);
    with_fake(&bundle, &[], &["checkpoint", "--image-path", &images, &bundle.id]).ok();
    let seen = bundle.path().join("hook");
    let script = format!("cat >{}", seen.display());
    bundle.set(
        "/hooks",
        json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] }),
    );
    bundle.set("/annotations", json!({ "org.criu.config": "/etc/criu/mine.conf" }));
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let pid_file = bundle.path().join("pid").to_string_lossy().into_owned();
    let flags = [
        "restore",
        "--bundle",
        &path,
        "--image-path",
        &images,
        "--detach",
        "--pid-file",
        &pid_file,
        "--lsm-profile",
        "apparmor:x",
        &bundle.id,
    ];
    with_fake(&bundle, &[], &flags).ok();
    let pid = bundle.pid();
    assert_eq!(std::fs::read_to_string(&pid_file).expect("pid file"), pid.to_string());
    assert_eq!(status(&bundle), "running");
    let pids: Vec<i64> = serde_json::from_str(&bundle.cli(&["ps", "-f", "json", &bundle.id]).ok()).expect("JSON");
    assert_eq!(pids, [pid]);
    let state: Value = serde_json::from_slice(&std::fs::read(&seen).expect("the hook ran")).expect("JSON");
    assert_eq!(state["pid"], json!(pid));
    let options = request(&bundle, 2);
    assert_eq!(
        (&options["26"][0], &options["53"][0]),
        (&json!(1), &json!("apparmor:x"))
    );
    assert_eq!(options["51"][0], "/etc/criu/mine.conf");
    let source = bundle.path().join("data");
    let mounts = options["23"].as_array().expect("external mounts");
    assert!(mounts.contains(&json!({ "1": ["/data"], "2": [source] })), "{options}");
    assert!(
        options["25"].as_array().is_some_and(|roots| !roots.is_empty()),
        "{options}"
    );
    // Twice the same id is refused, and the first is none the worse for it.
    assert_eq!(with_fake(&bundle, &[], &flags).code, 1);
    assert_eq!(status(&bundle), "running");
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert!(!bundle.has_cgroup());
    assert!(bundle.rootfs().join("bin/busybox").exists(), "the root is as it was");
}

#[test]
fn a_restore_in_the_foreground_ends_with_the_program() {
    let bundle = running();
    let images = images(&bundle);
    with_fake(&bundle, &[], &["checkpoint", "--image-path", &images, &bundle.id]).ok();
    let path = bundle.path().to_string_lossy().into_owned();
    let flags = ["restore", "-b", &path, "--image-path", &images, &bundle.id];
    let outcome = with_fake(&bundle, &[("FAKE_CRIU_PROGRAM", "echo restored; exit 7")], &flags);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "restored"), "{outcome:?}");
    let failed = with_fake(&bundle, &[("FAKE_CRIU_FAIL", "1")], &flags);
    assert!(
        failed.stderr.contains("criu restore failed: operation not supported"),
        "{failed:?}"
    );
    assert_eq!(bundle.cli(&["state", &bundle.id]).code, 1);
    assert!(!bundle.has_cgroup());
}

#[test]
fn what_cannot_be_saved_or_brought_back_is_an_error() {
    let bundle = running();
    let check = |arguments: &[&str], expected: &str| {
        let outcome = with_fake(&bundle, &[], &[arguments, &[&bundle.id]].concat());
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {outcome:?}");
    };
    check(
        &["checkpoint", "--manage-cgroups-mode=lax"],
        "\"lax\" is not soft, full, strict or ignore",
    );
    check(
        &["checkpoint", "--empty-ns=pid"],
        "\"pid\" is not supported, only network",
    );
    check(
        &["checkpoint", "--page-server=nowhere"],
        "\"nowhere\" is not ADDRESS:PORT",
    );
    check(&["checkpoint", "--status-fd=99"], "\"99\" is no open descriptor");
    check(&["checkpoint", "--parent-path=/x"], "--parent-path: must be relative");
    check(
        &["restore", "--image-path=/does/not/exist"],
        "/does/not/exist is no directory",
    );
    let images = images(&bundle);
    let outcome = bundle
        .command(&["checkpoint", "--image-path", &images, &bundle.id])
        .env("PATH", bundle.path())
        .output();
    let outcome = Outcome::from(outcome.expect("run"));
    assert_eq!(
        outcome.stderr,
        "wharf-runtime: error: criu is not installed: criu is no program in $PATH"
    );
    bundle.cli(&["kill", &bundle.id, "KILL"]).ok();
    for _ in 0..1000 {
        if status(&bundle) == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    check(&["checkpoint"], "cannot be checkpointed in the stopped state");
}

#[test]
fn the_real_criu_saves_and_brings_back_where_the_kernel_lets_it() {
    let has = |arguments: &[&str]| {
        let mut command = std::process::Command::new("criu");
        let status = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !has(&["--version"]) {
        eprintln!("not run: criu is not installed");
        return;
    }
    let mut bundle = Bundle::new("n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.1; done");
    // For a network of the container's own it would need iptables.
    bundle.set(
        "/linux/namespaces",
        json!([{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]),
    );
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    // Streams that lead to files of the host could not be saved.
    let mut create = bundle.command(&["create", "--bundle", &path, &bundle.id]);
    let created = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(created.expect("create").success());
    bundle.cli(&["start", &bundle.id]).ok();
    bundle.await_file("tmp/n");
    let images = images(&bundle);
    let outcome = bundle.cli(&["checkpoint", "--image-path", &images, &bundle.id]);
    if !has(&["check"]) || outcome.stderr.contains("kernel lacks") {
        // It says itself what is missing, and nothing has happened.
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains("criu dump"), "{outcome:?}");
        assert!(outcome.stderr.contains("Error ("), "{outcome:?}");
        assert_eq!(status(&bundle), "running");
        eprintln!("not run to its end: {}", outcome.stderr);
        return;
    }
    assert_eq!(outcome.code, 0, "{outcome:?}\n{}", end_of_log(&images, "dump.log"));
    let before: u64 = read_count(&bundle);
    let outcome = bundle.cli(&["restore", "-d", "-b", &path, "--image-path", &images, &bundle.id]);
    assert_eq!(outcome.code, 0, "{outcome:?}\n{}", end_of_log(&images, "restore.log"));
    for _ in 0..1000 {
        if read_count(&bundle) > before + 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it does not count on from {before}");
}

/// What CRIU did last.
fn end_of_log(images: &str, name: &str) -> String {
    let text = std::fs::read_to_string(format!("{images}/{name}")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn read_count(bundle: &Bundle) -> u64 {
    let text = std::fs::read_to_string(bundle.rootfs().join("tmp/n")).expect("a count");
    text.trim().parse().unwrap_or(0)
}
