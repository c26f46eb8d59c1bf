//! Namespaces: which there are, and going into them.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result};
use linux_raw_sys::general::{__NR_setns, __NR_unshare};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};

/// `_IO(0xb7, 3)`: the `CLONE_NEW...` of a namespace descriptor.
const NS_GET_NSTYPE: usize = 0xb703;

/// Enters the namespace that `fd` refers to, which must be of kind `kind`
/// (`CLONE_NEW...`).
///
/// # Errors
/// As setns(2).
pub fn enter(fd: impl AsFd, kind: u32) -> Result<()> {
    let args = [fd_arg(fd.as_fd().as_raw_fd()), kind as usize, 0, 0, 0, 0];
    // SAFETY: numbers only. Namespaces do not affect memory; a changed mount
    // or user namespace changes what later calls see, as documented.
    unsafe { syscall(__NR_setns, args) }.map(drop)
}

/// Enters all namespaces in `kinds` (`CLONE_NEW...`) of a process, given by
/// its handle (see [`crate::handle`]).
///
/// KERNEL(5.8): before, one by one through the process's directory in /proc.
///
/// # Errors
/// ESRCH when the process is gone; as setns(2).
pub fn enter_all(process: impl AsFd, kinds: u32) -> Result<()> {
    let process = process.as_fd();
    match enter(process, kinds) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::BADF) => {}
        other => return other,
    }
    enter_each(process, kinds)
}

fn enter_each(process: BorrowedFd<'_>, kinds: u32) -> Result<()> {
    let directory = if crate::handle::is_pollable(process) {
        crate::handle::open_directory(crate::handle::pid(process)?)?
    } else {
        process.try_clone_to_owned().map_err(|_| Errno::MFILE)?
    };
    // ORDER: after the directory was opened, so that it is about this very process.
    // Not by a signal: the caller may be in another pid namespace than /proc shows.
    if crate::handle::has_ended(process) {
        return Err(Errno::SRCH);
    }
    // Opened before the first is entered: they may hide the rest.
    let mut wanted = Vec::new();
    for (kind, name) in FILES.iter().filter(|(kind, _)| kinds & kind != 0) {
        let path = format!("ns/{name}");
        let file = rustix::fs::openat(&directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        wanted.push((
            *kind,
            file.map_err(|errno| if errno == Errno::NOENT { Errno::SRCH } else { errno })?,
        ));
    }
    // The host's root may enter everything and gives up that right with the
    // user namespace, so that comes last; anyone else gets the right by it.
    if !rustix::process::geteuid().is_root() {
        wanted.rotate_right(usize::from(kinds & CLONE_NEWUSER != 0));
    }
    wanted.iter().try_for_each(|(kind, file)| enter(file, *kind))
}

/// Kinds and their files, in the order of entering.
const FILES: [(u32, &str); 8] = [
    (CLONE_NEWCGROUP, "cgroup"),
    (CLONE_NEWIPC, "ipc"),
    (CLONE_NEWUTS, "uts"),
    (CLONE_NEWNET, "net"),
    (CLONE_NEWPID, "pid"),
    (CLONE_NEWTIME, "time"),
    (CLONE_NEWNS, "mnt"),
    (CLONE_NEWUSER, "user"),
];

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

/// Gives the calling thread a root and a working directory of its own, which is what entering a mount
/// namespace asks for. The thread should end afterwards: others would not expect it.
///
/// # Errors
/// As unshare(2).
pub fn unshare_directory() -> Result<()> {
    let args = [linux_raw_sys::general::CLONE_FS as usize, 0, 0, 0, 0, 0];
    // SAFETY: a number only; memory and descriptors stay shared.
    unsafe { syscall(__NR_unshare, args) }.map(drop)
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
