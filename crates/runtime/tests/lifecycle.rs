//! The life of a container by the command line, and what is left of it. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::process::Stdio;

fn status(bundle: &Bundle) -> String {
    let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    state["status"].as_str().expect("status").to_owned()
}

/// Waits until the container has the status; fails after 5 s.
fn await_status(bundle: &Bundle, wanted: &str) {
    for _ in 0..500 {
        if status(bundle) == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never {wanted}, but {}", status(bundle));
}

#[test]
fn a_container_goes_from_created_to_stopped_and_leaves_nothing() {
    let bundle = Bundle::new("trap 'exit 0' TERM; touch /up; while :; do sleep 0.05; done");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let pid_file = bundle.path().join("pid").to_string_lossy().into_owned();
    let create = bundle
        .command(&["create", "-b", &path, "--pid-file", &pid_file, &bundle.id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(create.expect("create").success());
    assert_eq!(status(&bundle), "created");
    let state: Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    assert_eq!(
        std::fs::read_to_string(pid_file).expect("pid file"),
        state["pid"].to_string()
    );
    bundle.cli(&["start", &bundle.id]).ok();
    assert_eq!(status(&bundle), "running");
    assert_eq!(bundle.cli(&["start", &bundle.id]).code, 1);
    assert!(
        bundle
            .cli(&["delete", &bundle.id])
            .stderr
            .contains("that is not stopped: running")
    );
    // Before its trap stands, an init takes no notice of the signal.
    bundle.await_file("up");
    bundle.cli(&["kill", &bundle.id, "TERM"]).ok();
    await_status(&bundle, "stopped");
    assert!(bundle.cli(&["kill", &bundle.id, "TERM"]).stderr.contains("not running"));
    bundle.cli(&["delete", &bundle.id]).ok();
    assert_eq!(bundle.cli(&["state", &bundle.id]).code, 1);
    assert!(!bundle.has_cgroup());
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let check = |script: &str, expected| assert_eq!(Bundle::new(script).run().code, expected, "{script}");
    check("exit 0", 0);
    check("exit 7", 7);
    check("kill -9 $$; sleep 1", 0); // init is immune to its own SIGKILL
}

#[test]
fn a_program_that_is_missing_or_cannot_be_executed_is_a_failed_run() {
    let check = |args: Value, message: &str| {
        let mut bundle = Bundle::new("");
        bundle.set("/process/args", args);
        let outcome = bundle.run();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert_eq!(outcome.stderr, format!("wharf-runtime: error: {message}"));
        assert!(!bundle.has_cgroup());
        assert_eq!(
            std::fs::read_dir(bundle.path().join("state")).expect("state").count(),
            0
        );
    };
    check(json!(["nope"]), "exec: \"nope\": executable file not found in $PATH");
    check(
        json!(["/nope"]),
        "exec: \"/nope\": stat /nope: no such file or directory",
    );
    check(json!(["/etc/passwd"]), "exec: \"/etc/passwd\": permission denied");
    check(json!(["/etc"]), "exec: \"/etc\": is a directory");
}

#[test]
fn a_file_the_kernel_cannot_execute_fails_at_the_start() {
    let mut bundle = Bundle::new("");
    let path = bundle.rootfs().join("bin/garbage");
    std::fs::write(&path, "\u{1}\u{2}").expect("write");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    bundle.set("/process/args", json!(["garbage"]));
    let outcome = bundle.run();
    assert_eq!(
        outcome.stderr,
        "wharf-runtime: error: exec /bin/garbage: exec format error"
    );
    assert_eq!(outcome.code, 255);
}

#[test]
fn a_second_container_of_the_same_id_is_refused() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("exists already"), "{outcome:?}");
    assert_eq!(status(&bundle), "running");
}

#[test]
fn ids_that_are_no_names_are_refused() {
    let bundle = Bundle::new("true");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    for id in ["", ".", "..", "a/b", "a b", "ä"] {
        assert_eq!(bundle.cli(&["run", "-b", &path, id]).code, 1, "{id:?}");
    }
}

#[test]
fn errors_are_logged_as_json_when_asked() {
    let bundle = Bundle::new("true");
    let log = bundle.path().join("log.json").to_string_lossy().into_owned();
    let outcome = bundle.cli(&["--log", &log, "--log-format", "json", "state", "nobody"]);
    assert_eq!(outcome.code, 1);
    let line: Value = serde_json::from_str(&std::fs::read_to_string(log).expect("log")).expect("JSON");
    assert_eq!(
        (line["level"].as_str(), line["msg"].as_str()),
        (Some("error"), Some("container \"nobody\" does not exist"))
    );
}

#[test]
fn exec_is_inside_with_the_codes_of_its_program() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    let out = bundle.cli(&[
        "exec",
        &bundle.id,
        "sh",
        "-c",
        "hostname; cat /proc/1/cmdline | tr '\\0' ' '; ls /proc/self/fd",
    ]);
    assert_eq!(out.ok(), "inside\nsleep 100 0\n1\n2\n3");
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let own = format!("/proc/self/ns/{name}");
        let link = |path: &str| bundle.cli(&["exec", &bundle.id, "readlink", path]).ok();
        assert_eq!(link(&own), link(&format!("/proc/1/ns/{name}")));
    }
    let code = |command: &[&str]| bundle.cli(&[&["exec", &bundle.id], command].concat()).code;
    assert_eq!(code(&["sh", "-c", "exit 9"]), 9);
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(code(&["nope"]), 255);
    assert_eq!(code(&["/etc/passwd"]), 255);
    let user = bundle.cli(&[
        "exec",
        "--user",
        "33:44",
        "--cwd",
        "/etc",
        "-e",
        "A=b",
        &bundle.id,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A",
    ]);
    assert_eq!(user.ok(), "33\n44\n/etc\nb");
    let ps: Vec<u32> = serde_json::from_str(&bundle.cli(&["ps", "-f", "json", &bundle.id]).ok()).expect("JSON");
    assert_eq!(ps.len(), 1);
}

#[test]
fn exec_cannot_be_led_to_a_directory_of_the_host() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    for number in 3..20 {
        for path in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/..")] {
            let outcome = bundle.cli(&["exec", "--cwd", &path, &bundle.id, "pwd"]);
            assert_ne!(outcome.code, 0, "{path}: {outcome:?}");
        }
        let program = format!("/proc/self/fd/{number}/bin/ls");
        assert_ne!(bundle.cli(&["exec", &bundle.id, &program]).code, 0, "{program}");
    }
}

#[test]
fn the_binary_of_the_runtime_cannot_be_written_from_inside() {
    // Keeps the runtime's file open, and writes when nobody executes it.
    let attack = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *busybox | '') ;; *)
        exec 8<$p/exe; touch /tmp/held; until test -e /tmp/go; do usleep 1000; done;
        ( : >>/proc/self/fd/8 ) && touch /tmp/written; touch /tmp/done; sleep 100 ;; esac; done; done";
    let bundle = Bundle::new(attack);
    bundle.start().ok();
    add_libraries(&bundle);
    // The program is what /proc/self/exe is at that moment: the runtime, here
    // as a command that reads its stdin and so stays as long as we like.
    let script = bundle.rootfs().join("bin/again");
    std::fs::write(&script, "#!/proc/self/exe --log\n").expect("write");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let mut victim = bundle
        .command(&["exec", &bundle.id, "again", "update", "--resources", "-", "x"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("victim");
    let file = |name: &str| bundle.rootfs().join("tmp").join(name);
    await_file(&file("held"));
    drop(victim.stdin.take());
    victim.wait().expect("victim");
    std::fs::write(file("go"), "").expect("go");
    await_file(&file("done"));
    assert!(!file("written").exists(), "the runtime's binary was opened for writing");
}

fn await_file(path: &std::path::Path) {
    for _ in 0..500 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} never came", path.display());
}

/// The test's build of the runtime is dynamic: inside it needs its libraries.
fn add_libraries(bundle: &Bundle) {
    let output = std::process::Command::new("ldd")
        .arg(bundle::program("wharf-runtime"))
        .output()
        .expect("ldd");
    for path in String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let to = bundle.rootfs().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("make it");
        std::fs::copy(path, to).expect("copy a library");
    }
}

#[test]
fn a_paused_container_takes_no_exec_and_goes_on_after_resume() {
    let bundle = Bundle::new("sleep 100");
    bundle.start().ok();
    bundle.cli(&["pause", &bundle.id]).ok();
    assert_eq!(status(&bundle), "paused");
    assert!(
        bundle
            .cli(&["exec", &bundle.id, "true"])
            .stderr
            .contains("in a paused container")
    );
    bundle.cli(&["resume", &bundle.id]).ok();
    bundle.cli(&["exec", &bundle.id, "true"]).ok();
    bundle.cli(&["pause", &bundle.id]).ok();
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert!(!bundle.has_cgroup());
}

#[test]
fn a_memory_limit_kills_and_a_process_limit_refuses() {
    let mut bundle = Bundle::new("head -c 64m /dev/zero | tail >/dev/null; echo $?");
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } }),
    );
    assert_eq!(bundle.run().ok(), "137");
    let mut bundle = Bundle::new("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done 2>/dev/null; wait");
    bundle.set("/linux/resources", json!({ "pids": { "limit": 4 } }));
    assert_ne!(bundle.run().code, 0);
}

#[test]
fn devices_not_named_are_refused() {
    let mut bundle = Bundle::new(
        "head -c1 /dev/zero | wc -c; mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg 2>/dev/null || echo refused",
    );
    let caps = json!(["CAP_MKNOD", "CAP_SYSLOG"]);
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": caps, "effective": caps, "permitted": caps }),
    );
    assert_eq!(bundle.run().ok(), "1\nrefused");
}

#[test]
fn a_hook_inside_has_no_more_rights_than_the_program() {
    let rights = "grep -E '^(Seccomp|Cap...|NoNewPrivs):' /proc/self/status";
    let mut bundle = Bundle::new(&format!("{rights} >/program"));
    let filter = wharf_runtime::seccomp::default_profile(&[]);
    bundle.set("/linux/seccomp", serde_json::to_value(filter).expect("JSON"));
    let caps = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": caps, "effective": caps, "permitted": caps }),
    );
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("{rights} >/hook")], "env": ["PATH=/bin"] }]);
    bundle.set("/hooks", json!({ "startContainer": hook }));
    for no_new_privileges in [false, true] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        bundle.run().ok();
        let read = |name: &str| std::fs::read_to_string(bundle.rootfs().join(name)).expect(name);
        assert_eq!(read("hook"), read("program"));
        assert!(read("hook").contains("Seccomp:\t2"), "{}", read("hook"));
    }
}

#[test]
fn hooks_run_in_their_order_with_the_state_on_stdin() {
    let mut bundle = Bundle::new("echo program >>/order; grep -q Seccomp:.*2 /proc/self/status");
    let filter = wharf_runtime::seccomp::default_profile(&[]);
    bundle.set("/linux/seccomp", serde_json::to_value(filter).expect("JSON"));
    let (order, rootfs) = (bundle.path().join("order"), bundle.rootfs());
    std::fs::write(&order, "").expect("order");
    let line = |name: &str| {
        format!(
            "read -r state; echo {name} $(echo $state | grep -o '\"status\":\"[a-z]*\"') >>{}",
            order.display()
        )
    };
    let hook = |name: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", line(name)] }]);
    let inside =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo startContainer >>/order"], "env": ["PATH=/bin"] }]);
    bundle.set(
        "/hooks",
        json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "startContainer": inside,
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        }),
    );
    bundle.run().ok();
    let text = std::fs::read_to_string(&order).expect("order");
    let expected = "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\n\
                    createContainer \"status\":\"creating\"\npoststart \"status\":\"running\"\npoststop \"status\":\"stopped\"\n";
    assert_eq!(text, expected);
    assert_eq!(
        std::fs::read_to_string(rootfs.join("order")).expect("inner order"),
        "startContainer\nprogram\n"
    );
}

#[test]
fn a_hook_that_fails_or_hangs_undoes_the_container() {
    for (script, message) in [
        ("exit 3", "failed with exit code 3"),
        ("sleep 60", "did not end within 1 s"),
    ] {
        let mut bundle = Bundle::new("true");
        let hook =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 1 }]);
        bundle.set("/hooks", json!({ "createRuntime": hook }));
        let outcome = bundle.run();
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(message), "{outcome:?}");
        assert!(!bundle.has_cgroup());
    }
}

#[test]
fn a_terminal_is_handed_over_by_the_console_socket() {
    use std::io::Read as _;
    let mut bundle = Bundle::new("tty; stty size; test -t 1 && echo yes; ls -l /dev/console | cut -c1");
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({ "height": 33, "width": 99 }));
    bundle.write();
    let path = bundle.path().join("console");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("listen");
    let receiver = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("accept");
        let mut label = [0u8; 64];
        let (_, mut fds) = wharf_sys::fdpass::receive(&socket, &mut label).expect("receive");
        let mut master = std::fs::File::from(fds.pop().expect("a descriptor"));
        let mut text = Vec::new();
        // Ends with EIO when the last process closed its side.
        let _ = master.read_to_end(&mut text);
        String::from_utf8_lossy(&text).replace('\r', "")
    });
    let bundle_path = bundle.path().to_string_lossy().into_owned();
    bundle
        .cli(&[
            "create",
            "-b",
            &bundle_path,
            "--console-socket",
            &path.to_string_lossy(),
            &bundle.id,
        ])
        .ok();
    bundle.cli(&["start", &bundle.id]).ok();
    assert_eq!(receiver.join().expect("reader"), "/dev/pts/0\n33 99\nyes\nc\n");
}

#[test]
fn users_by_name_are_looked_up_inside() {
    let check = |user: &str, groups: Value, expected: &str| {
        let bundle = Bundle::new("id -u; id -g; id -G; echo $HOME");
        let out = bundle.launch(json!({ "user": user, "group_add": groups })).ok();
        assert_eq!(out, expected, "{user}");
    };
    check("www-data", json!([]), "33\n33\n33 100\n/var/www");
    check("33", json!([]), "33\n33\n33 100\n/var/www");
    check("www-data:users", json!([]), "33\n100\n100\n/var/www");
    check("1000:1000", json!([]), "1000\n1000\n1000\n/");
    check("", json!(["users", "4242"]), "0\n0\n0 10 100 4242\n/root");
    let outcome = Bundle::new("true").launch(json!({ "user": "nosuch" }));
    assert_eq!(
        outcome.stderr,
        "unable to find user nosuch: no matching entries in passwd file"
    );
}

#[test]
fn an_exec_of_the_library_has_the_containers_rights_unless_privileged() {
    let mut bundle = Bundle::new("sleep 100");
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" });
    bundle.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }),
    );
    let exec = json!([
        "sh",
        "-c",
        "mkdir /tmp/x 2>/dev/null || echo denied; grep CapEff /proc/self/status"
    ]);
    let out = bundle.launch(json!({ "exec": exec })).ok();
    assert_eq!(out, "denied\nCapEff:\t00000000000020e1");
    let out = bundle.launch(json!({ "exec": exec, "privileged": true })).ok();
    let own = std::fs::read_to_string("/proc/self/status").expect("status");
    let all = own
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:\t"))
        .expect("own capabilities");
    assert_eq!(out, format!("CapEff:\t{all}"));
}

#[test]
fn a_variable_given_to_an_exec_takes_the_place_of_the_container_s() {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set("/process/env", json!(["PATH=/bin", "A=own", "B=own"]));
    bundle.start().ok();
    let exec = [
        "exec", "--env", "A=one", "-e", "A=two", "-e", "C=new", &bundle.id, "env",
    ];
    let seen = bundle.cli(&exec).ok();
    let lines: Vec<_> = seen
        .lines()
        .filter(|line| line.len() < 6 && line.contains('='))
        .collect();
    assert_eq!(lines, ["B=own", "A=two", "C=new"], "{seen}");
}

#[test]
fn debug_logs_the_cpus_an_exec_starts_on() {
    let mut bundle = Bundle::new("sleep 1000");
    bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
    bundle.start().ok();
    let quiet = bundle.cli(&["exec", &bundle.id, "true"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    let seen = bundle.cli(&[
        "--debug",
        "exec",
        &bundle.id,
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ]);
    assert_eq!(seen.stderr, "wharf-runtime: debug: exec: initial CPU affinity: 0x1");
    assert!(seen.stdout.ends_with("\t0"), "{seen:?}");
}
