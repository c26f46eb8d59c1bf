//! How a `RUN` step becomes a process: a trait that the engine implements over its shim.

use std::error::Error as StdError;
use std::path::PathBuf;

use crate::{Cancel, Limits, OutputStream};

/// Runs one process in a root file system that the build owns.
pub trait Runner: Send + Sync {
    /// Runs `step` to its end, handing every chunk of output to `output` as it comes.
    ///
    /// The upper directory receives all changes. Empty mount points made for `/proc`, `/etc/hosts`
    /// and such may be left in it: the build removes them.
    /// Returns only when no process of the step is left and every mount is gone. When
    /// `step.cancel` is set it kills the step and returns [`RunError`] with `cancelled`.
    fn run(&self, step: &RunStep, output: &mut dyn FnMut(OutputStream, &[u8])) -> Result<RunExit, RunError>;
}

/// One process to run.
#[derive(Clone, Debug, Default)]
pub struct RunStep {
    /// 64 hex digits; name the cgroup, the hostname (first 12) and the directory after it.
    pub id: String,
    /// Read-only layers, topmost first; empty for a step on `scratch`.
    pub lower: Vec<PathBuf>,
    /// Receives the changes.
    pub upper: PathBuf,
    /// Overlay's work directory, on the same file system as `upper`.
    pub work: PathBuf,
    /// Program and arguments, not empty.
    pub argv: Vec<String>,
    /// `NAME=value`; `PATH` is always there.
    pub env: Vec<String>,
    /// Absolute; exists in the root or is made by the runner.
    pub cwd: String,
    /// Docker's user syntax, empty for root.
    pub user: String,
    /// What the process may reach.
    pub network: RunNetwork,
    /// `name:address` lines for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Mounts of `RUN --mount`, in order.
    pub mounts: Vec<RunMount>,
    /// Limits.
    pub limits: Limits,
    /// Set when the build is to stop.
    pub cancel: Cancel,
}

/// The network of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The engine's default bridge.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// `container:X` or a network's name or id, as the user wrote it.
    Named(String),
}

/// A mount that exists for the time of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMount {
    /// A directory or file of the host at `target`.
    Bind {
        /// Absolute path on the host, made and kept by the build.
        source: PathBuf,
        /// Absolute path in the root; made when missing.
        target: String,
        /// Whether writes fail.
        read_only: bool,
    },
    /// A fresh tmpfs at `target`.
    Tmpfs {
        /// Absolute path in the root.
        target: String,
        /// Limit, in bytes.
        size_bytes: Option<u64>,
    },
}

/// How the step's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunExit {
    /// Exit code, 128 + n for signal n.
    pub code: i64,
    /// Whether the kernel's OOM killer ended it.
    pub oom_killed: bool,
}

/// The step could not be run at all, in Docker's words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    /// What the user reads.
    pub message: String,
    /// 127 for a missing program, 126 for one that is not executable, otherwise none.
    pub exit_code: Option<i64>,
    /// Whether it ended because the build was cancelled.
    pub cancelled: bool,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}
