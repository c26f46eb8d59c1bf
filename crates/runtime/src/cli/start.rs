//! `start`.

use super::store::{Entry, Status};
use super::{Call, create, delete, log, system};
use crate::channel::{Channel, Message};
use crate::{ErrorKind, RuntimeError};
use rustix::net::SocketType;

/// `start ID`: lets the program of a created container go.
pub(super) fn start(call: Call) -> Result<i32, RuntimeError> {
    let (global, id) = call.only_id()?;
    let entry = Entry::open(&global, &id)?;
    let _lock = entry.lock()?;
    let record = entry.load()?;
    let status = entry.status(&record);
    if status != Status::Created {
        let text = format!("cannot start container {id} in the {} state", status.name());
        return Err(RuntimeError::new(ErrorKind::Conflict, "start", text));
    }
    let path = entry.start_socket();
    let failed = |errno| system(format!("start container {id}"), errno);
    let channel = Channel::from_fd(create::connect(&path, SocketType::SEQPACKET).map_err(failed)?);
    // ORDER: from here on it is no longer `created`, whatever happens.
    rustix::fs::unlink(&path).map_err(failed)?;
    channel.send(&Message::Go).map_err(failed)?;
    if let Err(error) = crate::create::await_execution(&channel) {
        // It is stopped when we say that it failed (runtime.md#lifecycle).
        let _ = delete::await_end(&record);
        return Err(error);
    }
    let spec = entry.load_spec()?;
    if let Err(error) = crate::hooks::run_poststart(&spec, &id, record.pid, &record.bundle) {
        // runtime.md#lifecycle, since 1.3: stopped and destroyed at once. What
        // fails on that way is less than what made us go it.
        if let Err(further) = delete::destroy(&global, &entry, &record) {
            log::warn(&global, &further.message());
        }
        return Err(error);
    }
    Ok(0)
}
