//! Domain types of the engine: what is asked (`ContainerConfig`, `HostConfig`), what is
//! kept (`ContainerRecord`, `NetworkRecord`) and what is told (`Event`).
//!
//! They are persisted as JSON in the database and know nothing of HTTP. Field names follow
//! the Engine API in snake case; `Option<Vec<_>>` and `Option<BTreeMap<_>>` keep the
//! difference between absent and empty, because clients see it in `inspect`.
pub mod annotations;
pub mod config;
pub mod container;
pub mod endpoint;
pub mod event;
pub mod host;
pub mod ids;
pub mod modes;
pub mod mounts;
pub mod network;
pub mod requests;
pub mod story;
pub mod time;

pub use config::{ContainerConfig, HealthConfig};
pub use container::{ContainerRecord, Health, HealthProbe, HealthStatus, State, Status};
pub use endpoint::{EndpointIpam, EndpointRecord, EndpointSettings};
pub use event::{Event, EventAction, EventKind};
pub use host::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, Resources, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};
pub use ids::{ContainerId, ExecId, NetworkId, VolumeName};
pub use modes::{CgroupnsMode, IpcMode, NetworkMode, OnUnhealthy, PidMode, RestartKind, UsernsMode, UtsMode};
pub use mounts::{BindOptions, ImageOptions, MountKind, MountPoint, MountSpec, TmpfsOptions, VolumeOptions};
pub use network::{IpamPool, IpamSettings, NetworkRecord};
pub use story::{Cause, Happening, Note, OomReport, Story, Victim};
pub use time::Timestamp;
