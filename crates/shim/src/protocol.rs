//! The messages between engine and shim.
//!
//! On the wire a message is a little-endian `u32` length and that many bytes of JSON. Descriptors
//! travel as SCM_RIGHTS with the first byte of the message that names them. Either side may be
//! older: unknown fields are skipped, an unknown call is answered with [`FaultKind::Unsupported`],
//! an unknown event is skipped.

use serde::{Deserialize, Serialize};
use wharf_cgroup::Resources;

use crate::plan::{AttachSpec, ConsoleSize, ExecPlan, LaunchPlan};

/// Version spoken by this build; sent in [`Reply::State`].
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest message accepted, in bytes.
pub const MAX_MESSAGE: usize = 8 << 20;

/// A numbered call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller; the answer repeats it.
    pub id: u64,
    /// How many descriptors travel along.
    #[serde(default)]
    pub fds: u32,
    /// What is asked.
    #[serde(flatten)]
    pub call: Call,
}

/// What is known of a request even when its call is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// As in [`Request`].
    pub id: u64,
    /// As in [`Request`].
    #[serde(default)]
    pub fds: u32,
}

/// What can be asked of a shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", content = "args", rename_all = "snake_case")]
pub enum Call {
    /// The first message to a new shim: create the container. One descriptor travels along per
    /// element of `attaches`.
    Launch {
        /// What to create.
        plan: Box<LaunchPlan>,
        /// Clients attached before anything can be written.
        attaches: Vec<AttachSpec>,
    },
    /// How things stand.
    State,
    /// Let the created process run. Answered when exec has succeeded.
    Start,
    /// Send a signal.
    Kill {
        /// The exec to signal; the container if absent.
        exec: Option<String>,
        /// Signal number.
        signal: i32,
        /// Every process of the container, not only the first.
        all: bool,
    },
    /// Join a client's connection (one descriptor travels along).
    Attach {
        /// The exec to attach to; the container if absent.
        exec: Option<String>,
        /// How.
        spec: AttachSpec,
    },
    /// Change the size of a terminal.
    Resize {
        /// The exec; the container if absent.
        exec: Option<String>,
        /// New size.
        size: ConsoleSize,
    },
    /// Close the container's (or exec's) standard input.
    CloseStdin {
        /// The exec; the container if absent.
        exec: Option<String>,
    },
    /// Run a further process; one descriptor travels along per element of `attaches`.
    Exec {
        /// The process.
        plan: Box<ExecPlan>,
        /// Clients attached before it starts.
        attaches: Vec<AttachSpec>,
    },
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Change limits.
    Update {
        /// The limits to change.
        resources: Box<Resources>,
    },
    /// Write what the log still buffers and start a new log file now.
    RotateLog,
    /// The exit status of an exec has been taken; forget it.
    AcknowledgeExec {
        /// The exec.
        exec: String,
    },
    /// The exit status has been taken; remove the directory and end. Before the exit: refused
    /// unless `force`, which kills the container first.
    Shutdown {
        /// Kill first.
        force: bool,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Number of the request.
    pub id: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Success or failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok(Reply),
    /// Not done.
    Err(Fault),
}

/// What a successful call answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Nothing to say.
    Done,
    /// A process runs.
    Started {
        /// Its id on the host.
        pid: u32,
        /// Its start time in clock ticks, against reuse of the id.
        start_ticks: u64,
        /// When it was started, nanoseconds since 1970.
        at_ns: i64,
    },
    /// How things stand.
    State(Box<State>),
}

/// How things stand with a shim and its container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Protocol version of the shim.
    pub protocol: u32,
    /// Container id.
    pub id: String,
    /// Phase of the container.
    pub phase: Phase,
    /// First process, on the host; 0 when gone.
    pub pid: u32,
    /// Its start time in clock ticks.
    pub start_ticks: u64,
    /// When it was started, nanoseconds since 1970.
    pub started_at_ns: i64,
    /// The shim's own process id.
    pub shim_pid: u32,
    /// Set once the container has ended.
    pub exit: Option<ExitRecord>,
    /// Whether the container ran out of memory so far.
    pub oom_killed: bool,
    /// Execs that run or whose exit was not acknowledged.
    pub execs: Vec<ExecState>,
    /// Clients attached now.
    pub attached: u32,
    /// Log lines dropped because the disk was full.
    pub log_dropped: u64,
    /// Why the log's target takes nothing at present.
    #[serde(default)]
    pub log_error: Option<String>,
}

/// Phase of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Made, waiting for start.
    #[default]
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Ended; the record waits to be taken.
    Exited,
}

/// One exec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecState {
    /// Its id.
    pub id: String,
    /// Process id on the host.
    pub pid: u32,
    /// Set once it has ended.
    pub exit: Option<ExitRecord>,
    /// [`ExecPlan::note`], as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<serde_json::Value>,
}

/// How a process ended; also the content of the `exit` file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitRecord {
    /// Exit code; 128 + signal for a killed process.
    pub code: i32,
    /// The signal, if one killed it.
    pub signal: Option<i32>,
    /// Whether the container's cgroup ran out of memory.
    pub oom_killed: bool,
    /// When it was started, nanoseconds since 1970; 0 if it never was.
    pub started_at_ns: i64,
    /// When it ended, nanoseconds since 1970.
    pub exited_at_ns: i64,
}

/// Something that happened; sent to every connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum Event {
    /// The container ended; streams are drained, the log is written.
    Exited(ExitRecord),
    /// An exec ended.
    ExecExited {
        /// Its id.
        exec: String,
        /// How.
        exit: ExitRecord,
    },
    /// The container's cgroup ran out of memory.
    OutOfMemory,
    /// A client typed the detach keys.
    Detached {
        /// The exec it was attached to; the container if absent.
        exec: Option<String>,
    },
}

/// Why a call failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(default)]
pub struct Fault {
    /// Closed set of reasons.
    pub kind: FaultKind,
    /// The whole story on one line, in runc's wording where clients match on it.
    pub message: String,
    /// The step that failed, if the runtime named one.
    pub step: Option<String>,
    /// The kernel's error number, if there was one.
    pub errno: Option<i32>,
}

/// Closed set of reasons for a failed call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The operating system or the shim failed.
    #[default]
    System,
    /// The command does not exist (exit code 127).
    CommandNotFound,
    /// The command cannot be executed (exit code 126).
    CommandNotExecutable,
    /// The request makes no sense.
    Invalid,
    /// The container or exec is not in a state for this.
    Conflict,
    /// No such exec.
    NotFound,
    /// This shim is too old (or the runtime too foreign) for the call.
    Unsupported,
}
