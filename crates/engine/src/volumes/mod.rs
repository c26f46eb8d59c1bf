//! Volumes: the service that callers use. Records and data are `wharf_volume`'s; who uses a
//! volume is known here, from the containers.
//!
//! ```text
//!  mod.rs    what users ask for: local volumes at once, others by their drivers
//!  drivers   volumes of plugins: made, found, listed, removed
//!  held      what plugins have mounted for whom; taken back once, by this engine or the next
//!  asking    how long who waits for a plugin, and what is told meanwhile
//! ```
mod asking;
mod drivers;
mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use wharf_volume::LOCAL_DRIVER;
pub use wharf_volume::{NewVolume, Volume};
use wharf_volume::{VolumeError, Volumes};

pub(crate) use asking::Plugged;
pub use asking::PluginSettings;
pub(crate) use held::{Giving, Hold, MountRow, mount, release, release_behind, release_strangers};

use crate::Shared;
use crate::containers::Containers;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::model::requests::PruneReport;
use crate::model::{EventKind, MountKind};
use crate::operations::{self, OperationKind};

const LIST_KEYS: [&str; 4] = ["dangling", "driver", "label", "name"];
const PRUNE_KEYS: [&str; 3] = ["all", "label", "label!"];

/// What a prune takes when the caller does not say (`all`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneScope {
    /// Volumes that nobody named (API 1.42 and later).
    Anonymous,
    /// All that no container uses.
    All,
}

/// A volume with what it holds and who uses it.
#[derive(Clone, Debug)]
pub struct VolumeUsage {
    /// The volume.
    pub volume: Volume,
    /// Bytes of its files.
    pub size: u64,
    /// Containers that name it.
    pub references: usize,
}

/// Volumes, and what an operator should know of those that are missing or told from memory.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The volumes, by name.
    pub volumes: Vec<Volume>,
    /// Plugins that did not answer.
    pub warnings: Vec<String>,
    warned: BTreeSet<String>,
}

impl Listed {
    /// COMPAT: the words are Docker's.
    fn warn(&mut self, driver: &str, reason: &str) {
        self.warned.insert(driver.to_owned());
        self.warnings.push(format!("list {driver}: {reason}"));
    }
}

/// The volumes of an engine.
#[derive(Clone, Debug)]
pub struct VolumeService {
    shared: Arc<Shared>,
}

impl VolumeService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Creates a volume, or answers the one of this name that is there.
    pub async fn ensure(&self, new: NewVolume) -> Result<Volume> {
        let (service, target) = (self.clone(), new.name.clone());
        let work = async move {
            let made = service.make(new).await;
            operations::step("made");
            made
        };
        let (volume, fresh) = self.operate(OperationKind::VolumeCreate, target, work).await?;
        if fresh {
            self.publish("create", &volume.name, &volume.driver);
        }
        Ok(volume)
    }

    /// One volume; of a plugin's as the plugin sees it.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let missing = || Error::from(VolumeError::NotFound(name.to_owned()));
        match self.record(name).await? {
            Some(volume) if volume.is_local() => Ok(volume),
            Some(known) => match self.seen(known, self.shared.plugged.looking()).await {
                Ok(Some(volume)) => Ok(volume),
                Ok(None) => {
                    self.forget(name).await?;
                    Err(missing())
                }
                Err(error) => Err(Error::new(error.kind(), format!("get {name}: {}", error.message()))),
            },
            None => self.probe(name).await.ok_or_else(missing),
        }
    }

    /// Volumes that match, by name. Waits for no plugin that does not answer.
    pub async fn list(&self, filters: &Filters) -> Result<Listed> {
        filters.check_keys(&LIST_KEYS)?;
        let dangling = filters.flag("dangling")?;
        let used = self.references();
        let records = self.call(Volumes::list).await?;
        let is_wanted = |driver: &str| filters.match_exactly("driver", driver);
        let mut found = self.list_plugins(records.clone(), is_wanted).await;
        found.volumes.extend(records.into_iter().filter(Volume::is_local));
        found.volumes.retain(|volume| {
            filters.match_pattern("name", &volume.name)
                && is_wanted(&volume.driver)
                && filters.match_labels(&volume.labels)
                && dangling.is_none_or(|wanted| wanted != used.contains_key(&volume.name))
        });
        found.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The names of the drivers that volumes can be made with, as far as they have been asked.
    pub fn drivers(&self) -> Vec<String> {
        let mut names = self.shared.plugged.plugins.active();
        names.push(LOCAL_DRIVER.to_owned());
        names.sort();
        names
    }

    /// All local volumes with their sizes and users. COMPAT: what plugins hold is theirs to measure.
    pub async fn usage(&self) -> Result<Vec<VolumeUsage>> {
        let used = self.references();
        self.call(move |volumes| {
            let mut all = Vec::new();
            for volume in volumes.list()?.into_iter().filter(Volume::is_local) {
                let size = volumes.size(&volume.name)?;
                let references = used.get(&volume.name).map_or(0, Vec::len);
                all.push(VolumeUsage {
                    volume,
                    size,
                    references,
                });
            }
            Ok(all)
        })
        .await
    }

    /// Removes a volume that no container names. With `force` a missing one is fine.
    pub async fn remove(&self, name: &str, force: bool) -> Result<()> {
        let volume = match self.to_be_removed(name, force).await {
            Err(error) if force && error.kind() == crate::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if let Some(users) = self.references().get(name) {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let (service, gone) = (self.clone(), volume.clone());
        let work = async move {
            if !gone.is_local() {
                return service.remove_from_plugin(&gone, force).await;
            }
            service.call(move |volumes| volumes.remove(&gone.name)).await
        };
        match self.operate(OperationKind::VolumeRemove, name.to_owned(), work).await {
            Err(error) if force && error.kind() == crate::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        self.publish("destroy", name, &volume.driver);
        Ok(())
    }

    /// With `force` the record is enough: its plugin may be gone.
    async fn to_be_removed(&self, name: &str, force: bool) -> Result<Volume> {
        match self.record(name).await? {
            Some(known) if force => Ok(known),
            _ => self.inspect(name).await,
        }
    }

    /// Removes local volumes that no container names (filters `all`, `label`, `label!`). COMPAT: none of plugins.
    pub async fn prune(&self, filters: &Filters, scope: PruneScope) -> Result<PruneReport> {
        filters.check_keys(&PRUNE_KEYS)?;
        let all = filters.flag("all")?.unwrap_or(scope == PruneScope::All);
        let used = self.references();
        let mut report = PruneReport::default();
        let local = |volumes: &Volumes| Ok(volumes.list()?.into_iter().filter(Volume::is_local).collect());
        let local: Vec<Volume> = self.call(local).await?;
        for volume in local {
            let wanted = filters.match_labels(&volume.labels) && filters.match_unlabelled(&volume.labels);
            if used.contains_key(&volume.name) || !wanted || !(all || volume.anonymous) {
                continue;
            }
            let name = volume.name.clone();
            let size = self.call(move |volumes| volumes.size(&name)).await.unwrap_or(0);
            match self.remove(&volume.name, false).await {
                Ok(()) => {
                    report.space_reclaimed += size;
                    report.deleted.push(volume.name);
                }
                Err(error) => tracing::warn!(volume = volume.name, "not pruned: {}", error.chain()),
            }
        }
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), report.space_reclaimed.to_string())]);
        self.shared.events.publish(EventKind::Volume, "prune", "", reclaimed);
        Ok(report)
    }

    /// Ids of the containers that name a volume, running or not, by volume.
    fn references(&self) -> BTreeMap<String, Vec<String>> {
        let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in Containers::new(Arc::clone(&self.shared)).snapshots() {
            for mount in container.mounts.iter().filter(|m| m.kind == MountKind::Volume) {
                let users = used.entry(mount.name.clone()).or_default();
                if users.last().is_none_or(|last| last != container.id.as_str()) {
                    users.push(container.id.to_string());
                }
            }
        }
        used
    }

    /// Runs `work` as an operation, or as a part of the one that needs the volume.
    async fn operate<T: Send + 'static>(
        &self,
        kind: OperationKind,
        target: String,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match operations::current() {
            Some(_) => work.await,
            None => self.shared.operations.run(kind, target, work).await,
        }
    }

    /// Runs an operation on disk on a thread where blocking is allowed.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Volumes) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T> {
        let _waiting = operations::waiting("the volumes on disk");
        let volumes = self.shared.volumes.clone();
        match tokio::task::spawn_blocking(move || work(&volumes)).await {
            Ok(result) => result.map_err(Error::from),
            Err(join) => Err(Error::internal("a volume operation was interrupted").with_source(join)),
        }
    }

    fn publish(&self, action: &str, name: &str, driver: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), driver.to_owned())]);
        self.shared.events.publish(EventKind::Volume, action, name, attributes);
    }
}
