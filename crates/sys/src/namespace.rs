//! Namespaces: which there are, and going into them.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result};
use linux_raw_sys::general::{__NR_setns, __NR_unshare};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

pub use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};

/// `_IO(0xb7, 3)`: the `CLONE_NEW...` of a namespace descriptor.
const NS_GET_NSTYPE: usize = 0xb703;

/// Enters the namespace that `fd` refers to, which must be of kind `kind`
/// (`CLONE_NEW...`); with a pidfd, all its namespaces whose flags are in
/// `kind` (KERNEL(5.8)).
///
/// # Errors
/// As setns(2).
pub fn enter(fd: impl AsFd, kind: u32) -> Result<()> {
    let args = [fd_arg(fd.as_fd().as_raw_fd()), kind as usize, 0, 0, 0, 0];
    // SAFETY: numbers only. Namespaces do not affect memory; a changed mount
    // or user namespace changes what later calls see, as documented.
    unsafe { syscall(__NR_setns, args) }.map(drop)
}

/// Leaves the namespaces in `flags` for new ones.
///
/// # Errors
/// As unshare(2); EINVAL for flags that are no namespaces.
pub fn unshare(flags: u32) -> Result<()> {
    let all = CLONE_NEWCGROUP
        | CLONE_NEWIPC
        | CLONE_NEWNET
        | CLONE_NEWNS
        | CLONE_NEWPID
        | CLONE_NEWTIME
        | CLONE_NEWUSER
        | CLONE_NEWUTS;
    if flags & !all != 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: only namespace flags are passed, so no table of descriptors is
    // unshared behind the back of their owners.
    unsafe { syscall(__NR_unshare, [flags as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// The kind (`CLONE_NEW...`) of an open namespace.
///
/// # Errors
/// ENOTTY when `fd` is no namespace.
pub fn kind_of(fd: impl AsFd) -> Result<u32> {
    let args = [fd_arg(fd.as_fd().as_raw_fd()), NS_GET_NSTYPE, 0, 0, 0, 0];
    // SAFETY: this ioctl takes no argument.
    let kind = unsafe { syscall(linux_raw_sys::general::__NR_ioctl, args)? };
    u32::try_from(kind).map_err(|_| Errno::INVAL)
}

/// Opens a namespace file, such as `/proc/1/ns/net` or a bind mount of one.
///
/// # Errors
/// As open(2).
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}
