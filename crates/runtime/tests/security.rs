//! Attacks on the runtime, as somebody would write them who has an image, a shared volume or a configuration in
//! hand. docs/security-runtime.md lists them with the defence of each. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn mounts_of_host() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo")
}

fn bind(source: &Path, destination: &str) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rw"] })
}

fn with_many_rights(bundle: &mut Bundle) {
    let all: Vec<_> = ["CHOWN", "DAC_OVERRIDE", "SYS_ADMIN", "SYS_CHROOT", "MKNOD", "FOWNER"]
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": all, "effective": all, "permitted": all }),
    );
}

// ---- a leaked descriptor and a directory of the host (CVE-2024-21626) ----

#[test]
fn no_descriptor_of_the_host_is_open_in_the_program_or_in_its_hook() {
    let list = "for f in /proc/self/fd/*; do readlink $f; done 2>/dev/null | grep -vE '^(/dev/null|pipe:|/proc/[0-9]+/fd|/memfd:state)'; true";
    let mut bundle = Bundle::new(list);
    let script = format!("{{ {list}; }} >/hook");
    bundle.set(
        "/hooks",
        json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }] }),
    );
    assert_eq!(bundle.run().ok(), "");
    assert_eq!(std::fs::read_to_string(bundle.rootfs().join("hook")).expect("hook"), "");
}

#[test]
fn a_working_directory_among_the_descriptors_is_refused() {
    for number in [0, 3, 4, 5, 6, 7, 8, 9] {
        for path in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/../../.."),
            format!("/proc/1/fd/{number}"),
        ] {
            let mut bundle = Bundle::new("pwd; ls");
            bundle.set("/process/cwd", json!(path));
            let outcome = bundle.run();
            assert_ne!(outcome.code, 0, "{path}: {outcome:?}");
            assert!(outcome.stdout.is_empty(), "{path}: {outcome:?}");
        }
    }
}

#[test]
fn a_working_directory_by_a_link_of_the_image_is_inside() {
    let mut bundle = Bundle::new("pwd -P; ls -d bin");
    symlink("/proc/self/root/../../..", bundle.rootfs().join("up")).expect("link");
    symlink("../../../../../..", bundle.rootfs().join("climb")).expect("link");
    bundle.set("/process/cwd", json!("/climb"));
    assert_eq!(bundle.run().ok(), "/\nbin");
    bundle.set("/process/cwd", json!("/up"));
    assert_ne!(bundle.run().code, 0);
}

// ---- links of the image under mount targets, masked paths, devices and the console ----

#[test]
fn mounts_on_links_of_the_image_stay_in_the_image() {
    let host = tempfile::tempdir().expect("a directory of the host");
    let outside = host.path().join("outside");
    std::fs::create_dir(&outside).expect("outside");
    let mut bundle = Bundle::new("cat /target/file; ls -A /data");
    let source = host.path().join("source");
    std::fs::create_dir(&source).expect("source");
    std::fs::write(source.join("file"), "mounted").expect("file");
    // Absolute, climbing, and through a directory that is itself a link.
    symlink(&outside, bundle.rootfs().join("target")).expect("link");
    let climb = format!("../../../../../../../..{}/../beside", outside.display());
    symlink(climb, bundle.rootfs().join("data")).expect("link");
    bundle.add_mount(bind(&source, "/target"));
    bundle.add_mount(json!({ "destination": "/data/deep", "type": "tmpfs", "source": "tmpfs", "options": [] }));
    let before = mounts_of_host();
    assert_eq!(bundle.run().ok(), "mounteddeep");
    assert_eq!(std::fs::read_dir(&outside).expect("outside").count(), 0);
    assert!(!host.path().join("beside").exists());
    assert_eq!(mounts_of_host(), before);
}

#[test]
fn proc_and_sysfs_are_not_mounted_on_links() {
    for name in ["proc", "sys"] {
        let bundle = Bundle::new("true");
        std::fs::remove_dir(bundle.rootfs().join(name)).expect("remove");
        symlink("/tmp", bundle.rootfs().join(name)).expect("link");
        let outcome = bundle.run();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("/{name}")), "{outcome:?}");
    }
}

#[test]
fn nothing_but_proc_is_mounted_on_proc_nor_over_its_files() {
    let host = tempfile::tempdir().expect("a directory of the host");
    std::fs::create_dir_all(host.path().join("self/attr")).expect("a false /proc");
    std::fs::write(host.path().join("file"), "").expect("file");
    let file = host.path().join("file");
    let tmpfs = |at: &str| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": [] });
    let attacks = [
        (true, bind(host.path(), "/proc")),
        (true, tmpfs("/proc")),
        (true, bind(host.path(), "/hidden")),
        (false, bind(host.path(), "/proc/self/attr")),
        (false, bind(&file, "/proc/self/attr/exec")),
        (false, bind(&file, "/proc/sys/kernel/core_pattern")),
        (false, bind(&file, "/proc/version")),
        (false, tmpfs("/proc/sys")),
        (false, tmpfs("/proc/self")),
        (
            false,
            json!({ "destination": "/proc/sys", "type": "cgroup", "source": "cgroup", "options": [] }),
        ),
    ];
    for (is_first, attack) in attacks {
        let mut bundle = Bundle::new("true");
        symlink("/proc", bundle.rootfs().join("hidden")).expect("link");
        let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
        mounts.insert(usize::from(!is_first), attack.clone());
        let outcome = bundle.run();
        assert_eq!(outcome.code, 1, "{attack}: {outcome:?}");
        assert!(outcome.stderr.contains("not permitted"), "{attack}: {outcome:?}");
    }
}

/// What LXCFS covers may be covered.
#[test]
fn harmless_files_of_proc_may_be_covered() {
    let host = tempfile::tempdir().expect("a directory of the host");
    std::fs::write(host.path().join("uptime"), "1.0 1.0\n").expect("file");
    let mut bundle = Bundle::new("cat /proc/uptime");
    bundle.add_mount(bind(&host.path().join("uptime"), "/proc/uptime"));
    assert_eq!(bundle.run().ok(), "1.0 1.0");
}

#[test]
fn a_console_of_the_image_that_is_a_link_gets_no_terminal() {
    let target = "/proc/self/oom_score_adj";
    let mut bundle = Bundle::new("true");
    bundle.set("/process/terminal", json!(true));
    // /dev is the image's own.
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|mount| mount["destination"] != "/dev");
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).expect("pts");
    symlink(target, bundle.rootfs().join("dev/console")).expect("link");
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("/dev/console"), "{outcome:?}");
}

#[test]
fn a_terminal_multiplexer_of_the_image_is_not_used() {
    let mut bundle = Bundle::new("true");
    bundle.set("/process/terminal", json!(true));
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|mount| mount["destination"] != "/dev/pts" && mount["destination"] != "/dev");
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).expect("pts");
    std::fs::write(bundle.rootfs().join("dev/pts/ptmx"), "").expect("a false ptmx");
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("devpts"), "{outcome:?}");
}

#[test]
fn masks_are_the_kernel_s_null_device_and_not_the_image_s() {
    let mut bundle = Bundle::new("ls -l /secret | cut -c1; cat /secret; cat /proc/timer_list | wc -c");
    std::fs::write(bundle.rootfs().join("secret"), "treasure").expect("secret");
    // Before /dev is mounted this is /dev/null; a runtime that takes it by path binds it over what it masks.
    symlink("/secret", bundle.rootfs().join("dev/null")).expect("link");
    bundle.set("/linux/maskedPaths", json!(["/secret", "/proc/timer_list"]));
    assert_eq!(bundle.run().ok(), "c\n0");
}

// ---- races: a container that shares a volume swaps a directory for a link while another is created ----

#[test]
fn a_rename_race_on_a_mount_target_mounts_nothing_on_the_host() {
    let host = tempfile::tempdir().expect("a directory of the host");
    let (volume, outside) = (host.path().join("volume"), host.path().join("outside"));
    std::fs::create_dir_all(volume.join("target")).expect("target");
    std::fs::create_dir(&outside).expect("outside");
    symlink(&outside, volume.join("link")).expect("link");
    let source = host.path().join("source");
    std::fs::create_dir(&source).expect("source");
    let mut bundle = Bundle::new("true");
    bundle.add_mount(bind(&volume, "/volume"));
    bundle.add_mount(bind(&source, "/volume/target/made/here"));
    bundle.set(
        "/linux/maskedPaths",
        json!(["/volume/target/mask", "/volume/target/made"]),
    );
    bundle.set("/linux/readonlyPaths", json!(["/volume/target"]));
    let before = mounts_of_host();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let (a, b) = (volume.join("target"), volume.join("link"));
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags);
            }
        });
        for _ in 0..20 {
            // Whether it succeeds depends on the moment; where it mounts must not.
            let outcome = bundle.run();
            assert!(matches!(outcome.code, 0 | 1), "{outcome:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(std::fs::read_dir(&outside).expect("outside").count(), 0);
    assert_eq!(mounts_of_host(), before);
}

// ---- writes to /proc that are led elsewhere (CVE-2025-52881) ----

#[test]
fn a_sysctl_reaches_the_kernel_though_something_lies_over_its_file() {
    // In a mount namespace of its own, as the runtime would run in a machine that somebody else prepared.
    let mut bundle = Bundle::new("cat /proc/sys/net/ipv4/ip_forward; cat /proc/self/oom_score_adj");
    bundle.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
    bundle.set("/process/oomScoreAdj", json!(321));
    bundle.write();
    let trap = bundle.path().join("trap");
    std::fs::write(&trap, "untouched").expect("trap");
    let script = format!(
        "mount --bind {trap} /proc/sys/net/ipv4/ip_forward && exec {runtime} --root {state} run --bundle {bundle} {id}",
        trap = trap.display(),
        runtime = bundle::program("wharf-runtime").display(),
        state = bundle.path().join("state").display(),
        bundle = bundle.path().display(),
        id = bundle.id,
    );
    let output = std::process::Command::new("/bin/busybox")
        .args([
            "unshare",
            "-m",
            "--propagation",
            "private",
            "/bin/busybox",
            "sh",
            "-c",
            &script,
        ])
        .output()
        .expect("unshare");
    let outcome = bundle::Outcome::from(output);
    assert_eq!(outcome.ok(), "1\n321");
    assert_eq!(std::fs::read_to_string(trap).expect("trap"), "untouched");
}

// ---- the container's own cgroup ----

#[test]
fn a_container_finds_no_release_agent_and_no_group_above_its_own() {
    let mut bundle = Bundle::new(
        "find /sys/fs/cgroup -name release_agent; cat /proc/self/cgroup | grep -v ':/$' | grep -E ':(memory|pids|devices):';
         mkdir /tmp/m; for c in memory rdma devices; do mount -t cgroup -o $c c /tmp/m 2>/dev/null && find /tmp/m -name release_agent && umount /tmp/m; done; echo end",
    );
    bundle.add_mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"],
    }));
    assert_eq!(bundle.run().ok(), "end");
}

#[test]
fn a_read_only_cgroup_mount_takes_no_limit() {
    let mut bundle = Bundle::new(
        "for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max; do
         test -e $f && (echo 1 >$f) 2>/dev/null && echo written $f; done; echo end",
    );
    bundle.add_mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "ro"],
    }));
    assert_eq!(bundle.run().ok(), "end");
}

// ---- rights ----

#[test]
fn no_capability_is_inheritable_or_ambient_unless_asked_for() {
    let bundle = Bundle::new("grep -E 'CapInh|CapAmb' /proc/self/status; sleep 1000");
    bundle.start().ok();
    for extra in [
        &[][..],
        &["--cap", "CAP_SYS_ADMIN"],
        &["--cap", "CAP_NET_ADMIN", "--user", "33:33"],
    ] {
        let arguments = [
            &["exec"],
            extra,
            &[&bundle.id, "grep", "-E", "CapInh|CapAmb", "/proc/self/status"],
        ]
        .concat();
        let out = bundle.cli(&arguments).ok();
        assert_eq!(out, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000", "{extra:?}");
    }
}

#[test]
fn another_user_has_no_capability_in_effect() {
    let mut bundle = Bundle::new("grep -E 'CapEff|CapPrm' /proc/self/status");
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    assert_eq!(
        bundle.run().ok(),
        "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000"
    );
}

/// A group that denies what others may do cannot be left by becoming root of a user namespace.
#[test]
fn setgroups_is_denied_where_the_kernel_demands_it() {
    let mut bundle = Bundle::new("cat /proc/self/setgroups; id -G");
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("namespaces")
        .push(json!({ "type": "user" }));
    bundle.set(
        "/linux/uidMappings",
        json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]),
    );
    bundle.set(
        "/linux/gidMappings",
        json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]),
    );
    bundle.set("/process/user", json!({ "uid": 5, "gid": 6, "additionalGids": [7] }));
    // Mapped by root, groups may be changed, but only to those that are mapped.
    assert_eq!(bundle.run().ok(), "allow\n6 7");
    bundle.set("/process/user", json!({ "uid": 0, "gid": 0, "additionalGids": [5000] }));
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.is_empty(), "{outcome:?}");
}

/// Processes of a container whose pid namespace is joined see init before it is a program.
#[test]
fn a_process_of_the_joined_pid_namespace_cannot_reach_into_init() {
    let mut spy = Bundle::new(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1 | /proc/$$) continue ;; esac
         case $(cat $p/comm 2>/dev/null) in sh | sleep | cat | ls | readlink | busybox | '') continue ;; esac
         ls $p/root/proc/1 >/dev/null 2>&1 && ls -d $p/root/usr >>/loot 2>/dev/null
         ls $p/fd/ 2>/dev/null | grep -q . && ls $p/cwd/ >>/loot 2>/dev/null; done; done",
    );
    with_many_rights(&mut spy);
    spy.start().ok();
    let state: Value = serde_json::from_str(&spy.cli(&["state", &spy.id]).ok()).expect("JSON");
    let path = format!("/proc/{}/ns/pid", state["pid"]);
    let mut victim = Bundle::new("exec true");
    victim.set(
        "/linux/namespaces",
        json!([{ "type": "pid", "path": path }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }]),
    );
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        victim.run().ok();
    }
    let loot = std::fs::read_to_string(spy.rootfs().join("loot")).unwrap_or_default();
    assert_eq!(loot, "");
}

#[test]
fn a_set_user_id_program_of_an_image_gains_nothing_under_no_new_privileges() {
    let mut bundle = Bundle::new("/bin/su-probe sh -c 'id -u'");
    let copy = bundle.rootfs().join("bin/su-probe");
    std::fs::copy("/bin/busybox", &copy).expect("copy");
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).expect("set-user-id");
    bundle.set("/process/args", json!(["/bin/su-probe", "id", "-u"]));
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.set("/process/noNewPrivileges", json!(true));
    let out = bundle.run();
    assert_ne!(out.stdout.lines().next(), Some("0"), "{out:?}");
}

// ---- hostile configurations ----

fn run_text(text: &str) -> bundle::Outcome {
    let bundle = Bundle::new("true");
    std::fs::write(bundle.path().join("config.json"), text).expect("write");
    let path = bundle.path().to_string_lossy().into_owned();
    let outcome = bundle.cli(&["run", "--bundle", &path, &bundle.id]);
    assert!(!bundle.has_cgroup());
    outcome
}

#[test]
fn configurations_that_are_too_deep_too_large_or_no_json_are_one_clean_error() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"ociVersion\":\"1.2.0\",\"hostname\":\"{}\"}}", "x".repeat(17 << 20));
    let many = format!("{{\"ociVersion\":\"1.2.0\",\"mounts\":[{}0]}}", "{},".repeat(100_000));
    for (name, text) in [
        ("deep", deep.as_str()),
        ("large", &large),
        ("many", &many),
        ("empty", ""),
        ("binary", "\u{0}\u{1}\u{2}"),
        ("list", "[]"),
        ("unfinished", "{\"ociVersion\": \"1.2.0\", \"process\": {"),
    ] {
        let outcome = run_text(text);
        assert_eq!(outcome.code, 1, "{name}: {outcome:?}");
        assert!(outcome.stderr.contains("config.json"), "{name}: {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{name}: {outcome:?}");
        assert!(outcome.stderr.len() < 1000, "{name}");
    }
}

#[test]
fn a_nul_byte_anywhere_is_an_error_and_cuts_nothing_short() {
    let check = |pointer: &str, value: Value| {
        let mut bundle = Bundle::new("echo ran");
        bundle.set(pointer, value);
        let outcome = bundle.run();
        assert_ne!(outcome.code, 0, "{pointer}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{pointer}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{pointer}: {outcome:?}");
        assert!(!bundle.has_cgroup(), "{pointer}");
    };
    check("/process/args", json!(["echo", "a\0b"]));
    check("/process/args", json!(["ec\0ho"]));
    check("/process/env", json!(["PATH=/bin\0:/evil"]));
    check("/process/cwd", json!("/tmp\0/x"));
    check("/root/path", json!("rootfs\0/x"));
    check("/hostname", json!("a\0b"));
    check("/linux/cgroupsPath", json!("/a\0b"));
    check("/linux/maskedPaths", json!(["/proc/kcore\0x"]));
    check("/linux/readonlyPaths", json!(["/proc/sys\0x"]));
    check("/mounts/0/destination", json!("/proc\0x"));
    check("/mounts/1/source", json!("tmpfs\0x"));
    check("/mounts/1/options", json!(["mode=755\0,size=1"]));
    check(
        "/linux/devices",
        json!([{ "path": "/dev/x\0y", "type": "c", "major": 1, "minor": 3 }]),
    );
    check("/linux/sysctl", json!({ "net.ipv4.ip_forward\0x": "1" }));
    check(
        "/linux/namespaces/1",
        json!({ "type": "network", "path": "/proc/1/ns/net\0x" }),
    );
}

#[test]
fn huge_arguments_and_names_are_clean_errors() {
    let check = |pointer: &str, value: Value, message: &str| {
        let mut bundle = Bundle::new("true");
        bundle.set(pointer, value);
        let outcome = bundle.run();
        assert_ne!(outcome.code, 0, "{pointer}");
        assert!(
            outcome.stderr.to_lowercase().contains(message),
            "{pointer}: {}",
            &outcome.stderr[..outcome.stderr.len().min(300)]
        );
        assert!(
            outcome.stderr.len() < 20_000,
            "{pointer}: {} bytes",
            outcome.stderr.len()
        );
        assert!(!bundle.has_cgroup(), "{pointer}");
    };
    let many = vec!["x".repeat(100); 100_000];
    check(
        "/process/args",
        json!([["true".to_owned()].as_slice(), &many].concat()),
        "argument list too long",
    );
    check("/process/args", json!(["y".repeat(300_000)]), "exec");
    check(
        "/process/cwd",
        json!(format!("/{}", "z".repeat(300_000))),
        "name too long",
    );
    check("/hostname", json!("h".repeat(300_000)), "hostname");
}
