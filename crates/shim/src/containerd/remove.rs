//! `delete`: what containerd calls when a shim is gone, whatever is left of its container.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use wharf_cgroup::{Cgroup, Hierarchy};

use super::container::{Container, now_ns};
use super::invocation::Invocation;
use super::mounts;
use crate::task_api::messages::{DeleteResponse, Timestamp};
use crate::task_api::proto::Message as _;

/// How long killed processes may take to be gone.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a process has that was killed with SIGKILL.
const KILLED: u32 = 128 + 9;

/// Ends and removes the container, and prints how it ended.
pub(super) fn delete(invocation: &Invocation) -> Result<(), String> {
    let bundle = match &invocation.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().map_err(|error| format!("find the working directory: {error}"))?,
    };
    let pid = kill_init(&bundle);
    let removed = remove_cgroup(&bundle);
    mounts::unmount_all(&Container::root_of(&bundle));
    super::start::remove_stale_socket(invocation, &bundle);
    let response = DeleteResponse {
        pid: pid.unwrap_or(0),
        exit_status: KILLED,
        exited_at: Some(Timestamp::from_ns(now_ns())),
    };
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(&response.encode()).and_then(|()| stdout.flush());
    printed.map_err(|error| format!("print the answer: {error}"))?;
    removed
}

/// SECURITY: the number may be another process's by now; it is killed only as a member of the container's cgroup.
fn kill_init(bundle: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(bundle.join("init.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let path = cgroup_path(bundle)?;
    let cgroup = Cgroup::open(&Hierarchy::probe().ok()?, &path).ok()?;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    if cgroup.pids().is_ok_and(|pids| pids.contains(&pid)) {
        let _ = rustix::process::kill_process(raw, Signal::KILL);
    }
    Some(pid)
}

/// The container's cgroup, as its configuration names it; a scope of systemd's ends with its last process.
fn cgroup_path(bundle: &Path) -> Option<String> {
    let spec = crate::server::read_spec(bundle).ok()?;
    let path = spec.linux.and_then(|linux| linux.cgroups_path)?;
    let is_plain = path.starts_with('/') && !path.trim_matches('/').is_empty();
    is_plain.then_some(path)
}

fn remove_cgroup(bundle: &Path) -> Result<(), String> {
    let Some(path) = cgroup_path(bundle) else { return Ok(()) };
    let hierarchy = Hierarchy::probe().map_err(|error| error.to_string())?;
    if let Ok(cgroup) = Cgroup::open(&hierarchy, &path) {
        // What cannot be killed shows in the deletion.
        let _ = cgroup.thaw();
        let _ = cgroup.kill();
    }
    Cgroup::delete_tree(&hierarchy, &path, DEADLINE).map_err(|error| format!("cgroup {path}: {error}"))
}
