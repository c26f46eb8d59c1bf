//! Sockets passed by systemd, as `sd_listen_fds(3)` describes: descriptors from 3 on, counted by
//! `LISTEN_FDS`, meant for the process `LISTEN_PID`.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first passed descriptor.
const FIRST: RawFd = 3;
/// More than anybody passes; bounds what a wild environment can make us claim.
const MOST: RawFd = 64;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the passed sockets; the first call gets them, further calls get none. They are closed
/// on exec from now on.
pub fn passed_sockets() -> Vec<OwnedFd> {
    let count = count_for(
        std::process::id(),
        std::env::var("LISTEN_PID").ok().as_deref(),
        std::env::var("LISTEN_FDS").ok().as_deref(),
    );
    if count == 0 || TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    (FIRST..FIRST + count).filter_map(adopt).collect()
}

fn adopt(fd: RawFd) -> Option<OwnedFd> {
    let flags = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    if !flags.to_string_lossy().starts_with("socket:") {
        return None;
    }
    // SAFETY: the descriptor is open (it was just found in /proc/self/fd), and by systemd's
    // contract it is ours; `TAKEN` makes sure that it is adopted once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(owned)
}

fn count_for(process: u32, pid: Option<&str>, fds: Option<&str>) -> RawFd {
    let for_us = pid.and_then(|pid| pid.parse::<u32>().ok()) == Some(process);
    let count = fds.and_then(|fds| fds.parse::<RawFd>().ok()).unwrap_or(0);
    if for_us { count.clamp(0, MOST) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_meant_for_this_process_count() {
        let check = |pid, fds, expected| assert_eq!(count_for(7, pid, fds), expected, "{pid:?} {fds:?}");
        check(Some("7"), Some("2"), 2);
        check(Some("8"), Some("2"), 0);
        check(None, Some("2"), 0);
        check(Some("7"), None, 0);
        check(Some("7"), Some("-1"), 0);
        check(Some("7"), Some("9999"), MOST);
        check(Some("x"), Some("2"), 0);
    }
}
