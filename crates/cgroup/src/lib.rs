//! Control groups: create, limit, measure, watch and delete them, on version 1 and version 2.
//!
//! Owns: finding the mounted hierarchies, the files of every controller, device filters, freezing,
//! counting, out-of-memory notices, removal. Does not own: what a container's limits should be
//! (the engine decides) nor the OCI spelling of them (the runtime converts).
//!
//! ```text
//! Hierarchy::probe()                     where the controllers are mounted, once per process
//!   Cgroup::create(&h, "/NAME/<id>")     one directory (v2) or one per controller (v1)
//!     .apply(&resources)                 files in a safe order
//!     .add(pid) | .open_dir()            by pid, or for CLONE_INTO_CGROUP (v2)
//!     .stats() .pids() .freeze() .kill() .update(&resources)
//!     .delete()                          retried while processes are still dying
//! ```
//!
//! Parsers are pure functions over file texts and tested over recorded trees.

mod capacity;
mod delegate;
mod details;
mod devices;
mod dir;
mod error;
mod freeze;
mod group;
mod hierarchy;
mod parse;
mod realtime;
mod remove;
mod resources;
mod stats;
pub mod systemd;
mod v1;
mod v2;

pub use capacity::Capacity;
pub use details::{CpusetStats, Details, MemoryCounter, Pressure, RdmaStats, Stall};
pub use error::CgroupError;
pub use group::{Cgroup, OomWatch};
pub use hierarchy::{Controller, Hierarchy, Version};
pub use realtime::Realtime;
pub use resources::{
    BlockIo, Cpu, Cpuset, DeviceAccess, DeviceKind, DeviceRule, HugetlbLimit, Memory, Network, RdmaLimit, Resources,
    ThrottleDevice, WeightDevice,
};
pub use stats::{BlkioEntry, BlkioStats, CpuStats, HugetlbStats, MemoryStats, PidsStats, Stats, ThrottlingStats};
