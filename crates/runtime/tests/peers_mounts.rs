//! Mounts as runc makes them where the specification is silent. Needs root.

mod bundle;

use bundle::{Bundle, has_mount_setattr};
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_tmpfs_without_a_mode_has_that_of_the_directory_it_covers() {
    let mut bundle = Bundle::new("stat -c %a /covered /made /chosen");
    let tmpfs = |destination: &str, options: &[&str]| json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options });
    for name in ["covered", "chosen"] {
        let path = bundle.rootfs().join(name);
        std::fs::create_dir(&path).expect("make a directory");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o710)).expect("chmod");
    }
    bundle.add_mount(tmpfs("/covered", &[])).add_mount(tmpfs("/made", &[]));
    bundle.add_mount(tmpfs("/chosen", &["mode=0444"]));
    assert_eq!(bundle.run().ok(), "710\n1777\n444");
}

#[test]
fn a_read_only_dev_is_filled_first() {
    let mut bundle = Bundle::new("test -c /dev/null && touch /dev/x 2>/dev/null || echo refused; ls /dev/pts/ptmx");
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    let dev = mounts
        .iter_mut()
        .find(|mount| mount["destination"] == "/dev")
        .expect("dev");
    dev["options"].as_array_mut().expect("options").push(json!("ro"));
    assert_eq!(bundle.run().ok(), "refused\n/dev/pts/ptmx");
}

#[test]
fn a_bind_may_take_what_an_earlier_mount_brought() {
    let mut bundle = Bundle::new("cat /second/file");
    let outside = bundle.path().join("outside");
    std::fs::create_dir(&outside).expect("make a directory");
    std::fs::write(outside.join("file"), "brought").expect("write");
    std::fs::create_dir(bundle.rootfs().join("first")).expect("make a directory");
    bundle.add_mount(json!({ "destination": "/first", "source": outside, "options": ["bind"] }));
    bundle.add_mount(json!({ "destination": "/second", "source": "rootfs/first", "options": ["bind"] }));
    assert_eq!(bundle.run().ok(), "brought");
}

/// The flags of `/place`, a bind with these options of a mount with those, or the error.
fn bound(of: &str, options: &[&str], has_users: bool) -> Result<String, String> {
    let mut bundle =
        Bundle::new("while read -r _ at _ flags _; do test $at != /place || echo $flags; done </proc/mounts");
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).expect("make a directory");
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new("mount")
            .args(arguments)
            .arg(&source)
            .status();
        assert!(done.expect("mount").success(), "{arguments:?}");
    };
    run(&["-t", "tmpfs", "-o", "strictatime", "tmpfs"]);
    run(&["-o", &format!("remount,bind,{of}")]);
    bundle.add_mount(json!({ "destination": "/place", "source": source, "options": options }));
    if has_users {
        bundle.map_users(100_000, 65_536);
    }
    std::fs::create_dir(bundle.rootfs().join("place")).expect("the mapped root may not make it");
    let outcome = bundle.run();
    let unmounted = std::process::Command::new("umount").arg(&source).status();
    assert!(unmounted.expect("umount").success());
    match outcome.code {
        0 => Ok(outcome.stdout.trim().to_owned()),
        _ => Err(outcome.stderr),
    }
}

#[test]
fn a_bind_with_attributes_has_those_and_no_others_of_its_source() {
    let is_there = |flags: &str, name: &str| flags.split(',').any(|flag| flag == name);
    let check = |of: &str, options: &[&str], has_users: bool, (present, absent): (&[&str], &[&str])| {
        let flags = bound(of, options, has_users).expect("a bind");
        for name in present {
            assert!(is_there(&flags, name), "{options:?} of {of}: no {name} in {flags}");
        }
        for name in absent {
            assert!(!is_there(&flags, name), "{options:?} of {of}: {name} in {flags}");
        }
    };
    let source = "ro,noexec,nosuid,nodiratime,nosymfollow";
    let all: &[&str] = &["ro", "noexec", "nosuid", "nodiratime", "nosymfollow"];
    check(source, &["bind"], false, (all, &[]));
    check(source, &["bind"], true, (all, &[]));
    check(
        source,
        &["bind", "dev"],
        false,
        (&["rw", "nodiratime"], &["noexec", "nosuid", "nosymfollow"]),
    );
    // A user namespace may not take from a mount of the host what protects the host.
    check(
        source,
        &["bind", "dev"],
        true,
        (&["ro", "noexec", "nosuid"], &["nosymfollow"]),
    );
    check("ro", &["bind", "rw", "nodev"], false, (&["rw", "nodev"], &[]));
    let names = |refused: &str, what: &str| refused.contains(what) || !has_mount_setattr();
    let refused = bound("ro", &["bind", "rw", "nodev"], true).expect_err("locked");
    assert!(
        refused.contains("not permitted")
            && names(
                &refused,
                "/place: the container's user namespace may not change ro of its source"
            ),
        "{refused}"
    );
    let refused = bound("nodiratime", &["bind", "strictatime"], true).expect_err("locked");
    assert!(names(&refused, "may not change nodiratime, relatime of"), "{refused}");
    check("noatime", &["bind", "atime"], false, (&["noatime"], &[]));
    check(
        "noatime",
        &["bind", "nodiratime"],
        false,
        (&["nodiratime", "relatime"], &["noatime"]),
    );
    check(
        "nodiratime",
        &["bind", "strictatime"],
        false,
        (&[], &["nodiratime", "relatime", "noatime"]),
    );
}

#[test]
fn a_moved_root_leaves_no_proc_of_the_host_within_reach() {
    let mut bundle = Bundle::new("unshare -mrpf mount -t proc none /proc 2>&1 || echo refused");
    let sets = json!(["CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"]);
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": sets, "effective": sets, "permitted": sets }),
    );
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let said = bundle.cli(&["run", "--no-pivot", "--bundle", &path, &bundle.id]).ok();
    assert!(said.ends_with("refused"), "{said}");
}

#[test]
fn a_shared_root_is_nobodys_slave_and_a_path_masked_twice_is_masked_once() {
    let mut bundle =
        Bundle::new("grep ' / / ' /proc/self/mountinfo | grep -c master; grep -c ' /tmp ' /proc/self/mountinfo");
    bundle.set("/linux/rootfsPropagation", json!("shared"));
    bundle.set("/linux/maskedPaths", json!(["/tmp", "/tmp"]));
    assert_eq!(bundle.run().ok(), "0\n1");
}

#[test]
fn null_is_as_good_as_absent() {
    let mut bundle = Bundle::new("echo fine");
    bundle
        .set("/linux/timeOffsets", json!(null))
        .set("/process/rlimits", json!(null));
    bundle.set("/hooks", json!({ "poststop": null }));
    assert_eq!(bundle.run().ok(), "fine");
}

#[test]
fn a_created_container_can_be_asked_to_end() {
    let bundle = Bundle::new("sleep 1000");
    bundle.write();
    let path = bundle.path().to_string_lossy().into_owned();
    let mut create = bundle.command(&["create", "--bundle", &path, &bundle.id]);
    let status = create
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(status.expect("run the runtime").success());
    bundle.cli(&["kill", &bundle.id, "TERM"]).ok();
    let is_stopped = || bundle.cli(&["state", &bundle.id]).stdout.contains("stopped");
    let began = std::time::Instant::now();
    while !is_stopped() {
        assert!(began.elapsed().as_secs() < 20, "it never ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
