//! Signals: masks, dispositions, and reading them from a descriptor.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result};
use linux_raw_sys::general::{__NR_rt_sigaction, __NR_rt_sigprocmask, __NR_signalfd4};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// The kernel's set is eight bytes.
const SET_SIZE: usize = 8;
const LAST: i32 = 64;

pub use crate::handle::send;

/// A set of signals by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// No signal.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Every signal.
    #[must_use]
    pub const fn all() -> Self {
        Self(u64::MAX)
    }

    /// These signals; numbers outside 1 to 64 are left out.
    #[must_use]
    pub fn of(numbers: &[i32]) -> Self {
        Self(
            numbers
                .iter()
                .filter(|n| (1..=LAST).contains(*n))
                .fold(0, |bits, n| bits | 1 << (n - 1)),
        )
    }

    /// Whether the signal is in the set.
    #[must_use]
    pub fn contains(self, number: i32) -> bool {
        (1..=LAST).contains(&number) && self.0 & 1 << (number - 1) != 0
    }
}

#[derive(Clone, Copy)]
enum How {
    Block = 0,
    Unblock = 1,
    Set = 2,
}

fn change_mask(how: How, set: SignalSet) -> Result<SignalSet> {
    let mut old = 0u64;
    let args = [
        how as usize,
        std::ptr::from_ref(&set.0) as usize,
        std::ptr::from_mut(&mut old) as usize,
        SET_SIZE,
        0,
        0,
    ];
    // SAFETY: both pointers are to eight bytes that live across the call.
    unsafe { syscall(__NR_rt_sigprocmask, args)? };
    Ok(SignalSet(old))
}

/// Blocks these signals too; returns the mask before.
///
/// # Errors
/// Never in practice.
pub fn block(set: SignalSet) -> Result<SignalSet> {
    change_mask(How::Block, set)
}

/// Lets these signals through; returns the mask before.
///
/// # Errors
/// Never in practice.
pub fn unblock(set: SignalSet) -> Result<SignalSet> {
    change_mask(How::Unblock, set)
}

/// Replaces the mask; returns the one before.
///
/// # Errors
/// Never in practice.
pub fn set_mask(set: SignalSet) -> Result<SignalSet> {
    change_mask(How::Set, set)
}

/// Gives every signal its default effect, ignored ones included: execve
/// alone would keep those ignored.
pub fn reset_all() {
    for number in 1..=LAST {
        set_default(number);
    }
}

/// Gives one signal its default effect.
pub fn set_default(number: i32) {
    // Handler SIG_DFL, no flags, no restorer, empty mask.
    let action = [0usize; 4];
    let args = [fd_arg(number), action.as_ptr() as usize, 0, SET_SIZE, 0, 0];
    // SAFETY: `action` has the size of the kernel's sigaction and installs no
    // code. SIGKILL and SIGSTOP are refused, which changes nothing.
    let _ = unsafe { syscall(__NR_rt_sigaction, args) };
}

/// Gives the default effect to those signals that have a handler.
///
/// For a process that shares memory but no handlers with its maker.
pub(crate) fn reset_handlers() {
    for number in 1..=LAST {
        let mut action = [0usize; 4];
        let args = [fd_arg(number), 0, action.as_mut_ptr() as usize, SET_SIZE, 0, 0];
        // SAFETY: the kernel writes one sigaction of its own layout.
        let asked = unsafe { syscall(__NR_rt_sigaction, args) };
        // 0 is the default, 1 ignores.
        if asked.is_ok() && action[0] > 1 {
            set_default(number);
        }
    }
}

/// A descriptor that becomes readable when one of these (blocked) signals is
/// pending; close-on-exec and non-blocking.
///
/// # Errors
/// As signalfd(2).
pub fn open_signalfd(set: SignalSet) -> Result<OwnedFd> {
    const CLOEXEC_NONBLOCK: usize = 0o2_000_000 | 0o4_000;
    let args = [
        usize::MAX,
        std::ptr::from_ref(&set.0) as usize,
        SET_SIZE,
        CLOEXEC_NONBLOCK,
        0,
        0,
    ];
    // SAFETY: the pointer is to eight bytes; -1 asks for a new descriptor.
    let fd = unsafe { syscall(__NR_signalfd4, args)? };
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: new and ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of the next pending signal of a signalfd; none when there is
/// no more.
///
/// # Errors
/// As read(2).
pub fn read_signalfd(fd: impl AsFd) -> Result<Option<i32>> {
    let mut info = [0u8; 128];
    match rustix::io::read(fd, &mut info) {
        Ok(length) if length >= 4 => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of a signal by name, with or without `SIG`, or as digits;
/// real-time ones as `RTMIN+n` and `RTMAX-n`.
#[must_use]
pub fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse::<i32>().ok()?
        };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let offset = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('-')?.parse::<i32>().ok()?
        };
        return (0..=30).contains(&offset).then_some(LAST - offset);
    }
    let alias = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        "UNUSED" => "SYS",
        other => other,
    };
    NAMES
        .iter()
        .position(|known| *known == alias)
        .and_then(|index| i32::try_from(index + 1).ok())
}

/// Names of the signals from 1 on, without `SIG`.
pub const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_by_every_spelling() {
        let check = |text: &str, expected: Option<i32>| assert_eq!(parse_signal(text), expected, "{text}");
        check("9", Some(9));
        check("kill", Some(9));
        check("SIGKILL", Some(9));
        check("RTMIN+3", Some(37));
        check("SIGRTMAX-1", Some(63));
        check("RTMIN+31", None);
        check("65", None);
        check("-1", None);
        check("CLD", Some(17));
        check("NOPE", None);
    }
}
