//! A container as kept in the database and published to readers.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContainerConfig, ContainerId, EndpointRecord, HostConfig, MountPoint, Story, Timestamp};

/// Everything known of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a leading slash.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// What it runs (image's configuration merged in).
    pub config: ContainerConfig,
    /// How the host runs it.
    pub host: HostConfig,
    /// `sha256:...` of the image.
    pub image_id: String,
    /// Digest of the platform's manifest inside the image.
    #[serde(default)]
    pub manifest_digest: String,
    /// Layers (diff ids), lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// `linux/amd64`.
    #[serde(default)]
    pub platform: String,
    /// Program and arguments after merging entry point and command.
    pub path: String,
    /// See `path`.
    pub args: Vec<String>,
    /// Mounts, resolved at create.
    #[serde(default)]
    pub mounts: Vec<MountPoint>,
    /// Its networks by name.
    #[serde(default)]
    pub endpoints: BTreeMap<String, EndpointRecord>,
    /// Published ports while running.
    #[serde(default)]
    pub published: Vec<wharf_net::PublishedPort>,
    /// Where its name service forwards to, while it has a network namespace.
    #[serde(default)]
    pub upstream: Vec<wharf_net::Upstream>,
    /// Its state.
    pub state: State,
    /// Restarts by policy since it was last started by a user.
    #[serde(default)]
    pub restart_count: u32,
    /// A user stopped it (`unless-stopped` then leaves it so).
    #[serde(default)]
    pub manually_stopped: bool,
    /// It was stopped because the host went down; the next engine starts it again if its policy would.
    #[serde(default)]
    pub shut_down: bool,
    /// Directory `<root>/containers/<id>`.
    pub dir: String,
    /// What happened to it, for `why`.
    #[serde(default)]
    pub story: Story,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started, or a start failed.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and its policy will start it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// It ended.
    Exited,
    /// A removal failed half-way.
    Dead,
}

impl Status {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Process id in the host's namespace; 0 when it does not run.
    pub pid: i32,
    /// Of the last run.
    pub exit_code: i32,
    /// Why the last start failed; empty otherwise.
    pub error: String,
    /// The last run ended by the kernel's OOM killer.
    pub oom_killed: bool,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// Its health, when it has a check.
    pub health: Option<Health>,
    /// Its shim could not be reached since the engine started.
    pub reconnecting: bool,
}

impl State {
    /// What clients see as `Running`: it runs, is paused, or is about to be restarted.
    pub fn shows_as_running(&self) -> bool {
        self.is_running() || self.status == Status::Restarting
    }

    /// Whether a process exists (running or paused).
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }
}

/// The health of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Present verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five probes.
    pub log: Vec<HealthProbe>,
}

/// A verdict on health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No success yet.
    #[default]
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One probe of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; -1 when it timed out or could not run.
    pub exit_code: i32,
    /// What it printed, at most 4 KiB.
    pub output: String,
}
