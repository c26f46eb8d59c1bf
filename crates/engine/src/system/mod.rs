//! The engine itself: what it runs on, what it holds, how much disk that takes.
mod host;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use wharf_build::{BuildCache, CacheRecord};

use crate::Shared;
use crate::containers::Containers;
use crate::error::{Context, Result};
use crate::filters::Filters;
use crate::images::{ImageListed, Images, SharedSizes};
use crate::model::requests::{ContainerListed, ListContainers};
use crate::model::{EventKind, Status, Timestamp, ids::random_hex_id};
use crate::operations::OperationKind;
use crate::runtimes::{BUILTIN_RUNTIME, Runtime};
use crate::volumes::{VolumeService, VolumeUsage};

pub use host::HostFacts;
pub(crate) use host::has_apparmor;

/// What `info` tells.
#[derive(Clone, Debug)]
pub struct Info {
    /// Made once per root.
    pub id: String,
    /// Containers by state: running, paused, all others.
    pub containers: (usize, usize, usize),
    /// Number of images.
    pub images: usize,
    /// The machine.
    pub host: HostFacts,
    /// Where data lives.
    pub root: PathBuf,
    /// Runtimes by name; the built-in one has the shim's path.
    pub runtimes: BTreeMap<String, Runtime>,
    /// What a container gets that asks for none.
    pub default_runtime: String,
    /// Open descriptors of the engine.
    pub open_files: usize,
    /// Tasks of the engine at this moment.
    pub tasks: usize,
    /// Clients that watch events.
    pub watchers: usize,
    /// Registries without TLS: names and CIDR ranges.
    pub insecure_registries: Vec<String>,
    /// Addresses asked before Docker Hub.
    pub mirrors: Vec<String>,
    /// Whether the engine's own log tells details.
    pub debug: bool,
    /// Labels of the engine.
    pub labels: Vec<String>,
    /// Log driver of containers that choose none.
    pub logging_driver: String,
    /// Drivers of volumes: the engine's own, and plugins that have been asked.
    pub volume_drivers: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// Which kinds of objects a disk usage report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageScope {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// The build cache.
    pub build_cache: bool,
}

/// What takes how much disk. Kinds that were not asked for are `None`.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Bytes of content and layers.
    pub layers_size: Option<u64>,
    /// Images.
    pub images: Option<Vec<ImageListed>>,
    /// Containers, with sizes.
    pub containers: Option<Vec<ContainerListed>>,
    /// Volumes.
    pub volumes: Option<Vec<VolumeUsage>>,
    /// Records of the build cache.
    pub build_cache: Option<Vec<CacheRecord>>,
}

/// Filters of a prune of the build cache that clients may send; only `until` chooses anything.
const BUILD_KEYS: [&str; 9] = [
    "description",
    "id",
    "inuse",
    "parent",
    "private",
    "shared",
    "type",
    "until",
    "unused-for",
];

/// Facts about an engine.
#[derive(Clone, Debug)]
pub struct System {
    shared: Arc<Shared>,
}

impl System {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Everything `info` tells.
    pub async fn info(&self) -> Result<Info> {
        let images = Images::new(Arc::clone(&self.shared))
            .list(&Filters::default(), SharedSizes::Skip)
            .await?;
        let config = &self.shared.config;
        let root = config.root.clone();
        let (id, host, open_files) = tokio::task::spawn_blocking(move || -> Result<_> {
            Ok((engine_id(&root)?, HostFacts::probe(), open_files()))
        })
        .await
        .internal(|| "look at the machine".into())??;
        let live = config.live.now();
        let mut runtimes = live.runtimes.configured().clone();
        let (path, args) = (config.shim_binary.clone(), Vec::new());
        runtimes.insert(BUILTIN_RUNTIME.to_owned(), Runtime::Oci { path, args });
        Ok(Info {
            id,
            containers: self.count_containers(),
            images: images.len(),
            warnings: host.warnings(),
            host,
            root: config.root.clone(),
            runtimes,
            default_runtime: live.runtimes.default_name().to_owned(),
            open_files,
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            watchers: self.shared.events.watchers(),
            insecure_registries: live.registries.insecure.clone(),
            mirrors: live.registries.mirrors.clone(),
            debug: live.debug,
            labels: live.labels.clone(),
            logging_driver: live.logging.driver.clone(),
            volume_drivers: VolumeService::new(Arc::clone(&self.shared)).drivers(),
        })
    }

    /// What takes how much disk.
    pub async fn disk_usage(&self, scope: UsageScope) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if scope.images {
            let images = Images::new(Arc::clone(&self.shared));
            usage.layers_size = Some(images.disk_usage().await?);
            usage.images = Some(images.list(&Filters::default(), SharedSizes::Sum).await?);
        }
        if scope.containers {
            let query = ListContainers {
                all: true,
                size: true,
                ..ListContainers::default()
            };
            usage.containers = Some(Containers::new(Arc::clone(&self.shared)).list(query).await?);
        }
        if scope.volumes {
            usage.volumes = Some(VolumeService::new(Arc::clone(&self.shared)).usage().await?);
        }
        if scope.build_cache {
            usage.build_cache = Some(self.build_cache().await?);
        }
        Ok(usage)
    }

    /// Forgets what the build cache has not used since `before` (`None`: all of it); answers what
    /// was forgotten and the bytes freed.
    pub async fn prune_build_cache(&self, filters: &Filters) -> Result<(Vec<String>, u64)> {
        filters.check_keys(&BUILD_KEYS)?;
        let before = filters.until(Timestamp::now())?;
        let before = before.map(|time| UNIX_EPOCH + Duration::from_nanos(u64::try_from(time.as_nanos()).unwrap_or(0)));
        let store = self.shared.store.clone();
        let prune = move || -> Result<_> {
            let pruned = BuildCache::new(&store).prune(before)?;
            let collected = store.gc(wharf_store::GcScope::Unreferenced)?;
            Ok((pruned.ids, pruned.bytes.max(collected.bytes)))
        };
        let pruned = async move {
            let pruned = tokio::task::spawn_blocking(prune).await;
            pruned.internal(|| "prune the build cache".into())?
        };
        let operations = &self.shared.operations;
        let (ids, bytes) = operations.run(OperationKind::Prune, "build cache", pruned).await?;
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]);
        self.shared.events.publish(EventKind::Builder, "prune", "", reclaimed);
        Ok((ids, bytes))
    }

    async fn build_cache(&self) -> Result<Vec<CacheRecord>> {
        let store = self.shared.store.clone();
        tokio::task::spawn_blocking(move || Ok(BuildCache::new(&store).records()?))
            .await
            .internal(|| "read the build cache".into())?
    }

    fn count_containers(&self) -> (usize, usize, usize) {
        let snapshots = Containers::new(Arc::clone(&self.shared)).snapshots();
        let count = |status| snapshots.iter().filter(|c| c.state.status == status).count();
        let (running, paused) = (count(Status::Running), count(Status::Paused));
        (running, paused, snapshots.len() - running - paused)
    }
}

/// The engine's own id, written at its first use.
pub(crate) fn engine_id(root: &std::path::Path) -> Result<String> {
    let path = root.join("engine-id");
    if let Ok(id) = std::fs::read_to_string(&path)
        && !id.trim().is_empty()
    {
        return Ok(id.trim().to_owned());
    }
    let id = as_uuid(&random_hex_id());
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    std::fs::write(&fresh, &id).internal(|| format!("write {}", fresh.display()))?;
    // ORDER: a link fails when another request was faster, whose id then holds.
    let linked = std::fs::hard_link(&fresh, &path);
    let _ = std::fs::remove_file(&fresh);
    match linked {
        Ok(()) => Ok(id),
        Err(_) => {
            let text = std::fs::read_to_string(&path).internal(|| format!("read {}", path.display()))?;
            Ok(text.trim().to_owned())
        }
    }
}

fn as_uuid(hex: &str) -> String {
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_s_id_is_made_once() {
        let root = tempfile::tempdir().expect("folder");
        let first = engine_id(root.path()).expect("made");
        assert_eq!(first.len(), 36);
        assert_eq!(engine_id(root.path()).expect("read"), first);
        assert_eq!(std::fs::read_dir(root.path()).expect("list").count(), 1);
    }
}
