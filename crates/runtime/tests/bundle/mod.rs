//! A bundle with busybox in a temporary directory, and the two programs that
//! run it: the command line, and the library as the shim uses it.
//!
//! These tests need root.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Bundle {
    pub directory: tempfile::TempDir,
    pub id: String,
    pub config: Value,
    /// `linux.seccomp` for the runtime itself; none for no filter.
    pub filter: Option<Value>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Outcome {
    /// The output of a run that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }
}

/// One of this crate's examples, built with the tests.
pub fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this test");
    let path = tests
        .parent()
        .and_then(Path::parent)
        .expect("target directory")
        .join("examples")
        .join(name);
    assert!(path.exists(), "{} is missing: build the examples", path.display());
    path
}

/// A filter that answers ENOSYS to these system calls.
pub fn without(calls: &[&str]) -> Value {
    const ENOSYS: u32 = 38;
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }],
    })
}

impl Bundle {
    /// A bundle whose program is a shell with this script.
    pub fn new(script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::Builder::new()
            .prefix("wharf-runtime-")
            .tempdir()
            .expect("temporary directory");
        let id = format!("wrt-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        make_rootfs(&directory.path().join("rootfs"));
        let config = default_config(&id, script);
        Self {
            directory,
            id,
            config,
            filter: None,
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Changes the configuration at a JSON pointer, making what is missing.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut at = &mut self.config;
        for key in pointer.trim_start_matches('/').split('/') {
            at = match at {
                Value::Array(list) => &mut list[key.parse::<usize>().expect("an index")],
                object => &mut object[key],
            };
        }
        *at = value;
        self
    }

    pub fn add_mount(&mut self, mount: Value) -> &mut Self {
        self.config["mounts"].as_array_mut().expect("mounts").push(mount);
        self
    }

    /// Gives it a user namespace that maps ids from 0 on to those of the host from `host` on. The
    /// mapped root may reach and read the root, but not write there.
    pub fn map_users(&mut self, host: u32, size: u32) -> &mut Self {
        let map = json!([{ "containerID": 0, "hostID": host, "size": size }]);
        self.set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map);
        let kinds = self.config["linux"]["namespaces"].as_array_mut().expect("list");
        kinds.push(json!({ "type": "user" }));
        for path in [self.path().to_path_buf(), self.rootfs()] {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, open).expect("open");
        }
        self
    }

    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("JSON");
        std::fs::write(self.path().join("config.json"), text).expect("write config.json");
    }

    /// The command line with this container's own root.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.filtered("wharf-runtime");
        command
            .arg("--root")
            .arg(self.path().join("state"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// One of the examples, under this bundle's filter.
    fn filtered(&self, name: &str) -> Command {
        let Some(filter) = &self.filter else {
            return Command::new(program(name));
        };
        let mut command = Command::new(program("filtered"));
        command.arg(filter.to_string()).arg(program(name));
        command
    }

    /// `wharf-runtime ARGUMENTS`.
    pub fn cli(&self, arguments: &[&str]) -> Outcome {
        self.command(arguments).output().expect("run the runtime").into()
    }

    /// `wharf-runtime run`, in the foreground.
    pub fn run(&self) -> Outcome {
        self.write();
        let bundle = self.path().to_string_lossy().into_owned();
        self.cli(&["run", "--bundle", &bundle, &self.id])
    }

    /// Creates and starts a container that goes on. Its output is dropped,
    /// as an open pipe would keep this test waiting.
    pub fn start(&self) -> Outcome {
        self.write();
        let bundle = self.path().to_string_lossy().into_owned();
        let mut create = self.command(&["create", "--bundle", &bundle, &self.id]);
        let log = std::fs::File::create(self.path().join("create.err")).expect("log");
        let status = create
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .expect("run the runtime");
        let log = std::fs::read_to_string(self.path().join("create.err")).expect("log");
        assert!(status.success(), "{log}");
        self.cli(&["start", &self.id])
    }

    /// Runs through the library, with these further properties of `launch`.
    pub fn launch(&self, extra: Value) -> Outcome {
        self.write();
        let mut launch = json!({ "bundle": self.path() });
        launch
            .as_object_mut()
            .expect("object")
            .extend(extra.as_object().expect("object").clone());
        let output = self
            .filtered("launch")
            .arg(launch.to_string())
            .stdin(Stdio::null())
            .output();
        output.expect("run launch").into()
    }

    /// Waits until the file appears below the root; fails after 20 s.
    pub fn await_file(&self, path: &str) {
        let file = self.rootfs().join(path);
        for _ in 0..2000 {
            if file.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} never came", file.display());
    }

    /// Init, as the host sees it.
    pub fn pid(&self) -> i64 {
        let state: Value = serde_json::from_str(&self.cli(&["state", &self.id]).ok()).expect("JSON");
        state["pid"].as_i64().expect("a pid")
    }

    /// Whether this machine has cgroup version 2 only.
    pub fn is_v2(&self) -> bool {
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    }

    /// The directories of this container's cgroup.
    pub fn cgroup_directories(&self) -> Vec<PathBuf> {
        let find = Command::new("find")
            .args(["/sys/fs/cgroup", "-maxdepth", "3", "-name", &self.id])
            .output();
        let found = find.expect("find").stdout;
        String::from_utf8_lossy(&found).lines().map(PathBuf::from).collect()
    }

    /// Whether a cgroup of this container is left anywhere.
    pub fn has_cgroup(&self) -> bool {
        !self.cgroup_directories().is_empty()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.filter = None;
        let _ = self.cli(&["delete", "--force", &self.id]);
    }
}

fn make_rootfs(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        std::fs::create_dir_all(root.join(directory)).expect("make the root");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox");
    for applet in String::from_utf8_lossy(&applets.stdout)
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet)).expect("link an applet");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n";
    std::fs::write(root.join("etc/passwd"), passwd).expect("write passwd");
    let group = "root:x:0:\nwheel:x:10:root\nwww-data:x:33:\nusers:x:100:www-data\n";
    std::fs::write(root.join("etc/group"), group).expect("write group");
}

fn default_config(id: &str, script: &str) -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW"]);
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        },
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/timer_list", "/proc/keys", "/sys/firmware", "/proc/not-there"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    })
}

/// KERNEL(5.12): mount_setattr(2); what needs it is an error that says so before.
pub fn has_mount_setattr() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse::<u32>().unwrap_or_default());
    let version = (numbers.next(), numbers.next());
    let is_there = version >= (Some(5), Some(12));
    if !is_there {
        eprintln!("not run: this kernel has no mount_setattr(2)");
    }
    is_there
}

/// Whether the running kernel is older than this version.
pub fn kernel_is_before(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|text| text.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < version
}
