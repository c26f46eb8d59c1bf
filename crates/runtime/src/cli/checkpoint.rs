//! `checkpoint`.

use super::store::{Entry, Status};
use super::{Call, argument, criu_flags, delete, required_id, text};
use crate::criu::{self, Criu, Subject};
use crate::{ErrorKind, RuntimeError};
use lexopt::Arg::{Long, Value};

/// `checkpoint [OPTIONS] ID`: saves a container, and ends it unless told otherwise.
pub(super) fn checkpoint(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut options, mut id) = (criu_flags::defaults()?, None);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Value(value) if id.is_none() => id = Some(text(value)?),
            Long(name) => {
                let name = name.to_owned();
                if !criu_flags::take_dump(&mut options, &name, &mut call.parser)? {
                    return Err(super::usage(format!("unknown option --{name}")));
                }
            }
            other => return Err(argument(other.unexpected())),
        }
    }
    let id = required_id(id)?;
    let entry = Entry::open(&call.global, &id)?;
    let _lock = entry.lock()?;
    let record = entry.load()?;
    let status = entry.status(&record);
    if !matches!(status, Status::Running | Status::Paused) {
        let text = format!("container {id} cannot be checkpointed in the {} state", status.name());
        return Err(RuntimeError::new(ErrorKind::Conflict, "checkpoint", text));
    }
    let criu = Criu::find(call.global.criu.as_deref())?;
    let spec = entry.load_spec()?;
    let cgroup = record.open_cgroup()?;
    let subject = Subject {
        spec: &spec,
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        pid: record.pid,
        cgroup: cgroup.as_ref(),
    };
    criu::checkpoint(&criu, &subject, &options)?;
    if !options.leave_running && !options.pre_dump {
        delete::destroy(&call.global, &entry, &record)?;
    }
    Ok(0)
}
