//! The OCI runtime: from a bundle to an isolated process.
//!
//! ```text
//! create: plan -> cgroups -> clone3 -> [init: mounts, pivot, rights] -> waiting
//! start:  "go" -> [init: seccomp, execve]  -> running (or the error of execve)
//! exec:   clone -> setns through a pidfd -> cgroup -> rights -> execve
//! ```
//!
//! It is synchronous, starts no thread and no helper program, and must be
//! called from a process with a single thread: the child of `clone3` goes on
//! in a copy of the caller's memory.
//!
//! It owns the life of one process tree; it does not own stdio pumping,
//! logs, images or networks.

pub mod bare;
pub mod cgroups;
pub mod check;
pub mod cli;
pub mod error;
pub mod hooks;
pub mod lookup;
pub mod request;
pub mod seccomp;
pub mod spec;

mod birth;
mod channel;
mod create;
mod criu;
mod device_nodes;
mod exec;
mod group;
mod host_root;
mod init;
mod join;
mod listener;
mod net_devices;
mod plan;
mod privileges;
mod resctrl;
mod scope;
mod sources;
mod trace;
mod user_namespace;

pub use create::{Created, create, create_while};
pub use error::{ErrorKind, RuntimeError};
pub use exec::{ExecProcess, exec};
pub use group::CgroupChoice;
pub use host_root::HostRoot;
pub use join::SubCgroup;
pub use request::{CreateRequest, ExecRequest, ExecTarget, FilterSource, Gate, Rootfs, Stdio};
pub use resctrl::ResctrlGroup;
pub use scope::Scope;
pub use wharf_cgroup::Cgroup;
