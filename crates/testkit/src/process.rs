//! Killing what a test has to kill: by id, never by name, never everybody.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::process::Child;

/// Kills a process; gone already is fine.
///
/// # Panics
/// When `pid` is none.
pub fn kill(pid: u32) {
    let _ = kill_process(pid_of(pid), Signal::KILL);
}

/// Stops a process without ending it; [`resume`] lets it go on.
///
/// # Panics
/// When `pid` is none.
pub fn freeze(pid: u32) {
    let _ = kill_process(pid_of(pid), Signal::STOP);
}

/// Lets a frozen process go on.
///
/// # Panics
/// When `pid` is none.
pub fn resume(pid: u32) {
    let _ = kill_process(pid_of(pid), Signal::CONT);
}

/// Kills the process group that `leader` leads and waits for the leader's end.
///
/// # Panics
/// When the leader cannot be waited for.
pub fn kill_group(leader: &mut Child) {
    let _ = kill_process_group(pid_of(leader.id()), Signal::KILL);
    leader.wait().expect("the group's leader");
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn pid_of(pid: u32) -> Pid {
    // 1 would be init, and as a group everybody.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1);
    pid.and_then(Pid::from_raw).expect("the id of a process of the test")
}
