//! `pause` and `resume`.

use super::Call;
use super::store::{Entry, Status};
use crate::{Cgroup, ErrorKind, RuntimeError};
use wharf_cgroup::CgroupError;

/// `pause ID`.
pub(super) fn pause(call: Call) -> Result<i32, RuntimeError> {
    change(call, "pause", &[Status::Running, Status::Created], Cgroup::freeze)
}

/// `resume ID`.
pub(super) fn resume(call: Call) -> Result<i32, RuntimeError> {
    change(call, "resume", &[Status::Paused], Cgroup::thaw)
}

fn change(
    call: Call,
    verb: &str,
    from: &[Status],
    apply: fn(&Cgroup) -> Result<(), CgroupError>,
) -> Result<i32, RuntimeError> {
    let (global, id) = call.only_id()?;
    let entry = Entry::open(&global, &id)?;
    let _lock = entry.lock()?;
    let record = entry.load()?;
    let status = entry.status(&record);
    if !from.contains(&status) {
        let text = format!("cannot {verb} container {id} in the {} state", status.name());
        return Err(RuntimeError::new(ErrorKind::Conflict, verb, text));
    }
    apply(&record.require_cgroup()?).map_err(|error| crate::cgroups::failed(verb, &error))?;
    Ok(0)
}
