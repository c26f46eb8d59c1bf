//! Roots on file systems of every kind, and places that are full or read-only. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// A mount that goes away with the test.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount<'a>(arguments: &[&str], at: &'a Path) -> Mounted<'a> {
    std::fs::create_dir_all(at).expect("a mount point");
    let done = Command::new("mount").args(arguments).arg(at).status();
    assert!(done.expect("mount").success(), "{arguments:?}");
    Mounted(at)
}

fn copy(bundle: &Bundle, to: &Path) {
    let from = format!("{}/.", bundle.rootfs().display());
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp").success());
}

#[test]
fn a_root_may_be_on_tmpfs_or_an_overlay() {
    let mut bundle = Bundle::new("touch /written && ls /bin/sh /written");
    let place = bundle.path().join("place");
    bundle.set("/root/path", json!("place"));
    {
        let _mounted = mount(&["-t", "tmpfs", "tmpfs"], &place);
        copy(&bundle, &place);
        assert_eq!(bundle.run().ok(), "/bin/sh\n/written");
    }
    let scratch = bundle.path().join("scratch");
    let _scratch = mount(&["-t", "tmpfs", "tmpfs"], &scratch);
    for name in ["upper", "work"] {
        std::fs::create_dir(scratch.join(name)).expect("a directory");
    }
    let (lower, scratch) = (bundle.rootfs(), scratch.display().to_string());
    let options = format!(
        "lowerdir={},upperdir={scratch}/upper,workdir={scratch}/work",
        lower.display()
    );
    let _mounted = mount(&["-t", "overlay", "overlay", "-o", &options], &place);
    assert_eq!(bundle.run().ok(), "/bin/sh\n/written");
    assert!(!bundle.rootfs().join("written").exists());
}

fn is_installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("NOT CHECKED: {program} is not installed");
    }
    there
}

/// The whole life of a container whose root is `place` below its bundle.
fn live_on(bundle: &mut Bundle) {
    bundle.set("/root/path", json!("place"));
    assert_eq!(bundle.run().ok(), "/bin/sh\n/written");
    assert!(bundle.path().join("place/written").exists());
    bundle.set("/process/args", json!(["/bin/sh", "-c", "sleep 1000"]));
    bundle.set("/linux/maskedPaths", json!(["/written"]));
    bundle.start().ok();
    assert_eq!(
        bundle.cli(&["exec", &bundle.id, "wc", "-c", "/written"]).ok(),
        "0 /written"
    );
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    bundle.set("/root/readonly", json!(true));
    bundle.set(
        "/process/args",
        json!(["/bin/sh", "-c", "touch /x 2>/dev/null || echo refused"]),
    );
    assert_eq!(bundle.run().ok(), "refused");
}

#[test]
fn a_root_may_be_on_btrfs() {
    if !is_installed("mkfs.btrfs") {
        return;
    }
    let mut bundle = Bundle::new("echo x >/written && ls /bin/sh /written");
    let image = bundle.path().join("image");
    let file = std::fs::File::create(&image).expect("create");
    file.set_len(128 << 20).expect("grow");
    let made = Command::new("mkfs.btrfs")
        .arg("-q")
        .arg(&image)
        .output()
        .expect("mkfs.btrfs");
    assert!(made.status.success(), "{made:?}");
    let place = bundle.path().join("place");
    std::fs::create_dir(&place).expect("a mount point");
    let done = Command::new("mount")
        .args(["-t", "btrfs", "-o", "loop"])
        .arg(&image)
        .arg(&place)
        .output();
    let done = done.expect("mount");
    if !done.status.success() {
        eprintln!("NOT CHECKED: no btrfs here: {}", String::from_utf8_lossy(&done.stderr));
        return;
    }
    let mounted = Mounted(&place);
    copy(&bundle, &place);
    live_on(&mut bundle);
    drop(mounted);
}

#[test]
fn a_root_may_be_behind_a_fuse_server() {
    if !is_installed("fuse-overlayfs") {
        return;
    }
    let mut bundle = Bundle::new("echo x >/written && ls /bin/sh /written");
    let path = bundle.path().to_path_buf();
    for name in ["upper", "work", "place"] {
        std::fs::create_dir(path.join(name)).expect("a directory");
    }
    let options = format!(
        "lowerdir={0}/rootfs,upperdir={0}/upper,workdir={0}/work",
        path.display()
    );
    let place = path.join("place");
    let served = Command::new("fuse-overlayfs")
        .args(["-o", &options])
        .arg(&place)
        .output();
    let served = served.expect("fuse-overlayfs");
    if !served.status.success() {
        eprintln!("NOT CHECKED: no FUSE here: {}", String::from_utf8_lossy(&served.stderr));
        return;
    }
    let mounted = Mounted(&place);
    live_on(&mut bundle);
    assert!(!bundle.rootfs().join("written").exists());
    drop(mounted);
}

#[test]
fn a_full_dev_shm_does_not_keep_programs_from_running() {
    let mut bundle = Bundle::new("cat /dev/zero >/dev/shm/fill 2>/dev/null; echo full; touch /ready; sleep 1000");
    bundle.add_mount(json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=64k"] }));
    bundle.start().ok();
    for _ in 0..1000 {
        if bundle.rootfs().join("ready").exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(bundle.cli(&["exec", &bundle.id, "echo", "inside"]).ok(), "inside");
    bundle.cli(&["delete", "--force", &bundle.id]).ok();
    assert!(!bundle.has_cgroup());
}

#[test]
fn a_full_place_for_states_is_an_error_that_leaves_nothing() {
    let bundle = Bundle::new("true");
    bundle.write();
    let state = bundle.path().join("state");
    let _mounted = mount(&["-t", "tmpfs", "-o", "size=16k", "tmpfs"], &state);
    let _ = std::fs::write(state.join("fill"), vec![0u8; 64 << 10]);
    let path = bundle.path().to_string_lossy().into_owned();
    let outcome = bundle.cli(&["run", "--bundle", &path, &bundle.id]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("no space left on device"), "{outcome:?}");
    assert!(!state.join(&bundle.id).exists());
    assert!(!bundle.has_cgroup());
}
