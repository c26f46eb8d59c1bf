//! Descriptors: closing ranges, placing them at fixed numbers, /proc/self/fd.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result, is_unavailable};
use linux_raw_sys::general::{
    __NR_close, __NR_close_range, __NR_dup3, __NR_fcntl, __NR_getdents64, __NR_ioctl, F_GETFD, FD_CLOEXEC,
};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Mark instead of close (linux/close_range.h).
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// Bytes (and bookkeeping) written to a socket that its peer has not taken yet (asm-generic/ioctls.h).
const TIOCOUTQ: usize = 0x5411;

/// How much of what was written to a unix socket its peer has not read yet; 0 is all of it.
///
/// # Errors
/// When `fd` is no socket.
pub fn unread_by_peer(fd: impl AsFd) -> Result<usize> {
    let mut count: std::ffi::c_int = 0;
    let args = [
        fd_arg(fd.as_fd().as_raw_fd()),
        TIOCOUTQ,
        (&raw mut count).addr(),
        0,
        0,
        0,
    ];
    // SAFETY: this ioctl writes one int, to a variable that outlives the call.
    unsafe { syscall(__NR_ioctl, args)? };
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Marks all descriptors from `first` on close-on-exec.
///
/// KERNEL(5.11): before, /proc/self/fd is walked.
///
/// # Errors
/// When neither way works.
pub fn set_cloexec_from(first: u32) -> Result<()> {
    // SAFETY: marks descriptors only; no memory is passed.
    let done = unsafe {
        syscall(
            __NR_close_range,
            [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0],
        )
    };
    match done {
        Ok(_) => Ok(()),
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => for_each_open(first, u32::MAX, mark_cloexec),
        Err(error) => Err(error),
    }
}

fn mark_cloexec(number: u32) {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    // SAFETY: numbers only; marking a descriptor frees nothing.
    let _ = unsafe { syscall(__NR_fcntl, [number as usize, F_SETFD, FD_CLOEXEC, 0, 0, 0]) };
}

/// Calls `act` for every open descriptor between two numbers, both included,
/// by a walk of /proc/self/fd. Takes no memory, so that it also serves between
/// a vfork and execve; the walk's own descriptor is left out.
fn for_each_open(first: u32, last: u32, act: impl Fn(u32)) -> Result<()> {
    const RECORD_LENGTH: usize = 16;
    const NAME: usize = 19;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    let own = directory.as_raw_fd();
    let mut records = [0u8; 2048];
    loop {
        let args = [fd_arg(own), records.as_mut_ptr() as usize, records.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most the length of `records`.
        let length = unsafe { syscall(__NR_getdents64, args)? };
        let mut rest = &records[..length.min(records.len())];
        if rest.is_empty() {
            return Ok(());
        }
        while let (Some(size), Some(name)) = (rest.get(RECORD_LENGTH..RECORD_LENGTH + 2), rest.get(NAME..)) {
            let number = name
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .fold(None, |all, byte| {
                    Some(all.unwrap_or(0u32).wrapping_mul(10) + u32::from(byte - b'0'))
                });
            if let Some(number) = number.filter(|number| (first..=last).contains(number))
                && i32::try_from(number) != Ok(own)
            {
                act(number);
            }
            let size = usize::from(u16::from_ne_bytes([size[0], size[1]]));
            rest = rest.get(size..).unwrap_or_default();
        }
    }
}

/// Takes over a descriptor inherited under a fixed number.
///
/// Returns none when nothing is open there. The caller asserts that the
/// number was handed to this process for it to own, once.
#[must_use]
pub fn take_inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed only to ask whether it is open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(fd).ok()?;
    // SAFETY: it is open, and by contract nobody else in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Borrows an inherited descriptor by its number, if it is open.
#[must_use]
pub fn borrow_inherited(number: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: inherited descriptors stay open unless someone takes them over.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(fd).ok().map(|_| fd)
}

/// Makes `target` a copy of `fd` that survives execve. What was open at
/// `target` is closed.
///
/// # Errors
/// As dup3(2).
pub fn place(fd: impl AsFd, target: RawFd) -> Result<()> {
    let fd = fd.as_fd();
    if fd.as_raw_fd() == target {
        return rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty());
    }
    let (from, to) = (crate::raw::fd_arg(fd.as_raw_fd()), crate::raw::fd_arg(target));
    // SAFETY: numbers only; called where a process arranges the descriptors
    // of a program it is about to execute, so no owner of `target` remains.
    unsafe { syscall(__NR_dup3, [from, to, 0, 0, 0, 0]) }.map(drop)
}

/// The path under which the kernel reaches what `fd` refers to.
#[must_use]
pub fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Closes all descriptors from `first` on, except those kept.
///
/// For a process about to execute a program: whatever owned them must not be
/// used, nor dropped in a way that matters, afterwards.
///
/// # Errors
/// When neither close_range(2) nor a walk of /proc/self/fd works.
pub fn close_from(first: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .collect();
    kept.sort_unstable();
    let mut start = first;
    for number in kept.into_iter().filter(|number| *number >= first) {
        if number > start {
            close_range(start, number - 1)?;
        }
        start = number + 1;
    }
    close_range(start, u32::MAX)
}

/// Closes those from `first` to below `end` that an execve would close, but
/// for `keep`: what is left was handed to this process on purpose.
///
/// # Errors
/// When one cannot be closed. The same holds for them as with [`close_from`].
pub fn close_own(first: u32, end: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    for number in first..end {
        let is_kept = keep.iter().any(|fd| fd.as_raw_fd().cast_unsigned() == number);
        if !is_kept && is_close_on_exec(number) {
            close_range(number, number)?;
        }
    }
    Ok(())
}

/// Whether the descriptor is open and goes away with an execve.
fn is_close_on_exec(number: u32) -> bool {
    let args = [number as usize, F_GETFD as usize, 0, 0, 0, 0];
    // SAFETY: asks for the flags of a number, which may be open or not.
    let flags = unsafe { syscall(__NR_fcntl, args) };
    flags.is_ok_and(|flags| flags & FD_CLOEXEC as usize != 0)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: by the contract of `close_from` nobody uses these any more.
    match unsafe { syscall(__NR_close_range, [first as usize, last as usize, 0, 0, 0, 0]) } {
        Ok(_) => Ok(()),
        // KERNEL(5.9)
        Err(errno) if is_unavailable(errno) => for_each_open(first, last, |number| {
            // SAFETY: as above.
            let _ = unsafe { syscall(__NR_close, [number as usize, 0, 0, 0, 0, 0]) };
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    #[test]
    fn the_walk_finds_every_open_descriptor_in_range() {
        // More than one answer of the kernel holds.
        let opened: Vec<_> = (0..300)
            .map(|_| rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open"))
            .collect();
        let numbers: BTreeSet<u32> = opened.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
        let found = Mutex::new(BTreeSet::new());
        let (first, last) = (*numbers.first().expect("one"), *numbers.last().expect("one"));
        for_each_open(first, last, |number| {
            found.lock().expect("a lock").insert(number);
        })
        .expect("walked");
        let found = found.into_inner().expect("a lock");
        assert!(numbers.is_subset(&found));
        assert!(found.iter().all(|number| (first..=last).contains(number)));
    }
}
