//! What callers ask of the containers service, and what it answers.
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ContainerConfig, ContainerId, ContainerRecord, EndpointSettings, ExecId, HostConfig, Resources, RestartPolicy,
    Timestamp,
};

/// Asks for a new container.
#[derive(Clone, Debug, Default)]
pub struct CreateContainer {
    /// Wanted name; empty means a made-up one. A leading slash is dropped.
    pub name: String,
    /// `os/arch[/variant]`; empty means the host's.
    pub platform: String,
    /// What to run.
    pub config: ContainerConfig,
    /// How to run it.
    pub host: HostConfig,
    /// Settings per network (`EndpointsConfig`).
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// The client speaks an API before 1.44 and cannot name several networks.
    pub legacy_single_network: bool,
}

/// A container was created.
#[derive(Clone, Debug, Default)]
pub struct ContainerCreated {
    /// Its id.
    pub id: String,
    /// For the user.
    pub warnings: Vec<String>,
}

/// How to stop or restart.
#[derive(Clone, Debug, Default)]
pub struct StopOptions {
    /// Signal instead of the container's stop signal.
    pub signal: Option<String>,
    /// Seconds before SIGKILL; negative waits for ever; `None` means the container's own.
    pub timeout_s: Option<i64>,
    /// The host goes down: what its policy would keep running is started again by the next engine.
    pub for_shutdown: bool,
}

/// What a caller of `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Until it does not run (at once when it does not).
    #[default]
    NotRunning,
    /// Until its next end.
    NextExit,
    /// Until it is removed.
    Removed,
}

/// How a wait ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitResult {
    /// Exit code.
    pub status_code: i64,
    /// Why there is none.
    pub error: Option<String>,
}

/// How to remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first when it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
    /// Remove a link, not the container.
    pub link: bool,
}

/// Asks to change a container's limits or policy; zero values leave things as they are.
#[derive(Clone, Debug, Default)]
pub struct UpdateContainer {
    /// New limits.
    pub resources: Resources,
    /// New policy; `None` or an empty name leaves it.
    pub restart_policy: Option<RestartPolicy>,
    /// Annotations of ours that are to change.
    pub annotations: BTreeMap<String, String>,
}

/// Processes of a container, in `ps` columns.
#[derive(Clone, Debug, Default)]
pub struct TopTable {
    /// Column titles.
    pub titles: Vec<String>,
    /// One row per process.
    pub processes: Vec<Vec<String>>,
}

/// Which log lines.
#[derive(Clone, Debug, Default)]
pub struct LogsQuery {
    /// Keep going.
    pub follow: bool,
    /// With stdout.
    pub stdout: bool,
    /// With stderr.
    pub stderr: bool,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Only the last so many; `None` is all.
    pub tail: Option<u64>,
}

/// One line (or part of one) of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// It came on stderr.
    pub stderr: bool,
    /// When it was written.
    pub time: Timestamp,
    /// Labels and variables that the log options named, when it was written.
    pub attributes: Vec<(String, String)>,
    /// Bytes with their final newline, if there was one.
    pub bytes: Vec<u8>,
}

/// What to attach.
#[derive(Clone, Debug, Default)]
pub struct AttachQuery {
    /// Forward the client's bytes.
    pub stdin: bool,
    /// Send stdout.
    pub stdout: bool,
    /// Send stderr.
    pub stderr: bool,
    /// Stay attached (otherwise only `logs`).
    pub stream: bool,
    /// Send what was logged so far first.
    pub logs: bool,
    /// `ctrl-p,ctrl-q` syntax; empty means the default, which is that.
    pub detach_keys: String,
}

/// Asks for an exec session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateExec {
    /// User, as for a container; empty means the container's.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// With a terminal.
    pub tty: bool,
    /// `[height, width]`.
    pub console_size: Option<[u32; 2]>,
    /// Attach stdin.
    pub attach_stdin: bool,
    /// Attach stdout.
    pub attach_stdout: bool,
    /// Attach stderr.
    pub attach_stderr: bool,
    /// See [`AttachQuery::detach_keys`].
    pub detach_keys: String,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Working directory; empty means the container's.
    pub working_dir: String,
    /// Program and arguments.
    pub cmd: Vec<String>,
}

/// How to start an exec session.
#[derive(Debug, Default)]
pub struct StartExec {
    /// Do not attach.
    pub detach: bool,
    /// Overrides the framing only.
    pub tty: bool,
    /// `[height, width]`.
    pub console_size: Option<[u32; 2]>,
}

/// An exec session as `inspect` shows it.
#[derive(Clone, Debug)]
pub struct ExecInfo {
    /// Its id.
    pub id: ExecId,
    /// The container's id.
    pub container: ContainerId,
    /// What was asked.
    pub request: CreateExec,
    /// It was started and has not ended.
    pub running: bool,
    /// `None` while it runs and before.
    pub exit_code: Option<i32>,
    /// In the host's namespace; 0 before it runs, kept after its end.
    pub pid: i32,
    /// It ended.
    pub can_remove: bool,
}

/// A client's connection that becomes a container's stdio: a connected stream socket.
#[derive(Debug)]
pub struct ClientStream {
    /// The socket.
    pub socket: OwnedFd,
    /// Frame stdout and stderr (stdcopy); otherwise raw bytes.
    pub framed: bool,
    /// Bytes the client sent that were read off the socket already.
    pub early_input: Vec<u8>,
}

/// A container as `inspect` shows it: its record and what is computed on demand.
#[derive(Clone, Debug)]
pub struct ContainerInspect {
    /// The record.
    pub record: ContainerRecord,
    /// Ids of its exec sessions.
    pub exec_ids: Vec<String>,
    /// Bytes in its writable layer, when asked.
    pub size_rw: Option<i64>,
    /// Bytes of its whole file system, when asked.
    pub size_root_fs: Option<i64>,
    /// Paths of generated files, empty before they exist.
    pub resolv_conf_path: String,
    /// See `resolv_conf_path`.
    pub hostname_path: String,
    /// See `resolv_conf_path`.
    pub hosts_path: String,
    /// The json log file; empty with the `none` driver.
    pub log_path: String,
    /// Pinned network namespace; empty when it has none.
    pub sandbox_key: String,
    /// Overlay directories: lower (top first), upper, work, merged.
    pub overlay: OverlayDirs,
}

/// Directories of a container's overlay.
#[derive(Clone, Debug, Default)]
pub struct OverlayDirs {
    /// Layers, top first.
    pub lower: Vec<String>,
    /// Writable directory.
    pub upper: String,
    /// Work directory.
    pub work: String,
}

/// Asks for a new image from a container.
#[derive(Clone, Debug, Default)]
pub struct CommitContainer {
    /// Repository; empty leaves it untagged.
    pub repo: String,
    /// Tag.
    pub tag: String,
    /// Comment.
    pub comment: String,
    /// Author.
    pub author: String,
    /// Pause it meanwhile.
    pub pause: bool,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Replaces the container's configuration where given.
    pub config: Option<ContainerConfig>,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// Absolute path in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// 0 in the API.
    Modified,
    /// 1 in the API.
    Added,
    /// 2 in the API.
    Deleted,
}

/// What is known of a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Base name.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`.
    pub mode: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Target of a symbolic link, absolute within the container; empty otherwise.
    pub link_target: String,
}

/// How to unpack an archive into a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutArchive {
    /// Refuse to replace a directory by a file and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Give everything to the container's user.
    pub copy_uid_gid: bool,
}

/// What a prune removed.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// Ids or names.
    pub deleted: Vec<String>,
    /// Bytes freed.
    pub space_reclaimed: u64,
}

/// Which containers.
#[derive(Clone, Debug, Default)]
pub struct ListContainers {
    /// Stopped ones too.
    pub all: bool,
    /// Only the newest so many (0 is no bound); implies `all`.
    pub limit: usize,
    /// Compute sizes.
    pub size: bool,
    /// Filters.
    pub filters: crate::filters::Filters,
}

/// A container in a list.
#[derive(Clone, Debug)]
pub struct ContainerListed {
    /// The record.
    pub record: std::sync::Arc<ContainerRecord>,
    /// The image as shown: its name, or its id when the name moved on.
    pub image: String,
    /// See [`ContainerInspect::size_rw`].
    pub size_rw: Option<i64>,
    /// See [`ContainerInspect::size_root_fs`].
    pub size_root_fs: Option<i64>,
    /// `Up 2 seconds (healthy)`.
    pub status_text: String,
}

/// One measurement of a container.
#[derive(Clone, Debug, Default)]
pub struct StatsSample {
    /// When; `None` when it does not run.
    pub read: Option<Timestamp>,
    /// CPU time.
    pub cpu: CpuSample,
    /// Memory.
    pub memory: MemorySample,
    /// Block devices.
    pub blkio: Vec<BlkioEntry>,
    /// Number of operations on block devices.
    pub blkio_serviced: Vec<BlkioEntry>,
    /// Processes now and the limit (0 is none).
    pub pids: (u64, u64),
    /// Interfaces.
    pub networks: BTreeMap<String, InterfaceSample>,
}

/// CPU part of a sample, nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct CpuSample {
    /// Used in all.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub kernel: u64,
    /// Per CPU (v1 only).
    pub per_cpu: Vec<u64>,
    /// Used by the whole host.
    pub system: u64,
    /// CPUs of the host.
    pub online: u32,
    /// Periods, throttled periods, throttled nanoseconds.
    pub throttling: (u64, u64, u64),
}

/// Memory part of a sample, bytes.
#[derive(Clone, Debug, Default)]
pub struct MemorySample {
    /// In use.
    pub usage: u64,
    /// Most that was in use (v1 only).
    pub max_usage: Option<u64>,
    /// Limit; the host's memory when there is none.
    pub limit: u64,
    /// Times the limit was hit.
    pub failcnt: Option<u64>,
    /// The kernel's `memory.stat`.
    pub stats: BTreeMap<String, u64>,
}

/// One number about a block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Device.
    pub major: u64,
    /// Device.
    pub minor: u64,
    /// `Read`, `Write`, ...
    pub op: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Counters of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSample {
    /// Received: bytes, packets, errors, dropped.
    pub rx: [u64; 4],
    /// Sent: bytes, packets, errors, dropped.
    pub tx: [u64; 4],
}

/// How long an operation may take before it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Duration);
