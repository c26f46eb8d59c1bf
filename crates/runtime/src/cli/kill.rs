//! `kill`.

use super::global::Global;
use super::store::{Entry, Record};
use super::{Call, argument, pattern, required_id, system, text, usage};
use crate::{ErrorKind, RuntimeError};
use lexopt::Arg::{Long, Short, Value};

/// `kill [--all] [--regex] ID [SIGNAL]`.
pub(super) fn kill(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut all, mut is_pattern, mut id, mut signal) = (false, false, None, None);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("all") | Short('a') => all = true,
            Long("regex") | Short('r') => is_pattern = true,
            Value(value) if id.is_none() => id = Some(text(value)?),
            Value(value) if signal.is_none() => signal = Some(text(value)?),
            other => return Err(argument(other.unexpected())),
        }
    }
    let id = required_id(id)?;
    let signal = signal.unwrap_or_else(|| "TERM".to_owned());
    let number = wharf_sys::signal::parse_signal(&signal).ok_or_else(|| usage(format!("unknown signal {signal:?}")))?;
    if is_pattern {
        return pattern::for_each(&call.global, &id, |id| kill_one(&call.global, id, number, all));
    }
    kill_one(&call.global, &id, number, all).map(|()| 0)
}

fn kill_one(global: &Global, id: &str, number: i32, all: bool) -> Result<(), RuntimeError> {
    let entry = Entry::open(global, id)?;
    let record = entry.load()?;
    let own_pids = entry
        .load_spec()?
        .linux()
        .namespaces
        .iter()
        .any(|ns| ns.kind == crate::spec::NamespaceKind::Pid);
    // Without a pid namespace nothing ends the others when init is killed.
    if all || (number == 9 && !own_pids) {
        return kill_group(&record, number);
    }
    let Some(pidfd) = record.open_pidfd()? else {
        return Err(not_running(id));
    };
    wharf_sys::signal::send(&pidfd, number).map_err(|errno| system(format!("signal container {id}"), errno))?;
    thaw_for_kill(&record, number)
}

fn not_running(id: &str) -> RuntimeError {
    // COMPAT: containerd's shim takes the first three words for "already finished".
    RuntimeError::new(ErrorKind::Conflict, "kill", format!("container not running: {id}"))
}

fn kill_group(record: &Record, number: i32) -> Result<(), RuntimeError> {
    let Some(group) = record.open_cgroup()? else {
        return if record.is_alive() {
            Err(not_running(&record.id))
        } else {
            Ok(())
        };
    };
    let done = if number == 9 {
        group.kill()
    } else {
        group.signal(number)
    };
    done.map_err(|error| crate::cgroups::failed("kill", &error))
}

/// A frozen process on cgroup v1 dies only when it is thawed.
fn thaw_for_kill(record: &Record, number: i32) -> Result<(), RuntimeError> {
    if number != 9 {
        return Ok(());
    }
    match record.open_cgroup()? {
        Some(group) if group.is_frozen().unwrap_or(false) => {
            group.thaw().map_err(|error| crate::cgroups::failed("kill", &error))
        }
        _ => Ok(()),
    }
}
