//! What a program sees and may do, asked from inside. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::json;

#[test]
fn the_program_has_namespaces_of_its_own() {
    let inside = Bundle::new("for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done")
        .run()
        .ok();
    for line in inside.lines() {
        let name = line.split(':').next().expect("a kind");
        let host = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("own namespace");
        assert_ne!(host.to_string_lossy(), line);
    }
    assert_eq!(inside.lines().count(), 6);
    assert_eq!(Bundle::new("echo $$; hostname").run().ok(), "1\ninside");
}

#[test]
fn its_cgroup_is_the_root_of_what_it_sees() {
    let groups = Bundle::new("cat /proc/self/cgroup").run().ok();
    let own: Vec<_> = groups
        .lines()
        .filter(|line| line.contains(":memory:") || line.contains(":pids:"))
        .collect();
    assert!(own.iter().all(|line| line.ends_with(":/")), "{groups}");
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_refuse_writes() {
    let out = Bundle::new(
        "wc -c </proc/timer_list; wc -c </proc/keys; ls -A /sys/firmware | wc -l;
         echo x 2>/dev/null >/proc/sys/kernel/panic || echo refused;
         touch /sys/firmware/x 2>/dev/null || echo refused",
    );
    assert_eq!(out.run().ok(), "0\n0\n0\nrefused\nrefused");
}

#[test]
fn a_read_only_root_refuses_writes_but_tmpfs_takes_them() {
    let mut bundle = Bundle::new("touch /x 2>/dev/null || echo refused; touch /dev/x && echo fine");
    bundle.set("/root/readonly", json!(true));
    assert_eq!(bundle.run().ok(), "refused\nfine");
}

#[test]
fn capabilities_are_those_of_the_five_sets() {
    let mut bundle = Bundle::new("grep ^Cap /proc/self/status | tr -d '\\t'");
    bundle.set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
    bundle.set("/process/capabilities/ambient", json!(["CAP_KILL", "CAP_CHOWN"]));
    bundle.set("/process/user", json!({ "uid": 5, "gid": 5 }));
    // Ambient needs inheritable: chown (bit 0) falls away, kill (bit 5) stays.
    let out = bundle.run().ok();
    let line = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    assert_eq!(line("CapAmb:").as_deref(), Some("0000000000000020"), "{out}");
    assert_eq!(line("CapInh:").as_deref(), Some("0000000000000020"));
    assert_eq!(line("CapEff:").as_deref(), Some("0000000000000020"));
    assert_eq!(line("CapBnd:").as_deref(), Some("00000000000020e1"));
}

#[test]
fn without_capabilities_there_are_none() {
    let mut bundle = Bundle::new("grep -c 'Cap.*0000000000000000' /proc/self/status");
    bundle.config["process"]
        .as_object_mut()
        .expect("process")
        .remove("capabilities");
    assert_eq!(bundle.run().ok(), "5");
}

#[test]
fn an_unknown_capability_is_a_warning() {
    let mut bundle = Bundle::new("echo ran");
    bundle.set("/process/capabilities/bounding", json!(["CAP_NONSENSE"]));
    let outcome = bundle.run();
    assert!(outcome.stderr.contains("CAP_NONSENSE"), "{outcome:?}");
    assert_eq!(outcome.ok(), "ran");
}

#[test]
fn what_is_inheritable_must_be_in_the_bounding_set() {
    let mut bundle = Bundle::new("echo ran");
    bundle.set("/process/capabilities/inheritable", json!(["CAP_SYS_ADMIN"]));
    let outcome = bundle.run();
    let expected =
        "process.capabilities.inheritable: CAP_SYS_ADMIN is not in the bounding set: operation not permitted";
    assert_eq!(
        (outcome.code, outcome.stderr),
        (1, format!("wharf-runtime: error: {expected}"))
    );
}

#[test]
fn the_filter_is_in_force_with_and_without_no_new_privileges() {
    for no_new_privileges in [false, true] {
        let mut bundle =
            Bundle::new("mkdir /tmp/x 2>/dev/null || echo denied; grep -E 'Seccomp:|NoNew' /proc/self/status");
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        let rule = json!({ "names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO" });
        bundle.set(
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }),
        );
        let expected = format!("denied\nNoNewPrivs:\t{}\nSeccomp:\t2", u8::from(no_new_privileges));
        assert_eq!(bundle.run().ok(), expected);
    }
}

#[test]
fn under_the_default_profile_programs_run_and_namespaces_are_refused() {
    let mut bundle = Bundle::new("ls / >/dev/null && echo fine; unshare -U true 2>/dev/null || echo refused");
    let profile = wharf_runtime::seccomp::default_profile(&["CAP_CHOWN".to_owned()]);
    bundle.set("/linux/seccomp", serde_json::to_value(profile).expect("JSON"));
    assert_eq!(bundle.run().ok(), "fine\nrefused");
}

#[test]
fn user_groups_umask_and_directory_are_as_configured() {
    let mut bundle = Bundle::new("id -u; id -g; id -G; umask; pwd; touch /tmp/x; stat -c %a /tmp/x");
    bundle.set(
        "/process/user",
        json!({ "uid": 1000, "gid": 1001, "umask": 0o077, "additionalGids": [7, 8] }),
    );
    bundle.set("/process/cwd", json!("/made/for/me"));
    std::fs::set_permissions(
        bundle.rootfs().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .expect("open /tmp");
    assert_eq!(bundle.run().ok(), "1000\n1001\n1001 7 8\n0077\n/made/for/me\n600");
}

#[test]
fn limits_apply_and_those_that_may_not_be_raised_are_warnings() {
    let mut bundle = Bundle::new("ulimit -n; ulimit -c");
    let limit = |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
    bundle.set(
        "/process/rlimits",
        json!([limit("RLIMIT_NOFILE", 100, 200), limit("RLIMIT_CORE", 0, 0)]),
    );
    assert_eq!(bundle.run().ok(), "100\n0");
}

#[test]
fn the_program_starts_with_default_signals_and_no_foreign_descriptor() {
    let mut bundle = Bundle::new("");
    // No shell, which would ignore signals by itself.
    bundle.set(
        "/process/args",
        json!(["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]),
    );
    bundle.write();
    // A caller that ignores signals and leaks a descriptor of a directory.
    let runtime = bundle::program("wharf-runtime");
    let script = format!(
        "trap '' HUP PIPE; exec 9</; exec {} --root {} run -b {} {}",
        runtime.display(),
        bundle.path().join("state").display(),
        bundle.path().display(),
        bundle.id
    );
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .output()
        .expect("run");
    let outcome = bundle::Outcome::from(output);
    let zero = "0000000000000000";
    assert_eq!(outcome.ok(), format!("SigBlk:\t{zero}\nSigIgn:\t{zero}"));
    // 3 is the directory that is being listed.
    bundle.set("/process/args", json!(["ls", "/proc/self/fd"]));
    assert_eq!(bundle.run().ok(), "0\n1\n2\n3");
}

#[test]
fn preserved_descriptors_are_there() {
    let bundle = Bundle::new("cat <&3; ls /proc/self/fd");
    bundle.write();
    let runtime = bundle::program("wharf-runtime");
    let script = format!(
        "echo text | {{ exec 3<&0 4</dev/null 5</dev/null; exec {} --root {} run --preserve-fds 1 -b {} {} </dev/null; }}",
        runtime.display(),
        bundle.path().join("state").display(),
        bundle.path().display(),
        bundle.id
    );
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .output()
        .expect("run");
    // 4 is the directory that is being listed.
    assert_eq!(bundle::Outcome::from(output).ok(), "text\n0\n1\n2\n3\n4");
}

#[test]
fn descriptors_of_the_runtime_itself_are_never_preserved() {
    let bundle = Bundle::new("ls /proc/self/fd >/seen");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let status = bundle
        .command(&["create", "--preserve-fds", "100", "-b", &path, &bundle.id])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(status.expect("create").success());
    // SECURITY: nor may init hold them while it waits, such as the container's lock.
    let state: serde_json::Value = serde_json::from_str(&bundle.cli(&["state", &bundle.id]).ok()).expect("JSON");
    let open = std::fs::read_dir(format!("/proc/{}/fd", state["pid"]))
        .expect("descriptors")
        .flatten();
    let open: Vec<_> = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    assert!(
        !open
            .iter()
            .any(|path| path.ends_with("lock") || path.starts_with("/sys")),
        "{open:?}"
    );
    bundle.cli(&["start", &bundle.id]).ok();
    bundle.await_file("seen");
    let seen = || std::fs::read_to_string(bundle.rootfs().join("seen")).expect("seen");
    for _ in 0..2000 {
        if seen().lines().any(|line| line == "3") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Listed are the streams, the directory that is being listed, and what
    // the caller of this test handed on.
    let inherited = inherited();
    let foreign: Vec<_> = seen()
        .lines()
        .map(str::to_owned)
        .filter(|fd| !inherited.contains(fd))
        .collect();
    assert_eq!(foreign, ["0", "1", "2", "3"]);
}

/// Descriptors beyond the streams that this process passes on to its children.
fn inherited() -> Vec<String> {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let passes_on = |fd: &String| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.is_some_and(|flags| u32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & CLOSE_ON_EXEC == 0))
    };
    let open = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let names = open.map(|fd| fd.file_name().to_string_lossy().into_owned());
    names
        .filter(|fd| !["0", "1", "2", "3"].contains(&fd.as_str()) && passes_on(fd))
        .collect()
}

#[test]
fn parameters_of_namespaces_are_set_and_those_of_the_host_refused() {
    let mut bundle = Bundle::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax");
    bundle.set(
        "/linux/sysctl",
        json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4242" }),
    );
    assert_eq!(bundle.run().ok(), "1\n4242");
    let mut bundle = Bundle::new("true");
    bundle.set("/linux/sysctl", json!({ "kernel.panic": "1" }));
    let outcome = bundle.run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("linux.sysctl[\"kernel.panic\"]"), "{outcome:?}");
}

#[test]
fn default_devices_work_and_asked_ones_are_made() {
    let mut bundle = Bundle::new(
        "echo x >/dev/null && head -c3 /dev/zero | wc -c; readlink /dev/stdin; readlink /dev/ptmx; stat -c '%a %t:%T %u' /dev/mine /dev/null",
    );
    let device =
        json!({ "type": "c", "path": "/dev/mine", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 9, "gid": 9 });
    bundle.set("/linux/devices", json!([device]));
    assert_eq!(bundle.run().ok(), "3\n/proc/self/fd/0\npts/ptmx\n640 1:5 9\n666 1:3 0");
}

#[test]
fn a_user_namespace_maps_root_to_an_ordinary_id() {
    let mut bundle = Bundle::new("id -u; cat /proc/self/uid_map | tr -s ' '; head -c1 /dev/zero | wc -c");
    bundle.map_users(200_000, 65_536);
    assert_eq!(bundle.run().ok(), "0\n 0 200000 65536\n1");
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let mut bundle = Bundle::new("cut -d. -f1 /proc/uptime");
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("list")
        .push(json!({ "type": "time" }));
    bundle.set("/linux/timeOffsets", json!({ "boottime": { "secs": 100_000_000 } }));
    let uptime: u64 = bundle.run().ok().parse().expect("seconds");
    assert!(uptime > 100_000_000, "{uptime}");
}
