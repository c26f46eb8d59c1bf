//! `delete`.

use super::store::{Entry, Record, Status};
use super::{Call, argument, log, required_id, system, text};
use crate::{ErrorKind, RuntimeError};
use lexopt::Arg::{Long, Short, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::Duration;

/// How long a killed init may take to go.
const KILL_DEADLINE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
const CGROUP_DEADLINE: Duration = Duration::from_secs(10);

/// `delete [--force] ID`.
pub(super) fn delete(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut force, mut id) = (false, None);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("force") | Short('f') => force = true,
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(argument(other.unexpected())),
        }
    }
    let id = required_id(id)?;
    let entry = match Entry::open(&call.global, &id) {
        Err(error) if force && error.kind == ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let _lock = entry.lock()?;
    let record = match entry.load() {
        Ok(record) => record,
        // Left behind by a runtime that died while creating.
        Err(_) if force => return entry.remove().map(|()| 0),
        Err(error) => return Err(error),
    };
    let status = entry.status(&record);
    match status {
        Status::Stopped | Status::Creating => {}
        // Nothing of the user's runs yet.
        Status::Created => end_init(&record)?,
        Status::Running | Status::Paused if force => end_init(&record)?,
        Status::Running | Status::Paused => {
            let text = format!("cannot delete container {id} that is not stopped: {}", status.name());
            return Err(RuntimeError::new(ErrorKind::Conflict, "delete", text));
        }
    }
    if let Some(group) = record.open_cgroup()? {
        let _ = group.kill();
        group
            .delete(CGROUP_DEADLINE)
            .map_err(|error| crate::cgroups::failed("delete", &error))?;
    }
    if let Some(class) = &record.resctrl {
        class.remove()?;
    }
    let spec = entry.load_spec();
    entry.remove()?;
    if let Ok(spec) = spec
        && let Err(error) = crate::hooks::run_poststop(&spec, &id, &record.bundle)
    {
        log::warn(&call.global, &error.message());
    }
    Ok(0)
}

/// Kills init and waits until it is gone; reaping is its parent's.
fn end_init(record: &Record) -> Result<(), RuntimeError> {
    let failed = |errno| system(format!("kill container {}", record.id), errno);
    let Some(pidfd) = record.open_pidfd()? else {
        return Ok(());
    };
    wharf_sys::signal::send(&pidfd, 9).map_err(failed)?;
    if let Some(group) = record.open_cgroup()? {
        group.kill().map_err(|error| crate::cgroups::failed("delete", &error))?;
    }
    let mut ready = [PollFd::new(&pidfd, PollFlags::IN)];
    if poll(&mut ready, Some(&KILL_DEADLINE)).map_err(failed)? == 0 {
        let text = format!("container {} did not end within 10 s of being killed", record.id);
        return Err(RuntimeError::new(ErrorKind::System, "delete", text));
    }
    Ok(())
}
