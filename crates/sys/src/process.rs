//! What a process is and executes: execve, personality, scheduling, and the
//! protection of the running binary.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result};
use linux_raw_sys::general::{
    __NR_execve, __NR_execveat, __NR_ioprio_set, __NR_personality, __NR_sched_setattr, __NR_set_mempolicy,
    AT_EMPTY_PATH,
};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Pointers of `strings`, ended by a null.
pub(crate) fn pointers(strings: &[CString]) -> Vec<usize> {
    strings.iter().map(|text| text.as_ptr() as usize).chain([0]).collect()
}

/// Executes a path; returns only on failure.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path and both arrays are null-ended and live across the call.
    let failed = unsafe {
        syscall(
            __NR_execve,
            [
                path.as_ptr() as usize,
                args.as_ptr() as usize,
                env.as_ptr() as usize,
                0,
                0,
                0,
            ],
        )
    };
    failed.err().unwrap_or(Errno::INVAL)
}

/// Executes what a descriptor refers to; returns only on failure.
pub fn fexecve(program: impl AsFd, args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    let all = [
        fd_arg(program.as_fd().as_raw_fd()),
        c"".as_ptr() as usize,
        args.as_ptr() as usize,
        env.as_ptr() as usize,
        AT_EMPTY_PATH as usize,
        0,
    ];
    // SAFETY: as in `execve`; the path is a static empty string.
    let failed = unsafe { syscall(__NR_execveat, all) };
    failed.err().unwrap_or(Errno::INVAL)
}

/// Sets the execution domain (`PER_...`).
///
/// # Errors
/// As personality(2).
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: a number only.
    unsafe { syscall(__NR_personality, [domain as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Sets class (1 real-time, 2 best effort, 3 idle) and level of I/O.
///
/// # Errors
/// As ioprio_set(2).
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const WHO_PROCESS: usize = 1;
    let value = (class << 13 | level) as usize;
    // SAFETY: numbers only; 0 is the calling thread.
    unsafe { syscall(__NR_ioprio_set, [WHO_PROCESS, 0, value, 0, 0, 0]) }.map(drop)
}

/// `struct sched_attr` of the first version (linux/sched/types.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheduling {
    /// Filled in by [`set_scheduling`].
    pub size: u32,
    /// `SCHED_...`.
    pub policy: u32,
    /// `SCHED_FLAG_...`.
    pub flags: u64,
    /// For OTHER and BATCH.
    pub nice: i32,
    /// For FIFO and RR.
    pub priority: u32,
    /// Nanoseconds, for DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for DEADLINE.
    pub period: u64,
}

/// Sets the scheduling of the calling thread.
///
/// # Errors
/// As sched_setattr(2).
pub fn set_scheduling(mut scheduling: Scheduling) -> Result<()> {
    const SIZE: u32 = 48;
    scheduling.size = SIZE;
    // SAFETY: the struct is repr(C), 48 bytes, and says so in its first field.
    unsafe {
        syscall(
            __NR_sched_setattr,
            [0, std::ptr::from_ref(&scheduling) as usize, 0, 0, 0, 0],
        )
    }
    .map(drop)
}

/// Sets the NUMA policy (`MPOL_...` with flags) over these nodes.
///
/// # Errors
/// As set_mempolicy(2).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel reads one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let pointer = if nodes.is_empty() { 0 } else { nodes.as_ptr() as usize };
    // SAFETY: `nodes` holds as many bits as announced and is only read.
    unsafe { syscall(__NR_set_mempolicy, [mode as usize, pointer, bits, 0, 0, 0]) }.map(drop)
}

/// Whether this process was executed from a read-only mount, so that nobody
/// can write to its binary through `/proc/<pid>/exe`.
#[must_use]
pub fn is_binary_read_only() -> bool {
    rustix::fs::statvfs(c"/proc/self/exe").is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A descriptor of the program that can be executed but never written
/// through, whoever gets hold of `/proc/<pid>/exe`.
///
/// SECURITY: a container that makes the runtime execute `/proc/self/exe`
/// could otherwise overwrite the host's binary (CVE-2019-5736). A private
/// read-only mount of the file, attached nowhere, stands between; before
/// KERNEL(5.12) a sealed copy in memory does.
///
/// # Errors
/// As open_tree(2), or memfd_create(2) and copying.
pub fn protect_program(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    match read_only_view(program) {
        Ok(view) => Ok(view),
        Err(_) => sealed_copy(program),
    }
}

fn read_only_view(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    use crate::mount::{AttrChange, Depth, MOUNT_ATTR_RDONLY, clone_tree, set_attr};
    let view = clone_tree(program, c"", Depth::Top)?;
    set_attr(
        &view,
        Depth::Top,
        AttrChange {
            set: u64::from(MOUNT_ATTR_RDONLY),
            ..AttrChange::default()
        },
    )?;
    Ok(view)
}

fn sealed_copy(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let source = rustix::fs::open(
        crate::fd::proc_path(program),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let copy = memfd_create(c"program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut left = usize::try_from(rustix::fs::fstat(&source)?.st_size).map_err(|_| Errno::FBIG)?;
    while left > 0 {
        match rustix::fs::sendfile(&copy, &source, None, left)? {
            0 => return Err(Errno::IO),
            sent => left -= sent.min(left),
        }
    }
    fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy)
}

/// Executes this process's own binary again from a protected descriptor,
/// with the same arguments and environment. Does nothing when it already
/// runs from a read-only mount, or when neither protection can be had.
///
/// # Errors
/// As execveat(2).
pub fn reexecute_protected() -> Result<()> {
    use std::os::unix::ffi::OsStringExt;
    const MARK: &str = "_WHARF_PROTECTED";
    if is_binary_read_only() || std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let own = rustix::fs::openat(CWD, c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let Ok(program) = protect_program(own.as_fd()) else {
        return Ok(());
    };
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| Errno::INVAL);
    let args = std::env::args_os()
        .map(|arg| text(arg.into_vec()))
        .collect::<Result<Vec<_>>>()?;
    let mut env = std::env::vars_os()
        .map(|(name, value)| text([name.into_vec(), b"=".to_vec(), value.into_vec()].concat()))
        .collect::<Result<Vec<_>>>()?;
    env.push(text(format!("{MARK}=1").into_bytes())?);
    Err(fexecve(program, &args, &env))
}
