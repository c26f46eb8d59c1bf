//! What the tests stand on: a bundle with busybox, a shim around it, and its removal.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_cgroup::{Cgroup, Hierarchy};
use wharf_shim::client::{EventStream, LaunchError, Launched, ShimClient, ShimLauncher};
use wharf_shim::plan::{AttachSpec, LaunchPlan, LogPlan, RootfsPlan, StdioPlan};
use wharf_shim::protocol::{Event, ExitRecord};

const APPLETS: [&str; 12] = [
    "sh", "cat", "echo", "sleep", "head", "stty", "tr", "wc", "true", "hostname", "kill", "seq",
];

/// A bundle and a place for a shim, removed with everything in it on drop.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    name: String,
    pub(crate) plan: LaunchPlan,
    pub(crate) config: Value,
}

impl Stage {
    /// A container that runs a shell script.
    pub(crate) fn new(script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wst-{}-{number}", std::process::id());
        let dir = tempfile::tempdir().expect("a directory");
        let bundle = dir.path().join("bundle");
        let rootfs = bundle.join("rootfs");
        make_rootfs(&rootfs);
        std::fs::create_dir(dir.path().join("logs")).expect("a directory");
        let plan = LaunchPlan {
            id: "c".into(),
            rootfs: RootfsPlan::Directory { path: rootfs },
            log: Some(LogPlan::new(dir.path().join("logs/c-json.log"))),
            bundle,
            ..LaunchPlan::default()
        };
        let config = config(script, &name);
        Self {
            dir,
            name,
            plan,
            config,
        }
    }

    pub(crate) fn with_stdio(mut self, stdio: StdioPlan) -> Self {
        self.plan.stdio = stdio;
        self.config["process"]["terminal"] = stdio.terminal.into();
        self
    }

    /// The shim's directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("shim")
    }

    pub(crate) fn cgroup_path(&self) -> String {
        format!("/{}/c", self.name)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("logs/c-json.log")
    }

    /// Everything in the log as one text.
    pub(crate) fn log_text(&self) -> String {
        let mut reader = wharf_shim::log::LogReader::open(&self.log_path(), Default::default()).expect("a reader");
        let records = std::iter::from_fn(|| reader.next_record().expect("readable"));
        String::from_utf8(records.flat_map(|record| record.line).collect()).expect("text")
    }

    pub(crate) fn write_config(&self) {
        let text = serde_json::to_vec(&self.config).expect("JSON");
        std::fs::write(self.plan.bundle.join("config.json"), text).expect("written");
    }

    pub(crate) async fn try_launch(&self, attaches: Vec<(AttachSpec, OwnedFd)>) -> Result<Launched, LaunchError> {
        self.write_config();
        ShimLauncher::new(shim_binary())
            .launch(&self.home(), &self.plan, attaches)
            .await
    }

    pub(crate) async fn launch(&self, attaches: Vec<(AttachSpec, OwnedFd)>) -> (ShimClient, EventStream) {
        let launched = self.try_launch(attaches).await.expect("launched");
        (launched.client, launched.events)
    }

    /// Takes the exit and sees the shim off, with all that belonged to it.
    pub(crate) async fn leave(&self, client: &ShimClient) {
        let shim = wharf_shim::client::shim_pid(&self.home()).expect("a living shim");
        client.acknowledge_exit().await.expect("acknowledged");
        eventually("the shim ends", || wharf_shim::identity::start_ticks(shim).is_none());
        assert!(!self.home().exists(), "the shim left its directory");
        let hierarchy = Hierarchy::probe().expect("a hierarchy");
        assert!(
            Cgroup::open(&hierarchy, &self.cgroup_path()).is_err(),
            "the cgroup is still there"
        );
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(shim) = wharf_shim::client::shim_pid(&self.home()) {
            let pid = rustix::process::Pid::from_raw(shim.cast_signed()).expect("a pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let hierarchy = Hierarchy::probe().expect("a hierarchy");
        let removed = Cgroup::delete_tree(&hierarchy, &format!("/{}", self.name), Duration::from_secs(5));
        remove_foreign_groups(&self.name);
        if !std::thread::panicking() {
            removed.expect("the cgroups are removed");
        }
    }
}

/// Foreign runtimes also make groups in the named hierarchy, and plain directories where a hierarchy
/// is not mounted; neither is ours to know.
fn remove_foreign_groups(name: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let group = hierarchy.path().join(name);
        let _ = std::fs::remove_dir(group.join("c"));
        let _ = std::fs::remove_dir(&group);
        let _ = std::fs::remove_dir_all(&group);
    }
}

fn make_rootfs(rootfs: &Path) {
    for dir in ["bin", "dev", "proc", "tmp", "sys", "etc"] {
        std::fs::create_dir_all(rootfs.join(dir)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).expect("a link");
    }
}

fn config(script: &str, name: &str) -> Value {
    let mount = |destination: &str, kind: &str, options: Value| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts", "network"]
        .map(|kind| json!({"type": kind}))
        .into();
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "hostname": "stage",
        "process": {
            "args": ["/bin/sh", "-c", script],
            "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"],
            "user": {"uid": 0, "gid": 0},
            "oomScoreAdj": 0,
        },
        "mounts": [
            mount("/proc", "proc", json!(["nosuid", "noexec", "nodev"])),
            mount("/dev", "tmpfs", json!(["nosuid", "strictatime", "mode=755", "size=65536k"])),
            mount("/dev/pts", "devpts", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"])),
        ],
        "linux": {"cgroupsPath": format!("/{name}/c"), "namespaces": namespaces},
    })
}

/// The static binary if the caller built one, or the one of this test run.
pub(crate) fn shim_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(find_shim).clone()
}

fn find_shim() -> PathBuf {
    if let Some(path) = std::env::var_os("WHARF_SHIM") {
        return path.into();
    }
    if let Some(path) = option_env!("CARGO_BIN_EXE_wharf-shim") {
        return path.into();
    }
    let arguments = [
        "build",
        "-q",
        "-p",
        "wharf-shim",
        "--features",
        "server",
        "--bin",
        "wharf-shim",
    ];
    let status = std::process::Command::new(env!("CARGO"))
        .args(arguments)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "wharf-shim does not build");
    let own = std::env::current_exe().expect("a path");
    own.ancestors()
        .nth(2)
        .expect("the profile's directory")
        .join("wharf-shim")
}

/// Runs a test with a deadline.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(180), test)
            .await
            .expect("within three minutes")
    });
}

/// One end for the shim, the other for the test.
pub(crate) fn connection() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    (ours, theirs.into())
}

/// Both outputs, not framed.
pub(crate) fn outputs() -> AttachSpec {
    AttachSpec {
        stdout: true,
        stderr: true,
        ..AttachSpec::default()
    }
}

/// Everything a client gets until the end of its connection.
pub(crate) async fn read_all(mut client: UnixStream) -> Vec<u8> {
    let read = move || {
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).expect("a clean end");
        bytes
    };
    tokio::task::spawn_blocking(read).await.expect("read")
}

/// Reads until the text has come.
pub(crate) async fn read_until(client: &UnixStream, text: &str) -> String {
    let mut client = client.try_clone().expect("a duplicate");
    let text = text.to_owned();
    let read = move || {
        let mut got = Vec::new();
        let mut buffer = [0u8; 4096];
        while !String::from_utf8_lossy(&got).contains(&text) {
            let length = client
                .read(&mut buffer)
                .unwrap_or_else(|error| panic!("{error} after {got:?}"));
            assert!(
                length > 0,
                "the end came before {text:?}, after {:?}",
                String::from_utf8_lossy(&got)
            );
            got.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&got).into_owned()
    };
    tokio::task::spawn_blocking(read).await.expect("read")
}

/// Waits for the container's end.
pub(crate) async fn exited(events: &mut EventStream) -> ExitRecord {
    loop {
        if let Event::Exited(record) = events.next().await.expect("the connection lives") {
            return record;
        }
    }
}

/// Waits for an exec's end.
pub(crate) async fn exec_exited(events: &mut EventStream) -> (String, ExitRecord) {
    loop {
        if let Event::ExecExited { exec, exit } = events.next().await.expect("the connection lives") {
            return (exec, exit);
        }
    }
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
