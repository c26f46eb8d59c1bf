//! Telling a process from a later one with the same number, and the files of a shim's directory.

use std::path::{Path, PathBuf};

/// Name of the control socket in a shim's directory.
pub const SOCKET: &str = "sock";
/// Name of the file with the shim's process id and start time.
pub const PID: &str = "pid";
/// Name of the file with the container's exit.
pub const EXIT: &str = "exit";
/// Name of the file that takes what the shim itself has to complain about.
pub const STDERR: &str = "stderr";

/// Number under which a new shim finds its directory.
pub const DIRECTORY_FD: i32 = 3;
/// Number under which a new shim finds its first connection to the engine.
pub const CONTROL_FD: i32 = 4;

/// Whether this may be the id of an exec: 1 to 128 letters, digits, `-` and `_`, so that it can be part of a name
/// wherever a runtime or another's shim puts it.
pub fn is_exec_id(id: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=128).contains(&id.len()) && id.bytes().all(is_fit)
}

/// The start time, in clock ticks since boot, from the text of `/proc/<pid>/stat`.
///
/// The command may hold blanks and parentheses, so fields are counted after the last one.
pub fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Start time of a process, if it lives.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let is_zombie = stat
        .rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
    if is_zombie { None } else { parse_start_ticks(&stat) }
}

/// The shim that keeps `dir`, if that very process still lives.
pub fn shim_pid(dir: &Path) -> Option<u32> {
    living(dir, PID)
}

fn living(dir: &Path, file: &str) -> Option<u32> {
    let text = std::fs::read_to_string(dir.join(file)).ok()?;
    let (pid, ticks) = text.trim().split_once(' ')?;
    let (pid, ticks): (u32, u64) = (pid.parse().ok()?, ticks.parse().ok()?);
    (start_ticks(pid)? == ticks).then_some(pid)
}

/// File with the process of another's shim that the shim of `dir` drives, in the form of [`PID`].
pub const FOREIGN: &str = "foreign";

/// Another's shim that the shim of `dir` drives, or drove when it was killed, if it still lives.
pub fn foreign_pid(dir: &Path) -> Option<u32> {
    living(dir, FOREIGN)
}

/// Path of a shim's socket that is short enough for the kernel, through an open directory.
pub fn socket_path(dir: std::os::fd::BorrowedFd<'_>, name: &str) -> PathBuf {
    PathBuf::from(wharf_sys::fd::proc_path(dir)).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_command_name() {
        let stat = "42 (a) b ) c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_start_ticks(stat), Some(987_654));
        assert_eq!(parse_start_ticks("garbage"), None);
    }

    #[test]
    fn this_process_has_a_start_time_and_a_dead_one_has_not() {
        assert!(start_ticks(std::process::id()).is_some());
        let mut child = std::process::Command::new("/bin/true").spawn().expect("a child");
        let pid = child.id();
        child.wait().expect("ended");
        assert_eq!(start_ticks(pid), None);
    }

    #[test]
    fn exec_ids_can_be_part_of_a_name() {
        assert!(is_exec_id("a1b2") && is_exec_id(&"f".repeat(128)));
        for id in ["", "../x", "a/b", "a.b", "a\0", &"f".repeat(129)] {
            assert!(!is_exec_id(id), "{id:?}");
        }
    }
}
