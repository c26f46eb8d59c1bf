//! Typed, safe wrappers over the Linux kernel, and the only crate with
//! `unsafe`. What rustix already wraps is used through rustix; here is what
//! it lacks, and what must be put together with care: resolution of hostile
//! paths, cloning, spawning, joining namespaces, passing descriptors.
//!
//! Errors are plain [`Errno`]s: the caller knows what it was doing to what.
//!
//! It owns no policy and keeps no state.
#![allow(unsafe_code)]

mod raw;

pub mod activation;
pub mod bare;
pub mod bpf;
pub mod caps;
pub mod clone;
pub mod entry;
pub mod failpoint;
pub mod fd;
pub mod fdpass;
pub mod handle;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod overlay;
pub mod path;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod timeout;

pub use rustix::io::{Errno, Result};

/// Whether an error means that a system call cannot be had here: the kernel
/// has none, or a filter refuses it. Old filters answer EPERM to calls that
/// they have never heard of; a real EPERM comes again from the older call.
#[must_use]
pub fn is_unavailable(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM)
}
