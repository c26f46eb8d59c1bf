//! The smaller commands and flags of the command line. Needs root.

mod bundle;

use bundle::{Bundle, Outcome};
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().expect("a list");
    list.iter().map(|item| item.as_str().expect("a text")).collect()
}

/// `create` with its output dropped, as an open pipe would keep this test waiting.
fn create(bundle: &Bundle, flags: &[&str]) {
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let flags = [&["create", "--bundle", &path], flags, &[&bundle.id]].concat();
    let status = bundle
        .command(&flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("create").success());
}

#[test]
fn features_say_what_the_specification_asks_for() {
    let bundle = Bundle::new("true");
    let features: Value = serde_json::from_str(&bundle.cli(&["features"]).ok()).expect("JSON");
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert!(
        features["ociVersionMax"]
            .as_str()
            .is_some_and(|version| version.starts_with("1.3"))
    );
    let hooks = strings(&features["hooks"]);
    assert_eq!(hooks.len(), 6);
    for word in [
        "ridmap",
        "rro",
        "rnosymfollow",
        "tmpcopyup",
        "bind",
        "lazytime",
        "runbindable",
    ] {
        assert!(strings(&features["mountOptions"]).contains(&word), "{word}");
    }
    let linux = &features["linux"];
    let namespaces = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
    assert_eq!(strings(&linux["namespaces"]), namespaces);
    assert!(strings(&linux["capabilities"]).contains(&"CAP_CHECKPOINT_RESTORE"));
    for name in ["v1", "v2", "rdma", "systemd", "systemdUser"] {
        assert!(linux["cgroup"][name].is_boolean(), "{name}");
    }
    let seccomp = &linux["seccomp"];
    assert_eq!(strings(&seccomp["actions"]).len(), 9);
    assert_eq!(strings(&seccomp["operators"]).len(), 7);
    assert!(strings(&seccomp["archs"]).contains(&"SCMP_ARCH_RISCV64"));
    assert_eq!(strings(&seccomp["knownFlags"]).len(), 4);
    assert_eq!(seccomp["knownFlags"], seccomp["supportedFlags"]);
    for (pointer, expected) in [
        ("/apparmor/enabled", true),
        ("/selinux/enabled", true),
        ("/intelRdt/schemata", true),
        ("/intelRdt/monitoring", true),
        ("/mountExtensions/idmap/enabled", true),
        ("/netDevices/enabled", true),
    ] {
        assert_eq!(linux.pointer(pointer), Some(&json!(expected)), "{pointer}");
    }
    assert_eq!(strings(&linux["memoryPolicy"]["modes"]).len(), 7);
    let unsafe_ones = strings(&features["potentiallyUnsafeConfigAnnotations"]);
    assert!(unsafe_ones.contains(&"org.criu.config") && unsafe_ones.contains(&"org.systemd.property."));
}

#[test]
fn spec_writes_a_configuration_that_runs_and_never_over_another() {
    let bundle = Bundle::new("true");
    let path = bundle.path().to_string_lossy().into_owned();
    let file = bundle.path().join("config.json");
    bundle.cli(&["spec", "--bundle", &path]).ok();
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).expect("config.json")).expect("JSON");
    assert_eq!(bundle.cli(&["spec", "-b", &path]).code, 1, "there is one already");
    config["process"]["args"] = json!(["sh", "-c", "id -u; touch /x 2>/dev/null || echo read-only"]);
    config["process"]["terminal"] = json!(false);
    std::fs::write(&file, config.to_string()).expect("write");
    let out = bundle.cli(&["run", "-b", &path, &bundle.id]).ok();
    assert_eq!(out, "0\nread-only");
    std::fs::remove_file(&file).expect("remove");
    bundle.cli(&["spec", "--rootless", "-b", &path]).ok();
    let config: Value = serde_json::from_slice(&std::fs::read(&file).expect("config.json")).expect("JSON");
    let kinds: Vec<_> = config["linux"]["namespaces"]
        .as_array()
        .expect("namespaces")
        .iter()
        .map(|namespace| namespace["type"].as_str().expect("a type"))
        .collect();
    assert!(kinds.contains(&"user") && !kinds.contains(&"network"), "{kinds:?}");
    assert_eq!(config["linux"]["uidMappings"][0]["size"], 1);
    assert!(config["linux"].get("resources").is_none());
}

#[test]
fn list_and_ps_print_tables_and_json() {
    let bundle = Bundle::new("sleep 100 & sleep 100; true");
    bundle.start().ok();
    let pid = bundle.pid();
    let list: Value = serde_json::from_str(&bundle.cli(&["list", "--format", "json"]).ok()).expect("JSON");
    let found = &list[0];
    assert_eq!((&found["id"], &found["status"]), (&json!(bundle.id), &json!("running")));
    assert_eq!((&found["pid"], &found["bundle"]), (&json!(pid), &json!(bundle.path())));
    assert_eq!(
        (&found["rootfs"], &found["owner"]),
        (&json!(bundle.rootfs()), &json!("root"))
    );
    assert!(found["created"].is_string() && found["ociVersion"].is_string());
    assert_eq!(bundle.cli(&["list", "-q"]).ok(), bundle.id);
    let table = bundle.cli(&["list"]).ok();
    let mut lines = table.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("ID ") && line.ends_with("OWNER"))
    );
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with(&bundle.id) && line.contains("running"))
    );
    assert!(
        bundle
            .cli(&["list", "-f", "xml"])
            .stderr
            .contains("unknown format \"xml\"")
    );
    for _ in 0..1000 {
        let pids: Vec<i64> = serde_json::from_str(&bundle.cli(&["ps", "-f", "json", &bundle.id]).ok()).expect("JSON");
        if pids.len() == 3 && pids.contains(&pid) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let table = bundle.cli(&["ps", &bundle.id]).ok();
    assert!(table.lines().next().is_some_and(|line| line.contains("PID")), "{table}");
    assert_eq!(
        table.lines().filter(|line| line.contains("sleep 100")).count(),
        3,
        "{table}"
    );
    let table = bundle.cli(&["ps", &bundle.id, "-e", "-o", "pid,comm"]).ok();
    assert!(
        table.lines().any(|line| line.trim().starts_with(&format!("{pid} "))),
        "{table}"
    );
}

#[test]
fn a_kept_container_is_there_after_it_ended() {
    let bundle = Bundle::new("exit 4");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    assert_eq!(bundle.cli(&["run", "--keep", "-b", &path, &bundle.id]).code, 4);
    let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    assert_eq!(state["status"], "stopped");
    bundle.cli(&["delete", &bundle.id]).ok();
    assert!(!bundle.has_cgroup());
}

#[test]
fn a_created_container_hands_out_its_pidfd() {
    let bundle = Bundle::new("sleep 100");
    let socket = bundle.path().join("pidfd");
    let listener = UnixListener::bind(&socket).expect("listen");
    let receiver = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        wharf_sys::fdpass::receive(&stream, &mut [0; 64]).expect("receive").1
    });
    create(&bundle, &["--pidfd-socket", &socket.to_string_lossy()]);
    let pidfd = receiver.join().expect("receiver").pop().expect("a pidfd");
    // It is init's: what is sent to it ends the container.
    wharf_sys::signal::send(&pidfd, 9).expect("kill");
    for _ in 0..1000 {
        let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
        if state["status"] == "stopped" {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the pidfd is another's");
}

#[test]
fn a_session_keyring_is_made_unless_it_is_not_to_be() {
    // (add_key, keyctl)
    let numbers = match std::env::consts::ARCH {
        "x86_64" => (248, 250),
        "aarch64" => (217, 219),
        _ => return eprintln!("not run: the numbers of the system calls are not known here"),
    };
    if !std::path::Path::new("/proc/keys").exists() || !std::path::Path::new("/usr/bin/perl").exists() {
        eprintln!("not run: this kernel shows no keys, or there is no perl");
        return;
    }
    for (flags, count) in [(&[][..], "0"), (&["--no-new-keyring"], "1")] {
        let mut bundle = Bundle::new("");
        bundle.set("/linux/maskedPaths", json!([]));
        let key = format!("key-of-the-caller-{}", bundle.id);
        bundle.set(
            "/process/args",
            json!(["sh", "-c", format!("grep -c {key} /proc/keys")]),
        );
        bundle.write();
        let path = bundle.path().to_string_lossy().into_owned();
        let command = bundle.command(&[&["run", "-b", &path], flags, &[&bundle.id]].concat());
        // A key in the session keyring of the caller, for who has that keyring and nobody else.
        let script = format!(
            r#"($type, $name, $text) = ("user", "{key}", "x");
            $k = syscall({}, $type, $name, $text, 1, -3); $k > 0 or die "add_key: $!";
            syscall({}, 5, $k, 0x3f000000) == 0 or die "setperm: $!"; exec @ARGV"#,
            numbers.0, numbers.1
        );
        let mut perl = std::process::Command::new("/usr/bin/perl");
        perl.args(["-e", &script])
            .arg(command.get_program())
            .args(command.get_args());
        let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        perl.envs(variables);
        let outcome = Outcome::from(perl.output().expect("run the runtime"));
        assert_eq!(outcome.stdout, count, "{outcome:?}");
    }
}

#[test]
fn without_pivot_the_root_is_the_containers_all_the_same() {
    let bundle = Bundle::new("test -e /bin/busybox && ! test -e /usr && cd / && pwd; readlink /proc/1/root");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let run = |flags: &[&str]| bundle.cli(&[&["run", "-b", &path], flags, &[&bundle.id]].concat()).ok();
    assert_eq!(run(&["--no-pivot"]), run(&[]));
}

#[test]
fn global_flags_of_runc_and_crun_are_understood() {
    let bundle = Bundle::new("true");
    let version = bundle.cli(&["--version"]).ok();
    assert!(
        version.lines().next().is_some_and(|line| line.contains(" version ")),
        "{version}"
    );
    assert!(version.lines().any(|line| line == "spec: 1.3.0"), "{version}");
    assert!(bundle.cli(&["--help"]).ok().contains("checkpoint"));
    let log = bundle.path().join("log").to_string_lossy().into_owned();
    let flags = [
        "--debug",
        "--log",
        &log,
        "--log-format=text",
        "--rootless",
        "auto",
        "--cgroup-manager=cgroupfs",
        "--criu",
        "/nowhere/criu",
    ];
    let outcome: Outcome = bundle.cli(&[&flags[..], &["state", "nobody"]].concat());
    assert_eq!(outcome.code, 1);
    let text = std::fs::read_to_string(log).expect("log");
    assert!(text.contains("level=error msg="), "{text}");
    for wrong in [
        &["--log-format", "xml"][..],
        &["--cgroup-manager", "none"],
        &["--nonsense"],
    ] {
        assert_eq!(bundle.cli(wrong).code, 1, "{wrong:?}");
    }
}
