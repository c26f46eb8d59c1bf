//! Starting an engine: named steps from the lock to the recovered containers.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use wharf_cgroup::{Hierarchy, Version};
use wharf_net::{Desired, DesiredContainer, NamespaceRequest, Net, NetConfig};
use wharf_sys::failpoint;

use crate::builds::Builds;
use crate::config::Config;
use crate::containers::blocking::blocking;
use crate::containers::start::{BareMounts, capabilities_known, has_own_namespace, host_limits};
use crate::containers::{Registry, recovery};
use crate::db::Db;
use crate::error::{Context, Result};
use crate::events::EventBus;
use crate::model::{ContainerRecord, NetworkMode, Status, Timestamp};
use crate::networks::{NetworkTable, Networks};
use crate::operations::Operations;
use crate::registries::RegistryClient;
use crate::volumes::Plugged;
use crate::{Shared, quiet, reserve, root_lock};

/// Takes the lock, opens everything and brings the world and the records together.
pub(crate) async fn open(config: Config) -> Result<Arc<Shared>> {
    config.validate()?;
    let shared = blocking("opening the engine's data", move || open_all(config)).await?;
    failpoint::reach("recover/opened");
    let shared = Arc::new(shared);
    let builds = Builds::new(Arc::clone(&shared));
    blocking("clearing unfinished builds", move || builds.prepare()).await?;
    failpoint::reach("recover/builds");
    Networks::new(Arc::clone(&shared)).prepare().await?;
    failpoint::reach("recover/predefined");
    let records = shared.db.call(|db| db.containers()).await?;
    let (held, seen) = (Arc::clone(&shared), records.clone());
    let rebooted = blocking("reconciling the networks", move || {
        reconcile_networks(&held, &seen)?;
        failpoint::reach("recover/networks");
        note_boot(&held.config.run)
    })
    .await?;
    if let Err(error) = shared
        .db
        .call(move |db| db.run_begins(Timestamp::now(), rebooted))
        .await
    {
        tracing::warn!("{}", error.chain()); // a full disk is no reason not to run
    }
    failpoint::reach("recover/begun");
    recovery::recover(&shared, records, rebooted).await?;
    failpoint::reach("recover/done");
    tokio::spawn(quiet::give_back(Arc::downgrade(&shared)));
    shared.operations.worked().notify_one(); // starting was work
    Ok(shared)
}

fn open_all(config: Config) -> Result<Shared> {
    for dir in [&config.root, &config.run] {
        make_dir(dir, 0o711)?;
    }
    let lock = root_lock::take(&config.root)?;
    for dir in [
        config.root.join("containers"),
        config.run.join("shims"),
        config.run.join("shm"),
    ] {
        make_dir(&dir, 0o711)?;
        wharf_store::keep_apart(&dir);
    }
    let db = Db::open(&config.root.join("wharf.db"))?;
    let store = wharf_store::Store::open(&config.root)?;
    let volumes = wharf_volume::Volumes::open(&config.root)?;
    let net = Net::open(NetConfig {
        instance: config.instance.clone(),
        run: config.run.clone(),
        shim_binary: config.shim_binary.clone(),
    })?;
    let tunables = config.live.now();
    let registry = RegistryClient::new(&tunables.registries)?;
    let hierarchy = Hierarchy::probe().internal(|| "look at the host's cgroups".into())?;
    reserve::ensure(&tunables.reserve, &config.instance, &hierarchy);
    Ok(Shared {
        events: EventBus::open(&config.root.join("events"), config.event_history, &db)?,
        networks: NetworkTable::load(&db)?,
        plugged: Plugged::open(&tunables.plugins, &db)?,
        operations: Operations::new(tunables.operation_limits.clone()),
        bare: BareMounts::make(&config.run),
        host_limits: host_limits(&hierarchy),
        realtime: Default::default(),
        capabilities: capabilities_known(),
        containers: Registry::default(),
        net: Arc::new(net),
        config,
        db,
        store,
        registry,
        volumes,
        hierarchy,
        _lock: lock,
    })
}

fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .internal(|| format!("create {}", dir.display()))
}

/// Tells the network crate what should exist: all networks, the containers that were running when the last engine
/// ended, and those whose namespaces others are in.
fn reconcile_networks(shared: &Shared, records: &[ContainerRecord]) -> Result<()> {
    let ran = |r: &ContainerRecord| matches!(r.state.status, Status::Running | Status::Paused | Status::Restarting);
    let owner_of = |r: &ContainerRecord| match r.host.network() {
        NetworkMode::Container(owner) => Some(owner),
        _ => None,
    };
    let owners: BTreeSet<String> = records.iter().filter(|r| ran(r)).filter_map(owner_of).collect();
    let wanted = |r: &&ContainerRecord| has_own_namespace(r) && (ran(r) || owners.contains(r.id.as_str()));
    let containers = records.iter().filter(wanted).map(|r| DesiredContainer {
        namespace: NamespaceRequest {
            container_id: r.id.to_string(),
            upstream: r.upstream.clone(),
            ..NamespaceRequest::default()
        },
        // One that ended has none, though its record may not say so yet.
        endpoints: r
            .endpoints
            .values()
            .filter(|_| ran(r))
            .filter_map(|e| e.live.clone())
            .collect(),
        ports: r.published.iter().filter(|_| ran(r)).cloned().collect(),
    });
    let desired = Desired {
        networks: shared.networks.plans(),
        containers: containers.collect(),
    };
    let found = shared.net.reconcile(&desired)?;
    for name in found.removed {
        tracing::info!("removed a leftover of an earlier engine: {name}");
    }
    for name in found.plugged {
        tracing::info!("made again what was missing: {name}");
    }
    for (container, error) in found.ports_lost {
        tracing::warn!(container, "its published ports could not be taken again: {error}");
    }
    for container in found.lost {
        tracing::info!(container, "its network is gone; it is made anew with its next start");
    }
    Ok(())
}

/// Whether the machine was booted since an engine last ran on this run directory.
fn note_boot(run: &Path) -> Result<bool> {
    let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let path = run.join("boot-id");
    let before = std::fs::read_to_string(&path).ok();
    if before.as_deref() == Some(now.as_str()) {
        return Ok(false);
    }
    std::fs::write(&path, &now).internal(|| format!("write {}", path.display()))?;
    Ok(true)
}

impl Shared {
    /// Whether the host has cgroup v2 only.
    pub(crate) fn cgroup_v2(&self) -> bool {
        self.hierarchy.version() == Version::V2
    }
}
