//! Handles of processes: descriptors that mean one process and never a later
//! one with its number.
//!
//! KERNEL(5.3): pidfds. Before, or where a filter forbids them, a handle is
//! the process's open directory in /proc: it answers ESRCH once the process
//! is gone, whoever has its number then. Such a one says nothing to poll(2):
//! see [`is_pollable`] and [`wait_ended`].

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result, is_unavailable};
use linux_raw_sys::general::__NR_pidfd_send_signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A handle of a process, close-on-exec. The number is the caller's: a
/// process that is not its child may already be another one.
///
/// KERNEL(6.15): before, EINVAL stands for a process that is just being reaped, and for the number
/// of a thread, which since is ENOENT.
///
/// # Errors
/// ESRCH when there is none.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(errno) if is_unavailable(errno) => open_directory(pid),
        Err(Errno::INVAL | Errno::NOENT) => Err(Errno::SRCH),
        other => other,
    }
}

/// Whether this kernel makes pidfds that poll(2) understands.
pub(crate) fn has_pidfds() -> bool {
    // No process has the largest number.
    let last = Pid::from_raw(i32::MAX);
    last.is_some_and(|pid| !matches!(pidfd_open(pid, PidfdFlags::empty()), Err(errno) if is_unavailable(errno)))
}

pub(crate) fn open_directory(pid: Pid) -> Result<OwnedFd> {
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Errno::SRCH,
        errno => errno,
    })
}

/// Whether the handle is ready to read once its process has ended.
#[must_use]
pub fn is_pollable(handle: impl AsFd) -> bool {
    !crate::path::is_procfs(handle)
}

/// The number of the process, in the pid namespace that /proc shows.
///
/// # Errors
/// ESRCH when it is gone.
pub fn pid(handle: impl AsFd) -> Result<Pid> {
    let handle = handle.as_fd();
    let number = if is_pollable(handle) {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd()));
        let info = info.map_err(|_| Errno::SRCH)?;
        info.lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .and_then(|text| text.trim().parse().ok())
    } else {
        let path = rustix::fs::readlink(crate::fd::proc_path(handle), Vec::new())?;
        path.to_str()
            .ok()
            .and_then(|path| path.rsplit('/').next()?.parse().ok())
    };
    // -1 and 0 stand for gone and for not visible.
    number
        .filter(|number| *number > 0)
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
}

/// Sends a signal by number (0 only asks).
///
/// KERNEL(5.1): before, by kill(2) right after the handle said that the
/// process is there, which is exact for children that are not reaped yet.
///
/// # Errors
/// ESRCH when the process is gone; as pidfd_send_signal(2).
pub fn send(handle: impl AsFd, number: i32) -> Result<()> {
    let handle = handle.as_fd();
    let args = [fd_arg(handle.as_raw_fd()), fd_arg(number), 0, 0, 0, 0];
    // SAFETY: no siginfo is passed.
    match unsafe { syscall(__NR_pidfd_send_signal, args) } {
        Err(errno) if is_unavailable(errno) || errno == Errno::BADF => {}
        other => return other.map(drop),
    }
    let pid = pid(handle)?;
    if !is_pollable(handle) && read_stat(handle).is_none() {
        return Err(Errno::SRCH);
    }
    let args = [fd_arg(pid.as_raw_nonzero().get()), fd_arg(number), 0, 0, 0, 0];
    // SAFETY: numbers only; `pid` is above zero, so one process is meant.
    unsafe { syscall(linux_raw_sys::general::__NR_kill, args) }.map(drop)
}

/// Waits for a child as waitid(2) does, by its handle.
///
/// KERNEL(5.4): before, by its number, which stays its own until it is reaped.
///
/// # Errors
/// As waitid(2).
pub fn wait(handle: impl AsFd, options: WaitIdOptions) -> Result<Option<WaitIdStatus>> {
    let handle = handle.as_fd();
    if is_pollable(handle) {
        match waitid(WaitId::PidFd(handle), options) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
            other => return other,
        }
    }
    waitid(WaitId::Pid(pid(handle)?), options)
}

/// Waits until the process has ended, child or not (reaped or not); false
/// when the time ran out first.
///
/// # Errors
/// As poll(2).
pub fn wait_ended(handle: impl AsFd, patience: Duration) -> Result<bool> {
    let handle = handle.as_fd();
    let end = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if !is_pollable(handle) {
            if has_ended(handle) {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(20));
            continue;
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::from_borrowed_fd(handle, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            other => return other.map(|count| count > 0),
        }
    }
}

/// Whether the process has ended, reaped or not.
#[must_use]
pub fn has_ended(handle: impl AsFd) -> bool {
    let handle = handle.as_fd();
    if is_pollable(handle) {
        return wait_ended(handle, Duration::ZERO).unwrap_or(false);
    }
    read_stat(handle).is_none_or(|stat| {
        let state = stat.rsplit_once(')').map_or("X", |(_, rest)| rest.trim_start());
        state.starts_with(['Z', 'X'])
    })
}

/// The process's `stat`; none when it is gone.
fn read_stat(directory: BorrowedFd<'_>) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, c"stat", flags, Mode::empty()).ok()?;
    let mut bytes = [0u8; 1024];
    let length = rustix::io::read(&file, &mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").spawn().expect("spawn");
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[test]
    fn the_number_of_a_thread_is_no_process() {
        std::thread::spawn(|| assert_eq!(open(rustix::thread::gettid()).err(), Some(Errno::SRCH)))
            .join()
            .expect("no handle of a thread");
    }

    #[test]
    fn both_kinds_of_handle_name_signal_and_await_a_process() {
        for (what, open) in [
            ("pidfd", open as fn(Pid) -> Result<OwnedFd>),
            ("directory", open_directory),
        ] {
            let (mut child, number) = sleeper();
            let handle = open(number).expect("a handle");
            assert_eq!(pid(&handle), Ok(number), "{what}");
            assert_eq!(send(&handle, 0), Ok(()), "{what}");
            assert_eq!(wait_ended(&handle, Duration::ZERO), Ok(false), "{what}");
            send(&handle, 9).expect("sent");
            assert_eq!(wait_ended(&handle, Duration::from_secs(60)), Ok(true), "{what}");
            let status = wait(&handle, WaitIdOptions::EXITED).expect("reaped").expect("ended");
            assert_eq!(status.terminating_signal(), Some(9), "{what}");
            assert_eq!(send(&handle, 9), Err(Errno::SRCH), "{what}");
            assert!(child.wait().is_err(), "{what}: reaped twice");
        }
    }

    #[test]
    fn there_is_no_handle_of_nobody() {
        let nobody = Pid::from_raw(i32::MAX).expect("a number");
        assert_eq!(open(nobody).map(drop), Err(Errno::SRCH));
        assert_eq!(open_directory(nobody).map(drop), Err(Errno::SRCH));
    }
}
