//! Namespaces that exist already, and those a container does without. Needs root.

mod bundle;

use bundle::Bundle;
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};

/// A process with namespaces of its own, ended with this value.
struct Holder(Child);

impl Holder {
    fn new(flags: &[&str]) -> Self {
        let mut child = Command::new("unshare")
            .args(flags)
            .args(["sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        let said = child.stdout.as_mut().expect("stdout");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.0.id())
    }

    fn id(&self, name: &str) -> String {
        let link = std::fs::read_link(self.file(name)).expect("a namespace");
        link.to_string_lossy().into_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Replaces the namespaces of the configuration.
fn set_namespaces(bundle: &mut Bundle, list: Value) {
    bundle.config["linux"]["namespaces"] = list;
}

fn without(bundle: &mut Bundle, kind: &str) {
    let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    list.retain(|namespace| namespace["type"] != kind);
}

fn own(name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("own namespace");
    link.to_string_lossy().into_owned()
}

const SHOW: &str = "for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";

#[test]
fn a_user_namespace_is_joined_with_those_that_belong_to_it() {
    let holder = Holder::new(&["--user", "--map-root-user", "--net", "--ipc"]);
    let mut bundle = Bundle::new(&format!(
        "{SHOW}; cat /proc/self/uid_map; id -u; touch /made; mount -t tmpfs t /tmp && echo mounted"
    ));
    without(&mut bundle, "user");
    without(&mut bundle, "network");
    without(&mut bundle, "ipc");
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
        let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        list.push(json!({"type": kind, "path": holder.file(file)}));
    }
    // As containerd writes them beside the path.
    bundle.set(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": 0, "size": 1}]),
    );
    bundle.set(
        "/linux/gidMappings",
        json!([{"containerID": 0, "hostID": 0, "size": 1}]),
    );
    let rights = json!(["CAP_SYS_ADMIN"]);
    bundle.set(
        "/process/capabilities",
        json!({"bounding": rights, "effective": rights, "permitted": rights}),
    );
    let output = bundle.run().ok();
    let lines: Vec<_> = output.lines().map(str::trim).collect();
    assert_eq!(lines[0], holder.id("user"));
    assert_eq!(lines[3], holder.id("net"));
    assert_eq!(lines[4], holder.id("ipc"));
    for (line, name) in [(1, "mnt"), (2, "pid"), (5, "uts")] {
        assert_ne!(lines[line], own(name), "{output}");
        assert_ne!(lines[line], holder.id(name), "{output}");
    }
    let words: Vec<_> = lines[7].split_whitespace().collect();
    assert_eq!(words, ["0", "0", "1"]);
    assert_eq!(lines[8], "0");
    assert_eq!(lines[9], "mounted", "its mount namespace belongs to the user namespace");
}

#[test]
fn a_namespace_of_the_host_is_joined_beside_a_joined_user_namespace() {
    let user = Holder::new(&["--user", "--map-root-user"]);
    let network = Holder::new(&["--net"]);
    let mut bundle = Bundle::new(SHOW);
    without(&mut bundle, "user");
    without(&mut bundle, "network");
    let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    list.push(json!({"type": "network", "path": network.file("net")}));
    list.push(json!({"type": "user", "path": user.file("user")}));
    // The kernel shows /sys only to the owner of the network namespace.
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|mount| mount["type"] != "sysfs");
    bundle.set("/linux/maskedPaths", json!([]));
    let output = bundle.run().ok();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(
        (lines[0], lines[3]),
        (user.id("user").as_str(), network.id("net").as_str())
    );
}

#[test]
fn a_mount_namespace_is_joined_and_its_root_exchanged() {
    let holder = Holder::new(&["--mount"]);
    let mut bundle = Bundle::new(&format!("{SHOW}; ls /"));
    without(&mut bundle, "mount");
    let list = bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    list.push(json!({"type": "mount", "path": holder.file("mnt")}));
    std::fs::write(bundle.rootfs().join("mark"), "").expect("mark");
    let output = bundle.run().ok();
    assert_eq!(output.lines().nth(1), Some(holder.id("mnt").as_str()));
    assert!(output.lines().any(|line| line == "mark"), "{output}");
    assert!(!is_mounted(&bundle), "nothing of it is seen on the host");
}

#[test]
fn without_any_namespace_the_container_is_on_the_host_but_in_its_root() {
    let script = format!("{SHOW}; ls /; trap 'exit 0' TERM; echo up >/up; while :; do sleep 0.05; done");
    let mut bundle = Bundle::new(&script);
    set_namespaces(&mut bundle, json!([]));
    let linux = bundle.config["linux"].as_object_mut().expect("linux");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    bundle.config.as_object_mut().expect("config").remove("hostname");
    bundle.write();
    let (path, id) = (bundle.path().to_string_lossy().into_owned(), bundle.id.clone());
    let out = std::fs::File::create(bundle.path().join("out")).expect("out");
    let status = bundle
        .command(&["run", "-d", "-b", &path, &id])
        .stdout(out.try_clone().expect("out"))
        .stderr(out)
        .status();
    let said = || std::fs::read_to_string(bundle.path().join("out")).expect("out");
    assert!(status.expect("run").success(), "{}", said());
    bundle.await_file("up");
    assert!(is_mounted(&bundle));
    for (line, name) in said()
        .lines()
        .zip(["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
    {
        assert_eq!(line, own(name));
    }
    assert!(said().lines().any(|line| line == "up" || line == "bin"), "{}", said());
    // SECURITY: an exec is held by the same root.
    let seen = bundle.cli(&["exec", &id, "/bin/sh", "-c", "cat /up; pwd; ls /.."]).ok();
    assert!(seen.starts_with("up\n/"), "{seen}");
    assert!(seen.lines().any(|line| line == "up"), "{seen}");
    bundle.cli(&["delete", "--force", &id]).ok();
    assert!(!is_mounted(&bundle), "delete takes the mounts away");
    assert!(bundle.rootfs().join("bin").is_dir());
}

#[test]
fn a_failed_create_without_a_mount_namespace_leaves_no_mount() {
    let mut bundle = Bundle::new("true");
    without(&mut bundle, "mount");
    bundle.set("/process/args", json!(["/bin/no-such-program"]));
    let outcome = bundle.run();
    assert_ne!(outcome.code, 0);
    assert!(!is_mounted(&bundle), "{outcome:?}");
    assert!(bundle.rootfs().join("bin").is_dir());
}

fn is_mounted(bundle: &Bundle) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.contains(&*bundle.rootfs().to_string_lossy())
}
