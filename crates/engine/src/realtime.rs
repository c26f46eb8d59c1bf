//! Real-time processor time of containers, which version 1 of cgroups hands down from group to group: the group of all
//! containers is given what those in it are to have.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wharf_cgroup::{Cgroup, CgroupError, Realtime};

use crate::Shared;
use crate::error::{Error, Result};
use crate::model::{ContainerRecord, Resources};

/// How long it may take until the group of a container that was promised something is there and is counted.
const BEING_MADE: Duration = Duration::from_secs(120);

/// What was promised lately: of containers that start at the same moment none sees the groups of the others.
#[derive(Debug, Default)]
pub(crate) struct Promises(Mutex<Vec<(Instant, Realtime)>>);

/// Sees to it that a container can have the time it asks for beside the others. What a parent of the user's choice has
/// is the user's affair.
pub(crate) fn ensure(shared: &Shared, record: &ContainerRecord, asked: &Resources) -> Result<()> {
    let parent = record.host.resources.cgroup_parent.trim_matches('/');
    if asked.cpu_realtime_runtime <= 0 || !parent.is_empty() {
        return Ok(());
    }
    let wanted = Realtime {
        child: record.id.to_string(),
        runtime_us: asked.cpu_realtime_runtime,
        period_us: u64::try_from(asked.cpu_realtime_period).ok().filter(|n| *n > 0),
    };
    Cgroup::create(&shared.hierarchy, &format!("/{}", shared.config.instance))
        .and_then(|group| shared.realtime.give(&group, wanted))
        .map_err(|error| {
            let message = format!("the host has not as much real-time processor time left for containers: {error}");
            Error::invalid(message).with_source(error)
        })
}

impl Promises {
    fn give(&self, group: &Cgroup, wanted: Realtime) -> Result<(), CgroupError> {
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        promised.retain(|(at, other)| at.elapsed() < BEING_MADE && other.child != wanted.child);
        let mut all: Vec<Realtime> = promised.iter().map(|(_, other)| other.clone()).collect();
        all.push(wanted.clone());
        // One that has ended meanwhile is counted for nothing: the last word is what the kernel counts.
        group
            .ensure_realtime(&all)
            .or_else(|_| group.ensure_realtime(std::slice::from_ref(&wanted)))?;
        promised.push((Instant::now(), wanted));
        Ok(())
    }
}
