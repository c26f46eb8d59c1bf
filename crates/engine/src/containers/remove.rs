//! Removing a container: record, directory, anonymous volumes. Every step may be repeated.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::blocking::blocking;
use super::paths::{Places, cgroup_path, containers_dir};
use super::start::{self, Namespace};
use crate::Shared;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::model::requests::RemoveOptions;
use crate::model::{ContainerRecord, EventKind, NetworkMode};
use crate::operations::{self, OperationKind};
use crate::volumes::{Giving, VolumeService};

/// Whether the next engine knows by the record alone that the container is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It ended, and was made to go when it ends.
    ByRecord,
    /// Only a row in the journal tells.
    ByJournal,
}

/// Whether a removal waits for the deletion of files that nobody can see any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// A moment: who asked for the removal finds the space free, unless there is much to delete.
    Awaited,
    /// Not at all: the container goes because it ended.
    Behind,
}

/// How long an awaited deletion is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a container that does not run still has of its network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum NetworkLeft {
    /// Perhaps all of it.
    #[default]
    Perhaps,
    /// Its end took it all back.
    Nothing,
}

/// How a removal comes about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) deletion: Deletion,
    pub(super) known: Known,
    pub(super) network: NetworkLeft,
}

/// Removes a container that does not run. When it fails, it can be asked for again.
pub(super) async fn remove(
    shared: &Arc<Shared>,
    record: &mut ContainerRecord,
    options: RemoveOptions,
    circumstances: Circumstances,
) -> Result<()> {
    let Circumstances {
        deletion,
        known,
        network,
    } = circumstances;
    let id = record.id.clone();
    if known == Known::ByJournal {
        let args = serde_json::json!({ "volumes": options.volumes });
        operations::journal(shared, OperationKind::Remove, id.as_str(), args).await?;
    }
    operations::step("journalled");
    if network == NetworkLeft::Perhaps {
        start::release_network(shared, record, Namespace::Remove).await?;
    }
    operations::step("disconnected");
    let giving = match (deletion, options.force) {
        (Deletion::Behind, _) => Giving::Behind,
        (Deletion::Awaited, true) => Giving::Forced,
        (Deletion::Awaited, false) => Giving::Awaited,
    };
    match start::release_mounts(shared, record, giving).await {
        // Nobody asked who could be told. What a plugin has mounted is given back without the container, too.
        Err(error) if deletion == Deletion::Behind => report(record, &error),
        done => done?,
    }
    operations::step("unmounted");
    let gone = move_away(shared, record).await?;
    operations::step("moved");
    if options.volumes {
        remove_anonymous_volumes(shared, record).await;
        operations::step("volumes");
    }
    // ORDER: the record goes last, so that what is left of a killed removal is still known.
    shared.db.call(move |db| db.delete_container_ending(&id)).await?;
    operations::step("forgotten");
    delete_moved(gone, deletion).await;
    Ok(())
}

/// Whether another container uses this one's network namespace.
pub(super) fn is_joined(shared: &Shared, record: &ContainerRecord) -> bool {
    shared.containers.dependent().iter().any(|handle| {
        let other = handle.record();
        other.state.is_running()
            && matches!(other.host.network(), NetworkMode::Container(name) if name == record.id.as_str())
    })
}

/// Renames the directory to a name that only says that it is to be deleted.
async fn move_away(shared: &Arc<Shared>, record: &ContainerRecord) -> Result<std::path::PathBuf> {
    let dir = Places::of(&shared.config, &record.id).dir;
    let gone = containers_dir(&shared.config).join(format!(".gone-{}", record.id));
    let cgroup = cgroup_path(&shared.config, record);
    let shim = Places::of(&shared.config, &record.id).shim;
    let (id, runtime) = (record.id.to_string(), record.host.runtime.clone());
    let shared = Arc::clone(shared);
    blocking("moving the container's directory away", move || {
        if let Err(error) = wharf_cgroup::Cgroup::delete_tree(&shared.hierarchy, &cgroup, Duration::from_secs(2)) {
            tracing::debug!("cgroup {cgroup}: {error}");
        }
        let _ = std::fs::remove_dir_all(shim); // usually gone already
        crate::runtimes::forget(&shared.config, &runtime, &id);
        match std::fs::rename(&dir, &gone) {
            Ok(()) => Ok(gone),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(gone),
            Err(e) => Err(e).internal(|| format!("move {} away", dir.display())),
        }
    })
    .await
}

/// Deletes what was moved away. A large tree is deleted in the background; what a killed
/// engine leaves of it is deleted at the next start.
async fn delete_moved(gone: std::path::PathBuf, deletion: Deletion) {
    let task = tokio::task::spawn_blocking(move || delete_tree(&gone));
    if deletion == Deletion::Awaited {
        let _ = tokio::time::timeout(PATIENCE, task).await; // it goes on
    }
}

/// Deletes a directory tree; not there is fine.
pub(crate) fn delete_tree(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("delete {}: {e}", path.display());
        }
        _ => {}
    }
}

/// Volumes made for this container alone go with it, unless another container took them over.
async fn remove_anonymous_volumes(shared: &Arc<Shared>, record: &ContainerRecord) {
    for mount in record.mounts.iter().filter(|m| m.anonymous && !m.name.is_empty()) {
        let used_elsewhere = shared
            .containers
            .all()
            .iter()
            .any(|handle| handle.id != record.id && handle.record().mounts.iter().any(|m| m.name == mount.name));
        if used_elsewhere {
            continue;
        }
        let service = VolumeService::new(Arc::clone(shared));
        match service.discard(&mount.name, &mount.driver).await {
            Ok(()) => {
                let attributes = std::collections::BTreeMap::from([("driver".to_owned(), mount.driver.clone())]);
                shared
                    .events
                    .publish(EventKind::Volume, "destroy", mount.name.clone(), attributes);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => report(record, &error),
        }
    }
}

fn report(record: &ContainerRecord, error: &Error) {
    tracing::warn!(container = record.id.short(), "removed all the same: {}", error.chain());
}
