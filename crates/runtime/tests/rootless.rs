//! The runtime in the hands of a user without privileges. Needs root, to become that user.

mod bundle;

use bundle::{Bundle, Outcome, has_mount_setattr, program};
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user that the machine does not know.
const USER: u32 = 54_321;

/// A bundle of the user's, with the runtime beside it.
struct Own(Bundle);

fn give(path: &Path) {
    lchown(path, Some(USER), Some(USER)).expect("chown");
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).expect("list") {
            give(&entry.expect("entry").path());
        }
    }
}

impl Own {
    /// With a user namespace that maps the own id alone.
    fn new(script: &str) -> Self {
        let mut bundle = Bundle::new(script);
        bundle.map_users(USER, 1);
        bundle.config["linux"]
            .as_object_mut()
            .expect("linux")
            .remove("cgroupsPath");
        std::fs::copy(program("wharf-runtime"), bundle.path().join("wharf-runtime")).expect("copy the runtime");
        std::fs::create_dir(bundle.path().join("run")).expect("make the user's directory");
        give(bundle.path());
        Self(bundle)
    }

    /// The runtime, called by the user.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.0.path().join("wharf-runtime"));
        command.args(arguments);
        command
    }

    /// Any program, called by the user.
    fn program(&self, path: &Path) -> Command {
        let id = USER.to_string();
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                &id,
                "--regid",
                &id,
                "--clear-groups",
                "--inh-caps=-all",
                "--",
            ])
            .arg(path)
            .current_dir(self.0.path())
            .env("XDG_RUNTIME_DIR", self.0.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    fn cli(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).output().expect("setpriv is installed").into()
    }

    fn run(&self) -> Outcome {
        self.0.write();
        self.cli(&["run", &self.0.id])
    }

    fn start(&self) {
        self.0.write();
        let mut create = self.command(&["create", &self.0.id]);
        let status = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("create").success());
        self.cli(&["start", &self.0.id]).ok();
    }

    /// The one-line error of a run that must fail.
    fn refusal(&self) -> String {
        let outcome = self.run();
        assert_ne!(outcome.code, 0, "{outcome:?}");
        outcome.stderr
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.cli(&["delete", "--force", &self.0.id]);
    }
}

#[test]
fn a_user_runs_containers_under_the_own_id() {
    let own = Own::new(
        "id -u; tr -s ' ' </proc/self/uid_map; echo x >/dev/null && head -c 2 /dev/zero | wc -c; \
         touch /made && stat -c %u /made; hostname; cat /proc/self/setgroups",
    );
    let expected = format!("0\n 0 {USER} 1\n2\n0\ninside\ndeny");
    assert_eq!(own.run().ok(), expected);
    let made = std::fs::metadata(own.0.rootfs().join("made")).expect("made");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);
}

#[test]
fn the_whole_life_of_a_container_needs_no_privileges() {
    let own = Own::new("trap 'exit 0' TERM; while :; do sleep 0.05; done");
    own.start();
    let state = own.0.path().join("run/wharf-runtime");
    assert!(state.join(&own.0.id).is_dir(), "states are in XDG_RUNTIME_DIR");
    let mode = std::fs::metadata(&state).expect("state").permissions().mode();
    assert_eq!(mode & 0o7777, 0o1700, "kept from being cleaned away");
    let inside = own.cli(&[
        "exec",
        &own.0.id,
        "sh",
        "-c",
        "hostname; id -u; cat /proc/1/comm; exit 7",
    ]);
    assert_eq!(
        (inside.code, inside.stdout.as_str()),
        (7, "inside\n0\nsh"),
        "{inside:?}"
    );
    assert!(own.cli(&["state", &own.0.id]).ok().contains("running"));
    own.cli(&["kill", &own.0.id, "KILL"]).ok();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !own.cli(&["state", &own.0.id]).ok().contains("stopped") {
        assert!(std::time::Instant::now() < deadline, "never stopped");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    own.cli(&["delete", &own.0.id]).ok();
    assert!(!state.join(&own.0.id).exists());
}

#[test]
fn the_configuration_that_spec_writes_runs() {
    let own = Own::new("");
    own.cli(&["spec", "--rootless"]).ok();
    let path = own.0.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("JSON");
    assert!(!config.to_string().contains("gid=5"));
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", "id -u; ls /sys/kernel >/dev/null && echo seen"]);
    std::fs::write(&path, config.to_string()).expect("write");
    assert_eq!(own.cli(&["run", &own.0.id]).ok(), "0\nseen");
}

#[test]
fn usual_configurations_are_bent_to_what_a_user_may_do() {
    if !has_mount_setattr() {
        return;
    }
    let mut own = Own::new("grep -c devpts /proc/mounts; ls /sys/kernel >/dev/null && echo seen; touch /bound/x 2>&1");
    own.0.set(
        "/mounts/2/options",
        json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    );
    let namespaces = own.0.config["linux"]["namespaces"].as_array_mut().expect("list");
    namespaces.retain(|namespace| namespace["type"] != "network");
    let bound = own.0.path().join("run");
    own.0
        .add_mount(json!({ "destination": "/bound", "type": "bind", "source": bound, "options": ["rbind", "rro"] }));
    assert_eq!(own.run().stdout, "1\nseen\ntouch: /bound/x: Read-only file system");
}

#[test]
fn what_a_user_may_not_do_is_named() {
    if !has_mount_setattr() {
        return;
    }
    let mut own = Own::new("true");
    own.0
        .set("/linux/resources", json!({ "memory": { "limit": 100_000_000 } }));
    let refused = own.refusal();
    assert!(refused.contains("linux.resources.memory: cannot be set"), "{refused}");

    let mut own = Own::new("true");
    own.0
        .set("/process/user", json!({ "uid": 0, "gid": 0, "additionalGids": [7] }));
    let refused = own.refusal();
    assert!(refused.contains("process.user.additionalGids"), "{refused}");

    let mut own = Own::new("true");
    let namespaces = own.0.config["linux"]["namespaces"].as_array_mut().expect("list");
    namespaces.retain(|namespace| namespace["type"] != "user");
    let linux = own.0.config["linux"].as_object_mut().expect("linux");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    let refused = own.refusal();
    assert!(
        refused.contains("linux.namespaces: without privileges a container needs a user namespace"),
        "{refused}"
    );

    let mut own = Own::new("true");
    own.0.set(
        "/linux/uidMappings",
        json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
    );
    let refused = own.refusal();
    assert!(refused.contains("linux.uidMappings"), "{refused}");

    let mut own = Own::new("true");
    let bound = own.0.path().join("run");
    let options = json!(["bind", "idmap"]);
    own.0
        .add_mount(json!({ "destination": "/bound", "type": "bind", "source": bound, "options": options }));
    let refused = own.refusal();
    assert!(
        refused.contains("mounts: /bound: an id map needs privileges"),
        "{refused}"
    );

    let refused = own.cli(&["--rootless", "maybe", "list"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stderr
            .contains("--rootless: \"maybe\" is not auto, true or false"),
        "{refused:?}"
    );
}

/// As under Podman, which makes the user namespace itself and calls the runtime in it.
#[test]
fn the_root_of_a_user_namespace_runs_enters_and_joins_containers() {
    let mut own = Own::new("sleep 1000");
    let linux = own.0.config["linux"].as_object_mut().expect("linux");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    let kinds = linux["namespaces"].as_array_mut().expect("list");
    kinds.retain(|kind| kind["type"] != "user");
    own.0.write();
    let first = serde_json::to_vec(&own.0.config).expect("JSON");
    // The second one joins the pid namespace of the first.
    let path = own.0.path().join("pids");
    own.0.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("list")
        .iter_mut()
        .filter(|kind| kind["type"] == "pid")
        .for_each(|kind| kind["path"] = json!(path));
    own.0.set("/process/args", json!(["/bin/sh", "-c", "cat /proc/1/comm"]));
    own.0.write();
    std::fs::rename(own.0.path().join("config.json"), own.0.path().join("second.json")).expect("rename");
    std::fs::write(own.0.path().join("config.json"), first).expect("write");
    let script = "rt=./wharf-runtime; $rt run --detach --pid-file pid $0 </dev/null >/dev/null 2>&1 || exit 1; \
                  $rt exec $0 sh -c 'echo $$ is not 1, of $(cat /proc/1/comm)'; $rt exec -u 0 $0 id -u; \
                  ln -s /proc/$(cat pid)/ns/pid pids; mv second.json config.json; $rt run $0-second 2>&1; \
                  $rt delete --force $0; $rt list -q";
    let output = own
        .program(Path::new("unshare"))
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, &own.0.id])
        .output();
    let said = Outcome::from(output.expect("setpriv")).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].ends_with("is not 1, of sleep") && !lines[0].starts_with("1 "),
        "{said}"
    );
    assert_eq!(lines[1..], ["0", "sleep"], "{said}");
}

#[test]
fn whoever_is_not_rootless_gets_no_container_without_its_cgroup() {
    let own = Own::new("true");
    own.0.write();
    let refused = own.cli(&["--rootless", "false", "run", &own.0.id]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("cgroup"), "{refused:?}");
    own.cli(&["--rootless", "true", "run", &own.0.id]).ok();
}

/// newuidmap asks for a user that is known, and for ids of its own: the tables say so in a mount
/// namespace of the test's.
#[test]
fn further_ids_are_mapped_by_the_setuid_programs() {
    if Command::new("newuidmap").output().is_err() {
        eprintln!("not run: newuidmap is not installed (package uidmap)");
        return;
    }
    let mut own = Own::new("tr -s ' ' </proc/self/uid_map; id -u; id -G");
    let map = |own: u32| json!([{ "containerID": 0, "hostID": own, "size": 1 }, { "containerID": 1, "hostID": 300_000, "size": 1000 }]);
    own.0
        .set("/linux/uidMappings", map(USER))
        .set("/linux/gidMappings", map(USER));
    own.0
        .set("/process/user", json!({ "uid": 3, "gid": 3, "additionalGids": [7] }));
    own.0.write();
    let tables = own.0.path().join("tables");
    std::fs::create_dir(&tables).expect("tables");
    let line = format!("someone:x:{USER}:{USER}::/tmp:/bin/sh\n");
    for (name, text) in [
        ("passwd", line.as_str()),
        ("subuid", "someone:300000:1000\n"),
        ("subgid", "someone:300000:1000\n"),
    ] {
        std::fs::write(tables.join(name), text).expect("write");
    }
    let script = "for t in passwd subuid subgid; do [ -e /etc/$t ] && mount --bind tables/$t /etc/$t || exit 9; done; \
                  exec setpriv --reuid $0 --regid $0 --clear-groups ./wharf-runtime run \"$1\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, &USER.to_string(), &own.0.id])
        .current_dir(own.0.path())
        .env("XDG_RUNTIME_DIR", own.0.path().join("run"))
        .stdin(Stdio::null())
        .output();
    let outcome = Outcome::from(output.expect("unshare"));
    if outcome.code == 9 {
        eprintln!("not run: /etc/subuid or /etc/subgid does not exist");
        return;
    }
    assert_eq!(outcome.ok(), format!(" 0 {USER} 1\n 1 300000 1000\n3\n3 7"));
    // The setuid programs refuse what the tables do not list.
    let refused = own.run();
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("linux.uidMappings: newuidmap failed"),
        "{refused:?}"
    );
    chown(own.0.path(), Some(0), Some(0)).expect("chown");
}

/// What root gives a user on version 2, as systemd does at a login: a group of the user's own, with
/// the group that the user's processes are in below it.
struct Delegated {
    top: PathBuf,
    /// Below `top`, and the user's.
    own: PathBuf,
}

impl Delegated {
    /// With these controllers only; `None` where a user cannot be given a group.
    fn new(own: &Own, controllers: &str) -> Option<Self> {
        if !own.0.is_v2() {
            eprintln!("NOT CHECKED: needs cgroup version 2, where limits may be delegated to users");
            return None;
        }
        let root = Path::new("/sys/fs/cgroup");
        let top = root.join(format!("of-users-{}", own.0.id));
        let made = Self {
            own: top.join("own"),
            top,
        };
        std::fs::create_dir_all(made.session()).expect("make the groups");
        for parent in [root, &made.top] {
            std::fs::write(parent.join("cgroup.subtree_control"), controllers).expect("hand down");
        }
        for group in [made.own.clone(), made.session()] {
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(group.join(file), Some(USER), Some(USER)).expect("delegate");
            }
        }
        Some(made)
    }

    fn session(&self) -> PathBuf {
        self.own.join("session")
    }

    /// As the user, in the user's group.
    fn command(&self, own: &Own, arguments: &[&str]) -> Command {
        let (inner, mut command) = (own.command(arguments), Command::new("sh"));
        command
            .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(self.session())
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(own.0.path())
            .env("XDG_RUNTIME_DIR", own.0.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    fn cli(&self, own: &Own, arguments: &[&str]) -> Outcome {
        self.command(own, arguments).output().expect("sh").into()
    }

    fn run(&self, own: &Own) -> Outcome {
        own.0.write();
        self.cli(own, &["run", &own.0.id])
    }

    /// A file of the container's group, which is beside the session.
    fn read(&self, own: &Own, file: &str) -> String {
        let path = self.own.join(&own.0.id).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in [self.session(), self.own.clone(), self.top.clone()] {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
            // Busy for a moment more with processes that have just ended.
            while std::fs::remove_dir(&group).is_err() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// A container that sees its own group.
fn limited(script: &str, resources: Value) -> Own {
    let mut own = Own::new(script);
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] });
    own.0.add_mount(mount).set("/linux/resources", resources);
    own
}

#[test]
fn a_user_with_a_delegated_cgroup_has_limits_that_take_effect() {
    let resources = json!({ "memory": { "limit": 32 << 20, "swap": 32 << 20 }, "pids": { "limit": 6 } });
    let script = "cat /proc/self/cgroup; cd /sys/fs/cgroup; cat memory.max pids.max; \
                  dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo $?; grep '^oom_kill ' memory.events; \
                  for n in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; echo not reached";
    let own = limited(script, resources);
    let Some(delegated) = Delegated::new(&own, "+memory +pids") else {
        return;
    };
    let outcome = delegated.run(&own);
    assert_ne!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.stdout, "0::/\n33554432\n6\n137\noom_kill 1", "{outcome:?}");
    assert!(outcome.stderr.contains("can't fork"), "{outcome:?}");
    assert!(
        !delegated.own.join(&own.0.id).exists(),
        "the group goes with the container"
    );
}

#[test]
fn a_user_changes_limits_and_pauses_in_a_delegated_cgroup() {
    let mut own = Own::new("while :; do sleep 0.05; done");
    own.0.set("/linux/resources", json!({ "pids": { "limit": 20 } }));
    let Some(delegated) = Delegated::new(&own, "+memory +pids") else {
        return;
    };
    own.0.write();
    let mut create = delegated.command(&own, &["create", &own.0.id]);
    let status = create.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("create").success());
    delegated.cli(&own, &["start", &own.0.id]).ok();
    assert_eq!(delegated.read(&own, "pids.max"), "20");
    let update = ["update", "--pids-limit", "9", "--memory", "48m", &own.0.id];
    delegated.cli(&own, &update).ok();
    assert_eq!(delegated.read(&own, "pids.max"), "9");
    assert_eq!(delegated.read(&own, "memory.max"), "50331648");
    // An exec is born in the same group.
    let place = delegated.cli(&own, &["exec", &own.0.id, "cat", "/proc/self/cgroup"]);
    assert_eq!(place.ok(), "0::/");
    delegated.cli(&own, &["pause", &own.0.id]).ok();
    assert_eq!(delegated.read(&own, "cgroup.freeze"), "1");
    delegated.cli(&own, &["resume", &own.0.id]).ok();
    assert_eq!(delegated.read(&own, "cgroup.freeze"), "0");
    delegated.cli(&own, &["delete", "--force", &own.0.id]).ok();
    assert!(!delegated.own.join(&own.0.id).exists());
}

#[test]
fn a_limit_whose_controller_was_not_delegated_is_named() {
    let mut own = Own::new("echo ran");
    own.0
        .set("/linux/resources", json!({ "memory": { "limit": 32 << 20 } }));
    let Some(delegated) = Delegated::new(&own, "+pids") else {
        return;
    };
    let refused = delegated.run(&own);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("memory"), "{refused:?}");
    assert!(!delegated.own.join(&own.0.id).exists(), "nothing is left");
    own.0.set("/linux/resources", json!({ "pids": { "limit": 6 } }));
    assert_eq!(delegated.run(&own).ok(), "ran");
}

#[test]
fn without_a_delegated_cgroup_only_what_asks_for_limits_is_refused() {
    assert_eq!(Own::new("echo ran").run().ok(), "ran");
    for (resources, field) in [
        (json!({ "memory": { "limit": 32 << 20 } }), "linux.resources.memory"),
        (
            json!({ "cpu": { "quota": 5000, "period": 100_000 } }),
            "linux.resources.cpu",
        ),
        (json!({ "pids": { "limit": 6 } }), "linux.resources.pids"),
        (json!({ "blockIO": { "weight": 300 } }), "linux.resources.blockIO"),
        (
            json!({ "unified": { "memory.high": "1000000" } }),
            "linux.resources.unified",
        ),
    ] {
        let mut own = Own::new("true");
        own.0.set("/linux/resources", resources);
        let refused = own.refusal();
        assert!(refused.contains(&format!("{field}: cannot be set")), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
}

/// A process moves only between groups below one that is its user's.
#[test]
fn a_user_outside_of_the_delegated_cgroup_is_told_so() {
    let mut own = Own::new("true");
    let Some(delegated) = Delegated::new(&own, "+memory +pids") else {
        return;
    };
    let path = delegated.own.join(&own.0.id);
    let path = format!("/{}", path.strip_prefix("/sys/fs/cgroup").expect("below").display());
    own.0
        .set("/linux/cgroupsPath", json!(path))
        .set("/linux/resources", json!({ "pids": { "limit": 6 } }));
    let refused = own.refusal();
    let expected = "linux.cgroupsPath: put init into its cgroup: permission denied";
    assert!(refused.contains(expected), "{refused}");
    assert!(!delegated.own.join(&own.0.id).exists(), "nothing is left");
}
