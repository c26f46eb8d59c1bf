//! Children that go on in a copy of the caller's memory: fork and clone3.

use crate::handle::{has_pidfds, open_directory};
use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result, is_unavailable};
use linux_raw_sys::general::{__NR_clone3, CLONE_INTO_CGROUP, CLONE_PIDFD, clone_args};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use linux_raw_sys::general::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
    CLONE_PARENT,
};

/// What the child of [`clone3`] is born into.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneOptions<'a> {
    /// `CLONE_NEW...` and [`CLONE_PARENT`].
    pub flags: u32,
    /// Directory of a cgroup v2. KERNEL(5.7): before, the child goes there by
    /// itself, first of all.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A child made by [`clone3`].
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: Pid,
    /// Its handle (see [`crate::handle`]), close-on-exec.
    pub pidfd: OwnedFd,
}

const SIGCHLD: u64 = 17;

/// Clones the process; `child` runs in the new one, which exits with the
/// value returned. It is told whether it is in the cgroup asked for.
///
/// The caller must have a single thread: a lock held by another thread at
/// the moment of the call stays held for ever in the child.
///
/// KERNEL(5.3): before, clone(2).
///
/// # Errors
/// As clone3(2).
pub fn clone3(options: CloneOptions<'_>, child: impl FnOnce(Result<()>) -> i32) -> Result<Child> {
    let mut pidfd: i32 = -1;
    let mut args = arguments(options, &mut pidfd);
    let numbers = [
        std::ptr::from_mut(&mut args) as usize,
        size_of::<clone_args>(),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: `args` is a complete clone_args with its own size; no new
    // stack and no shared memory is asked for, so the child goes on in a
    // copy of this frame, as after fork(2).
    match unsafe { syscall(__NR_clone3, numbers) } {
        // E2BIG: a clone3 without cgroups.
        Err(errno) if is_unavailable(errno) || errno == Errno::TOOBIG => clone_classic(options, child),
        Err(errno) => Err(errno),
        Ok(0) => exit(child(Ok(()))),
        Ok(pid) => made(pid, pidfd),
    }
}

/// By clone(2), which takes the place of the pidfd for `parent_tid`.
fn clone_classic(options: CloneOptions<'_>, child: impl FnOnce(Result<()>) -> i32) -> Result<Child> {
    let mut pidfd: i32 = -1;
    let signal = if options.flags & CLONE_PARENT == 0 { SIGCHLD } else { 0 };
    let mut flags = u64::from(options.flags) | signal;
    if has_pidfds() {
        flags |= u64::from(CLONE_PIDFD);
    }
    let slot = std::ptr::from_mut(&mut pidfd) as usize;
    #[expect(clippy::cast_possible_truncation, reason = "flags of clone(2) fit a register")]
    let numbers = [flags as usize, 0, slot, 0, 0, 0];
    // SAFETY: a null stack means a copy of this one; `slot` outlives the call.
    match unsafe { syscall(linux_raw_sys::general::__NR_clone, numbers)? } {
        0 => exit(child(options.cgroup.map_or(Ok(()), enter_cgroup))),
        pid => made(pid, pidfd),
    }
}

/// Moves the calling process, which has one thread, into a cgroup v2.
pub(crate) fn enter_cgroup(directory: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, c"cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(&file, b"0").map(drop)
}

fn made(pid: usize, pidfd: i32) -> Result<Child> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::INVAL)?;
    let pidfd = match pidfd {
        0.. => {
            // SAFETY: the kernel stored the new descriptor, which is ours alone.
            unsafe { OwnedFd::from_raw_fd(pidfd) }
        }
        // KERNEL(5.3): no pidfds; nobody else reaps the child meanwhile.
        _ => open_directory(pid)?,
    };
    Ok(Child { pid, pidfd })
}

fn arguments(options: CloneOptions<'_>, pidfd: &mut i32) -> clone_args {
    let mut flags = u64::from(options.flags | CLONE_PIDFD);
    let mut cgroup = 0;
    if let Some(fd) = options.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = fd_arg(fd.as_raw_fd()) as u64;
    }
    // With CLONE_PARENT the signal is the caller's own.
    let exit_signal = if options.flags & CLONE_PARENT == 0 { SIGCHLD } else { 0 };
    clone_args {
        flags,
        pidfd: std::ptr::from_mut(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    }
}

/// A plain fork of a process with a single thread; see [`clone3`]. By clone(2): it is also used
/// inside containers, whose seccomp profile answers ENOSYS to clone3.
///
/// # Errors
/// As fork(2).
pub fn fork(child: impl FnOnce() -> i32) -> Result<Child> {
    clone_classic(CloneOptions::default(), |_| child())
}

/// Ends the process at once, without running destructors or `atexit`.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        let _ = unsafe { syscall(linux_raw_sys::general::__NR_exit_group, [fd_arg(code), 0, 0, 0, 0, 0]) };
    }
}
