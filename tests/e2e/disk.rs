//! The disk under the root is full: an ext4 of its own, so that other tests are not disturbed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use wharf_testkit::{Output, Registry, Sandbox};

const SOON: Duration = Duration::from_secs(30);

/// A small ext4 in a file, mounted over the root and taken away again whatever happens.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where the machine has no loop devices or no mkfs.
    fn mount(image: &Path, at: &Path) -> Option<Self> {
        std::fs::File::create(image).unwrap().set_len(48 << 20).unwrap();
        let run = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
        let made = run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0", "-O", "^has_journal"])
            .arg(image));
        let mounted = made && run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn state(s: &Sandbox, name: &str) -> String {
    s.docker(&["inspect", "-f", "{{.State.Status}}", name]).ok().to_owned()
}

fn is_told(said: &Output) {
    let text = format!("{}{}", said.stdout, said.stderr).to_lowercase();
    let named = ["no space left", "disk is full", "database or disk is full"];
    assert!(
        said.code != 0 && named.iter().any(|words| text.contains(words)),
        "{said}"
    );
}

#[test]
fn a_full_disk_fails_what_writes_and_nothing_else() {
    let registry = Registry::start();
    let insecure = format!("--insecure-registry={}", registry.address());
    let mut s = Sandbox::start_with(&[&insecure]);
    s.terminate();
    let Some(_disk) = SmallDisk::mount(&s.path("disk.img"), &s.root()) else {
        eprintln!("not run: no loop device or no mkfs.ext4 on this machine");
        return;
    };
    s.boot();
    s.import_busybox();
    let remote = format!("{}/there", registry.address());
    s.docker(&["tag", "busybox", &remote]).ok();
    s.docker(&["push", &remote]).ok();
    s.docker(&["rmi", &remote]).ok();
    let count = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    s.docker(&["run", "-d", "--name", "one", "busybox", "sh", "-c", count])
        .ok();
    let context = s.path("context");
    std::fs::create_dir(&context).unwrap();
    let dockerfile = "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=8\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(context.join("payload"), vec![7; 4 << 20]).unwrap();
    fill(&s.root());
    let big = vec![3; 2 << 20];
    std::fs::write(s.path("big"), &big).unwrap();
    let context = context.to_string_lossy().into_owned();
    for refused in [
        &["create", "busybox"][..],
        &["run", "--rm", "busybox", "true"],
        &["volume", "create", "v1"],
        &["pull", &remote],
        &["build", "-q", &context],
        &["cp", &s.path("big").to_string_lossy(), "one:/big"],
        &["exec", "one", "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=4"],
    ] {
        is_told(&s.docker(refused));
    }
    assert_eq!(s.docker(&["exec", "one", "echo", "hi"]).ok(), "hi");
    s.docker(&["logs", "--tail", "1", "one"]).ok();
    s.docker(&["ps", "-a"]).ok();
    s.kill();
    s.boot();
    assert_eq!(state(&s, "one"), "running");
    std::fs::remove_file(s.root().join("filler")).unwrap();
    let lines = || s.docker(&["logs", "one"]).ok().lines().count();
    let before = lines();
    s.eventually(SOON, "its log goes on", || lines() > before);
    s.docker(&["run", "--rm", "busybox", "true"]).ok();
    s.docker(&["pull", &remote]).ok();
    s.docker(&["run", "--rm", &remote, "true"]).ok();
    s.docker(&["build", "-q", &context]).ok();
    s.docker(&["commit", "one", "kept"]).ok();
    s.docker(&["volume", "create", "v1"]).ok();
    s.docker(&["rm", "-f", "one"]).ok();
    s.terminate();
}

/// Fills the disk to the last block.
fn fill(root: &Path) {
    use std::io::Write;
    let mut filler = std::fs::File::create(root.join("filler")).unwrap();
    for size in [1 << 20, 4096, 512] {
        while filler
            .write_all(&vec![1; size])
            .and_then(|()| filler.sync_data())
            .is_ok()
        {}
    }
}
