//! The messages of version 1 as they were when it was released, frozen: what an old engine or shim
//! reads and writes. Never to be changed; a later version gets a file of its own.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub const PROTOCOL_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    #[serde(default)]
    pub fds: u32,
    #[serde(flatten)]
    pub call: Call,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub id: u64,
    #[serde(default)]
    pub fds: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "call", content = "args", rename_all = "snake_case")]
pub enum Call {
    Launch {
        plan: Box<LaunchPlan>,
        attaches: Vec<AttachSpec>,
    },
    State,
    Start,
    Kill {
        exec: Option<String>,
        signal: i32,
        all: bool,
    },
    Attach {
        exec: Option<String>,
        spec: AttachSpec,
    },
    Resize {
        exec: Option<String>,
        size: ConsoleSize,
    },
    CloseStdin {
        exec: Option<String>,
    },
    Exec {
        plan: Box<ExecPlan>,
        attaches: Vec<AttachSpec>,
    },
    Pause,
    Resume,
    Update {
        resources: serde_json::Value,
    },
    RotateLog,
    AcknowledgeExec {
        exec: String,
    },
    Shutdown {
        force: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    pub id: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok(Reply),
    Err(Fault),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Started { pid: u32, start_ticks: u64, at_ns: i64 },
    State(Box<State>),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub protocol: u32,
    pub id: String,
    pub phase: Phase,
    pub pid: u32,
    pub start_ticks: u64,
    pub started_at_ns: i64,
    pub shim_pid: u32,
    pub exit: Option<ExitRecord>,
    pub oom_killed: bool,
    pub execs: Vec<ExecState>,
    pub attached: u32,
    pub log_dropped: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Created,
    Running,
    Paused,
    Exited,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecState {
    pub id: String,
    pub pid: u32,
    pub exit: Option<ExitRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitRecord {
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub started_at_ns: i64,
    pub exited_at_ns: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum Event {
    Exited(ExitRecord),
    ExecExited { exec: String, exit: ExitRecord },
    OutOfMemory,
    Detached { exec: Option<String> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
    pub step: Option<String>,
    pub errno: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    #[default]
    System,
    CommandNotFound,
    CommandNotExecutable,
    Invalid,
    Conflict,
    NotFound,
    Unsupported,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaunchPlan {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: RootfsPlan,
    pub user: Option<String>,
    pub group_add: Vec<String>,
    pub stdio: StdioPlan,
    pub log: Option<LogPlan>,
    pub runtime: RuntimePlan,
    pub shim_cgroup: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootfsPlan {
    #[default]
    FromSpec,
    Directory {
        path: PathBuf,
    },
    Overlay {
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StdioPlan {
    pub terminal: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub console_size: Option<ConsoleSize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    pub rows: u16,
    pub cols: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogPlan {
    pub path: PathBuf,
    pub max_bytes: u64,
    pub max_files: u32,
    pub attrs: std::collections::BTreeMap<String, String>,
}

impl Default for LogPlan {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            max_bytes: 20 << 20,
            max_files: 3,
            attrs: Default::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimePlan {
    #[default]
    Builtin,
    Foreign {
        path: PathBuf,
        args: Vec<String>,
        root: PathBuf,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecPlan {
    pub id: String,
    pub process: serde_json::Value,
    pub user: Option<String>,
    pub group_add: Vec<String>,
    pub stdio: StdioPlan,
    pub privileged: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachSpec {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub framed: bool,
    pub detach_keys: Vec<u8>,
    pub early_stdin: Vec<u8>,
    pub preface: Vec<u8>,
    pub when_slow: WhenSlow,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenSlow {
    #[default]
    Auto,
    Throttle,
    Drop,
}
