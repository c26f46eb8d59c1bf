//! The messages of the task service and its events. Names and numbers are containerd's.

use std::collections::BTreeMap;

use super::proto::message;

/// The task service under the names of both versions; the messages are the same.
pub(crate) const TASK_V2: &str = "containerd.task.v2.Task";
/// See [`TASK_V2`].
pub(crate) const TASK_V3: &str = "containerd.task.v3.Task";
/// Where containerd takes events of shims.
pub(crate) const EVENTS: &str = "containerd.services.events.ttrpc.v1.Events";

/// States of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessStatus {
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
}

message! {
    /// A message of any type, with its name.
    Any { type_url: String = 1, value: Vec<u8> = 2 }
    /// Seconds since 1970, and nanoseconds.
    Timestamp { seconds: i64 = 1, nanos: i32 = 2 }
    /// A mount that makes the root file system.
    Mount { kind: String = 1, source: String = 2, target: String = 3, options: Vec<String> = 4 }

    CreateTaskRequest {
        id: String = 1,
        bundle: String = 2,
        rootfs: Vec<Mount> = 3,
        terminal: bool = 4,
        stdin: String = 5,
        stdout: String = 6,
        stderr: String = 7,
        checkpoint: String = 8,
        parent_checkpoint: String = 9,
        options: Option<Any> = 10,
    }
    /// The answer to create and start.
    PidResponse { pid: u32 = 1 }
    /// A container or, with `exec_id`, one of its further processes: start, delete, wait, state, and all requests
    /// that name only a container.
    ProcessRequest { id: String = 1, exec_id: String = 2 }
    DeleteResponse { pid: u32 = 1, exit_status: u32 = 2, exited_at: Option<Timestamp> = 3 }
    ExecProcessRequest {
        id: String = 1,
        exec_id: String = 2,
        terminal: bool = 3,
        stdin: String = 4,
        stdout: String = 5,
        stderr: String = 6,
        spec: Option<Any> = 7,
    }
    ResizePtyRequest { id: String = 1, exec_id: String = 2, width: u32 = 3, height: u32 = 4 }
    StateResponse {
        id: String = 1,
        bundle: String = 2,
        pid: u32 = 3,
        status: u32 = 4,
        stdin: String = 5,
        stdout: String = 6,
        stderr: String = 7,
        terminal: bool = 8,
        exit_status: u32 = 9,
        exited_at: Option<Timestamp> = 10,
        exec_id: String = 11,
    }
    KillRequest { id: String = 1, exec_id: String = 2, signal: u32 = 3, all: bool = 4 }
    CloseIoRequest { id: String = 1, exec_id: String = 2, stdin: bool = 3 }
    PidsResponse { processes: Vec<ProcessInfo> = 1 }
    ProcessInfo { pid: u32 = 1, info: Option<Any> = 2 }
    /// What `info` of a process says: which exec it is.
    ProcessDetails { exec_id: String = 1 }
    ShutdownRequest { id: String = 1, now: bool = 2 }
    UpdateTaskRequest { id: String = 1, resources: Option<Any> = 2, annotations: BTreeMap<String, String> = 3 }
    WaitResponse { exit_status: u32 = 1, exited_at: Option<Timestamp> = 2 }
    StatsResponse { stats: Option<Any> = 1 }
    ConnectResponse { shim_pid: u32 = 1, task_pid: u32 = 2, version: String = 3 }

    /// Options of runc's shim, which containerd's clients send to ours, too.
    RuncOptions {
        no_pivot_root: bool = 1,
        no_new_keyring: bool = 2,
        shim_cgroup: String = 3,
        io_uid: u32 = 4,
        io_gid: u32 = 5,
        binary_name: String = 6,
        root: String = 7,
        criu_path: String = 8,
        systemd_cgroup: bool = 9,
        criu_image_path: String = 10,
        criu_work_path: String = 11,
    }

    /// Options of shims that read a file or a text (Kata, gVisor).
    GenericOptions { type_url: String = 1, config_path: String = 2, config_body: Vec<u8> = 3 }

    TaskCreate {
        container_id: String = 1,
        bundle: String = 2,
        rootfs: Vec<Mount> = 3,
        io: Option<TaskIo> = 4,
        checkpoint: String = 5,
        pid: u32 = 6,
    }
    TaskIo { stdin: String = 1, stdout: String = 2, stderr: String = 3, terminal: bool = 4 }
    TaskStart { container_id: String = 1, pid: u32 = 2 }
    TaskDelete {
        container_id: String = 1,
        pid: u32 = 2,
        exit_status: u32 = 3,
        exited_at: Option<Timestamp> = 4,
        id: String = 5,
    }
    TaskExit {
        container_id: String = 1,
        id: String = 2,
        pid: u32 = 3,
        exit_status: u32 = 4,
        exited_at: Option<Timestamp> = 5,
    }
    /// Of out of memory, pause and resume.
    TaskOnly { container_id: String = 1 }
    TaskExecAdded { container_id: String = 1, exec_id: String = 2 }
    TaskExecStarted { container_id: String = 1, exec_id: String = 2, pid: u32 = 3 }

    ForwardRequest { envelope: Option<Envelope> = 1 }
    Envelope {
        timestamp: Option<Timestamp> = 1,
        namespace: String = 2,
        topic: String = 3,
        event: Option<Any> = 4,
    }
}

impl Timestamp {
    /// From nanoseconds since 1970.
    pub(crate) fn from_ns(ns: i64) -> Self {
        Self {
            seconds: ns.div_euclid(1_000_000_000),
            nanos: i32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0),
        }
    }
}
