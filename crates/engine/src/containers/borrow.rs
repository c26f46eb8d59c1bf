//! Looking into a stopped container where a plugin's volume covers the path: it is mounted for the look alone.
use std::path::Path;
use std::sync::Arc;

use super::rootfs::{self, clean};
use crate::Shared;
use crate::error::Result;
use crate::model::ContainerRecord;
use crate::volumes::{self, Hold};

/// The record with what covers `path` in reach, and what must be held while it is looked at.
///
/// COMPAT: Docker has all volumes of the container mounted for this, also those of a running one, which has them.
pub(super) async fn borrow(
    shared: &Arc<Shared>,
    record: Arc<ContainerRecord>,
    path: &Path,
) -> Result<(Arc<ContainerRecord>, Option<Hold>)> {
    if record.state.is_running() || record.mounts.iter().all(|mount| mount.plugin().is_none()) {
        return Ok((record, None));
    }
    let (path, _) = clean(path)?;
    let Some(cover) = rootfs::covering_mount(&record, &path) else {
        return Ok((record, None));
    };
    let Some(plugin) = cover.plugin() else {
        return Ok((record, None));
    };
    let hold = volumes::mount(shared, plugin, &cover.name, &format!("{}/cp", record.id)).await?;
    let destination = cover.destination.clone();
    let mut within_reach = ContainerRecord::clone(&record);
    for mount in within_reach.mounts.iter_mut().filter(|m| m.destination == destination) {
        mount.source = hold.path().to_string_lossy().into_owned();
    }
    Ok((Arc::new(within_reach), Some(hold)))
}
