//! `delete`.

use super::global::Global;
use super::store::{Entry, Record, Status};
use super::{Call, argument, log, pattern, required_id, system, text};
use crate::{ErrorKind, RuntimeError};
use lexopt::Arg::{Long, Short, Value};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Most have gone by then.
const SOON: Duration = Duration::from_millis(200);
/// How long a killed init may take to go.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
const CGROUP_DEADLINE: Duration = Duration::from_secs(10);
/// How long a forced deletion lets another command finish before it takes the container from it.
const PATIENCE: Duration = Duration::from_secs(2);

/// `delete [--force] [--regex] ID`.
pub(super) fn delete(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut force, mut is_pattern, mut id) = (false, false, None);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("force") | Short('f') => force = true,
            Long("regex") | Short('r') => is_pattern = true,
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(argument(other.unexpected())),
        }
    }
    let id = required_id(id)?;
    if is_pattern {
        return pattern::for_each(&call.global, &id, |id| delete_one(&call.global, id, force));
    }
    delete_one(&call.global, &id, force).map(|()| 0)
}

fn delete_one(global: &Global, id: &str, force: bool) -> Result<(), RuntimeError> {
    let outcome = Entry::open(global, id).and_then(|entry| match force {
        true => delete_by_force(global, &entry),
        false => delete_stopped(global, &entry),
    });
    match outcome {
        // Perhaps a command was killed that made or removed it.
        Err(error) if force && error.kind == ErrorKind::NotFound => match Entry::open(global, id) {
            Ok(entry) => entry.remove_remains(),
            Err(_) => Ok(()),
        },
        other => other,
    }
}

fn delete_stopped(global: &Global, entry: &Entry) -> Result<(), RuntimeError> {
    let _lock = entry.lock()?;
    let record = entry.load()?;
    match entry.status(&record) {
        // In a created one nothing of the user's runs yet.
        Status::Stopped | Status::Created => destroy(global, entry, &record),
        status @ (Status::Creating | Status::Running | Status::Paused) => {
            let text = format!(
                "cannot delete container {} that is not stopped: {}",
                record.id,
                status.name()
            );
            Err(RuntimeError::new(ErrorKind::Conflict, "delete", text))
        }
    }
}

/// Deletes it in whatever state it is, also that in which a killed creator left it.
fn delete_by_force(global: &Global, entry: &Entry) -> Result<(), RuntimeError> {
    let lock = lock_by_force(entry)?;
    match entry.load() {
        Ok(record) => destroy(global, entry, &record),
        // Nothing was made yet, and whoever began was killed.
        Err(_) if lock.is_some() => entry.remove(),
        Err(error) => Err(error),
    }
}

/// A command that hangs, as in a hook, loses the container: its init is
/// killed, so that it fails; one that even then does not end is not waited
/// for, and will find that the directory is no longer its own.
fn lock_by_force(entry: &Entry) -> Result<Option<OwnedFd>, RuntimeError> {
    if let Some(lock) = entry.lock_within(PATIENCE)? {
        return Ok(Some(lock));
    }
    if let Ok(record) = entry.load() {
        end_init(&record)?;
    }
    entry.lock_within(PATIENCE)
}

/// Ends what runs, removes what was made, and runs the poststop hooks. The
/// caller holds the lock.
pub(super) fn destroy(global: &Global, entry: &Entry, record: &Record) -> Result<(), RuntimeError> {
    end_init(record)?;
    let group = record.open_cgroup()?;
    if let Some(group) = &group {
        let _ = group.kill();
    }
    // ORDER: a unit that fails to stop is no reason to leave the rest.
    if let Some(Err(error)) = record.scope.as_ref().map(crate::Scope::stop) {
        log::warn(global, &error.message());
    }
    if let Some(group) = group {
        group
            .delete(CGROUP_DEADLINE)
            .map_err(|error| crate::cgroups::failed("delete", &error))?;
    }
    if let Some(class) = &record.resctrl {
        class.remove()?;
    }
    if let Some(root) = &record.host_root {
        root.detach()?;
    }
    let spec = entry.load_spec();
    entry.remove()?;
    if let Ok(spec) = spec
        && let Err(error) = crate::hooks::run_poststop(&spec, &record.id, &record.bundle)
    {
        log::warn(global, &error.message());
    }
    Ok(())
}

/// Waits until an init that ends by itself has ended, or some time has passed.
pub(super) fn await_end(record: &Record) -> Result<(), RuntimeError> {
    let failed = |errno| system(format!("wait for container {}", record.id), errno);
    match record.open_pidfd()? {
        Some(pidfd) => wharf_sys::handle::wait_ended(&pidfd, KILL_DEADLINE)
            .map(drop)
            .map_err(failed),
        None => Ok(()),
    }
}

/// Kills init, if there still is one, and waits until it is gone; reaping is its parent's.
fn end_init(record: &Record) -> Result<(), RuntimeError> {
    let failed = |errno| system(format!("kill container {}", record.id), errno);
    let Some(pidfd) = record.open_pidfd()? else {
        return Ok(());
    };
    match wharf_sys::signal::send(&pidfd, 9) {
        // It has just ended by itself; others may still be in the group.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(failed(errno)),
    }
    if let Some(group) = record.open_cgroup()? {
        group.kill().map_err(|error| crate::cgroups::failed("delete", &error))?;
    }
    let is_gone = |within| wharf_sys::handle::wait_ended(&pidfd, within).map_err(failed);
    if is_gone(SOON)? {
        return Ok(());
    }
    // Somebody may have moved it to a frozen group of theirs, where on
    // version 1 it cannot die; in ours, which is thawed, it can.
    if let Some(group) = record.open_cgroup()? {
        let _ = group.add(record.pid.unsigned_abs());
    }
    if !is_gone(KILL_DEADLINE)? {
        let text = format!("container {} did not end within 10 s of being killed", record.id);
        return Err(RuntimeError::new(ErrorKind::System, "delete", text));
    }
    Ok(())
}
