//! Volumes: the service that callers use. Records and data are `wharf_volume`'s; who uses a
//! volume is known here, from the containers.
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

pub use wharf_volume::{NewVolume, Volume};
use wharf_volume::{VolumeError, Volumes};

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
        if !new.name.is_empty() {
            check_name(&new.name)?;
        }
        if !["", "local"].contains(&new.driver.as_str()) {
            return Err(Error::not_found(format!(
                "create {}: error looking up volume plugin {driver}: plugin {driver:?} not found",
                new.name,
                driver = new.driver
            )));
        }
        let (service, target) = (self.clone(), new.name.clone());
        let work = async move {
            let made = service.call(move |volumes| {
                let known = !new.name.is_empty() && volumes.inspect(&new.name).is_ok();
                Ok((volumes.create(new)?, !known))
            });
            let made = made.await;
            operations::step("made");
            made
        };
        let (volume, fresh) = self.operate(OperationKind::VolumeCreate, target, work).await?;
        if fresh {
            self.publish("create", &volume.name, &volume.driver);
        }
        Ok(volume)
    }

    /// One volume.
    pub async fn inspect(&self, name: &str) -> Result<Volume> {
        let name = name.to_owned();
        self.call(move |volumes| volumes.inspect(&name)).await
    }

    /// Volumes that match, by name.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Volume>> {
        filters.check_keys(&LIST_KEYS)?;
        let dangling = filters.flag("dangling")?;
        let used = self.references();
        let mut found = self.call(Volumes::list).await?;
        found.retain(|volume| {
            filters.match_pattern("name", &volume.name)
                && filters.match_exactly("driver", &volume.driver)
                && filters.match_labels(&volume.labels)
                && dangling.is_none_or(|wanted| wanted != used.contains_key(&volume.name))
        });
        Ok(found)
    }

    /// All volumes with their sizes and users.
    pub async fn usage(&self) -> Result<Vec<VolumeUsage>> {
        let used = self.references();
        self.call(move |volumes| {
            let mut all = Vec::new();
            for volume in volumes.list()? {
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
        let volume = match self.inspect(name).await {
            Err(error) if force && error.kind() == crate::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if let Some(users) = self.references().get(name) {
            return Err(Error::conflict(format!(
                "remove {name}: volume is in use - [{}]",
                users.join(", ")
            )));
        }
        let (service, gone) = (self.clone(), name.to_owned());
        let work = async move { service.call(move |volumes| volumes.remove(&gone)).await };
        match self.operate(OperationKind::VolumeRemove, name.to_owned(), work).await {
            Err(error) if force && error.kind() == crate::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        self.publish("destroy", name, &volume.driver);
        Ok(())
    }

    /// Removes volumes that no container names (filters `all`, `label`, `label!`).
    pub async fn prune(&self, filters: &Filters, scope: PruneScope) -> Result<PruneReport> {
        filters.check_keys(&PRUNE_KEYS)?;
        let all = filters.flag("all")?.unwrap_or(scope == PruneScope::All);
        let used = self.references();
        let mut report = PruneReport::default();
        for volume in self.call(Volumes::list).await? {
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

/// Docker's rule for names of local volumes, in its words.
fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        return Err(Error::invalid(
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    let first_ok = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first_ok && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_names_follow_docker_s_rule() {
        for good in ["ab", "a-b_c.d", "0a", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["a", "-ab", ".ab", "a/b", "a b", "../bad", "é1"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
