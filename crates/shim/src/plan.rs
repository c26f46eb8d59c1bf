//! What the engine asks a new shim to do, as plain values.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::target::TargetPlan;

/// Everything a shim needs to create its container; handed over by descriptor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaunchPlan {
    /// Container id.
    pub id: String,
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// The container's root file system.
    pub rootfs: RootfsPlan,
    /// Docker's user string; replaces the ids in `config.json`.
    pub user: Option<String>,
    /// Additional groups, by name or number, looked up in the container.
    pub group_add: Vec<String>,
    /// Streams.
    pub stdio: StdioPlan,
    /// Log file.
    pub log: Option<LogPlan>,
    /// Who makes the container.
    pub runtime: RuntimePlan,
    /// What the container sees of its machine's size.
    pub host_view: HostView,
    /// The cgroups of this host, as the engine found them: its mount table grows with the number of containers.
    pub hierarchy: Option<wharf_cgroup::Hierarchy>,
    /// Where the container's mounts begin; with a copy of the host's if absent or gone.
    pub bare: Option<BarePlan>,
    /// Cgroup for the shim itself, below the hierarchy's root; where the engine is if absent.
    pub shim_cgroup: Option<String>,
}

/// A mount namespace with nothing of the host's, which the engine holds open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarePlan {
    /// The engine's descriptor, as a path in `/proc`.
    pub path: PathBuf,
    /// Its number: what is found at the path of an engine that is gone is another.
    pub inode: u64,
}

impl BarePlan {
    /// Names a mount namespace that this process holds open.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn of(namespace: &impl AsFd) -> Result<Self, Errno> {
        let number = namespace.as_fd().as_raw_fd();
        Ok(Self {
            path: format!("/proc/{}/fd/{number}", std::process::id()).into(),
            inode: rustix::fs::fstat(namespace)?.st_ino,
        })
    }

    /// Opens it; none when it is gone or out of reach.
    pub fn open(&self) -> Option<OwnedFd> {
        // ORDER: looked at before it is opened: a device or a pipe of another process would not bear that.
        let found = rustix::fs::open(&self.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        if !wharf_sys::path::is_namespace(&found) || rustix::fs::fstat(&found).ok()?.st_ino != self.inode {
            return None;
        }
        let namespace = wharf_sys::namespace::open(wharf_sys::fd::proc_path(&found).as_ref()).ok()?;
        let kind = wharf_sys::namespace::kind_of(&namespace).ok()?;
        (kind == wharf_sys::namespace::CLONE_NEWNS).then_some(namespace)
    }
}

/// What files such as `/proc/meminfo` tell a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostView {
    /// The host, as the kernel does.
    #[default]
    Host,
    /// What the container's limits leave of it.
    Limits,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootfsPlan {
    /// `root.path` of `config.json`, relative to the bundle.
    #[default]
    FromSpec,
    /// A directory that is ready.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// An overlay mounted in the container's own mount namespace only.
    Overlay {
        /// Read-only layers, topmost first.
        lower: Vec<PathBuf>,
        /// Writable layer.
        upper: PathBuf,
        /// Overlay's work directory, on the same file system as `upper`.
        work: PathBuf,
        /// Nobody needs `upper` once the machine has crashed (the kernel's `volatile`).
        #[serde(default)]
        volatile: bool,
    },
}

/// Standard streams of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StdioPlan {
    /// A terminal instead of pipes.
    pub terminal: bool,
    /// Keep standard input open although nobody is attached yet; `/dev/null` otherwise.
    pub open_stdin: bool,
    /// Close standard input when the first client attached to it has ended its side.
    pub stdin_once: bool,
    /// Size of the terminal before the process starts.
    pub console_size: Option<ConsoleSize>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub cols: u16,
}

/// The log of a container: its files, and a target beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogPlan {
    /// The newest file; older ones are `<path>.1`, `<path>.2`, ...
    pub path: PathBuf,
    /// Rotate when the newest file would grow beyond this; 0 never rotates.
    pub max_bytes: u64,
    /// How many files to keep, the newest included.
    pub max_files: u32,
    /// Extra attributes written with each line (Docker's `attrs`).
    pub attrs: std::collections::BTreeMap<String, String>,
    /// Compress rotated files.
    pub compress: bool,
    /// Write no file at all: the log has a target only.
    pub no_file: bool,
    /// Where else the lines go.
    pub target: Option<TargetPlan>,
}

impl LogPlan {
    /// Three files of 20 MiB.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}

impl Default for LogPlan {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            max_bytes: 20 << 20,
            max_files: 3,
            attrs: Default::default(),
            compress: false,
            no_file: false,
            target: None,
        }
    }
}

/// Which runtime makes the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimePlan {
    /// Our own, inside the shim.
    #[default]
    Builtin,
    /// An OCI runtime with runc's command line.
    Foreign {
        /// The executable.
        path: PathBuf,
        /// Arguments before the verb.
        args: Vec<String>,
        /// The runtime's `--root`.
        root: PathBuf,
    },
    /// A shim of containerd's protocol.
    Shim {
        /// The executable.
        binary: PathBuf,
        /// containerd's namespace, as the shim is told.
        namespace: String,
        /// What it is told beside: runc's shim takes `BinaryName`, `SystemdCgroup` and the like, others `TypeUrl`,
        /// `ConfigPath` and `ConfigBody`.
        options: serde_json::Map<String, serde_json::Value>,
    },
}

/// A process to run in the container beside its first one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecPlan {
    /// Exec id, unique within the container; names the exit file.
    pub id: String,
    /// The `process` object of the OCI runtime specification.
    pub process: serde_json::Value,
    /// Docker's user string; replaces the ids in `process`.
    pub user: Option<String>,
    /// Additional groups, by name or number, looked up in the container.
    pub group_add: Vec<String>,
    /// Streams. `stdin_once` is implied: the end of the client's input ends the process's.
    pub stdio: StdioPlan,
    /// Every capability and no system call filter.
    pub privileged: bool,
    /// What the shim shall tell the next engine of this exec; it does not look into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<serde_json::Value>,
}

/// How a client's connection is joined to a process's streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachSpec {
    /// Bytes from the client go to the process.
    pub stdin: bool,
    /// Standard output goes to the client.
    pub stdout: bool,
    /// Standard error goes to the client.
    pub stderr: bool,
    /// Put Docker's 8 byte header before each piece. COMPAT: an exec's client may ask for it on
    /// a terminal too.
    pub framed: bool,
    /// Key sequence that detaches the client, such as [`AttachSpec::DEFAULT_DETACH_KEYS`] encodes;
    /// empty for none. Only looked for when `stdin` is set on a terminal.
    pub detach_keys: Vec<u8>,
    /// Bytes the client sent already, to be fed to the process first.
    pub early_stdin: Vec<u8>,
    /// Bytes to send to the client before anything else (an HTTP answer, a replayed log).
    pub preface: Vec<u8>,
    /// What to do with a client that reads too slowly.
    pub when_slow: WhenSlow,
}

impl AttachSpec {
    /// ctrl-p, ctrl-q.
    pub const DEFAULT_DETACH_KEYS: [u8; 2] = [0x10, 0x11];
}

/// What to do with a client that reads more slowly than the process writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenSlow {
    /// Throttle for clients attached before the start, for terminals and for execs; drop others.
    #[default]
    Auto,
    /// Stop reading from the process until the client has caught up, as Docker does.
    Throttle,
    /// Close the client's connection once its buffer is full.
    Drop,
}
