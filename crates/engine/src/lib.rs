//! The engine: containers and everything around them. It knows no HTTP and no wire format.
//!
//! ```text
//!  daemon, cri --> Engine --> containers/  one task per container owns its changes
//!                     |-----> images/ networks/ volumes/ system/   object services
//!                     |-----> db/        records and journal (SQLite)
//!                     `-----> events     bounded history, broadcast
//! ```
//! The engine holds nothing that a container needs: stdio, logs and exit status live in its
//! shim, its network namespace is pinned in the run directory. Killed at any instruction,
//! the next [`Engine::start`] reads the records, reconnects and completes or undoes.

pub mod builds;
pub mod config;
pub mod containers;
pub mod db;
pub mod error;
mod event_log;
pub mod events;
mod failures;
pub mod filters;
pub mod images;
pub mod logging;
pub mod model;
pub mod networks;
mod opening;
pub mod operations;
mod quiet;
mod realtime;
pub mod registries;
mod reload;
mod reserve;
mod reset;
mod root_lock;
pub mod runtimes;
pub mod spec;
pub mod system;
mod trace;
pub mod volumes;

use std::sync::Arc;

/// Sockets passed by the service manager, for whoever listens.
pub use wharf_sys::activation;

/// Images, layers and names on disk, as answers of the engine carry them.
pub use wharf_store as store;

/// What the engine tells of transfers, and the credentials it takes for them.
pub use wharf_registry as registry;

/// What is asked of the builder and what it tells.
pub use wharf_build as build;

/// What a container sees of its machine's size.
pub use wharf_shim::plan::HostView;

pub use config::{Config, Reserve, Tunables};
pub use containers::Containers;
pub use error::{Error, ErrorKind, Result};
pub use event_log::HistoryLimits;
pub use events::{EventBus, EventWatch};
pub use filters::Filters;
pub use images::Images;
pub use networks::Networks;
pub use quiet::{IDLE_THREAD, settle_process};
pub use registries::RegistrySettings;
pub use reset::reset;
pub use system::System;
pub use volumes::{PluginSettings, VolumeService};

use db::Db;

/// The file below the root that a running engine holds locked; it names its process.
pub const LOCK_FILE: &str = "engine.lock";

/// A running engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all services of one engine share.
pub struct Shared {
    /// What it was started with.
    pub config: Config,
    /// Its records.
    pub db: Db,
    /// Its events.
    pub events: EventBus,
    /// Images on disk.
    pub store: wharf_store::Store,
    /// Images elsewhere.
    pub(crate) registry: registries::RegistryClient,
    /// Volumes on disk.
    pub volumes: wharf_volume::Volumes,
    /// Volumes elsewhere.
    pub(crate) plugged: volumes::Plugged,
    /// Networks in the kernel.
    pub net: Arc<wharf_net::Net>,
    /// Published network records.
    pub networks: networks::NetworkTable,
    /// What is under way.
    pub operations: operations::Operations,
    /// All containers.
    pub(crate) containers: containers::Registry,
    /// The host's cgroups.
    pub(crate) hierarchy: wharf_cgroup::Hierarchy,
    /// Where containers' mounts begin.
    pub(crate) bare: containers::start::BareMounts,
    /// What limits can refer to.
    pub(crate) host_limits: containers::create::limits::HostLimits,
    /// Real-time time that containers were promised.
    pub(crate) realtime: realtime::Promises,
    /// Capabilities that can be handed on.
    pub(crate) capabilities: Vec<String>,
    /// The root's lock, held as long as the engine lives.
    _lock: std::os::fd::OwnedFd,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes the root's lock, opens everything, reconciles with shims and kernel, and returns
    /// as soon as requests can be answered. Fails when another engine owns the root.
    pub async fn start(config: Config) -> Result<Self> {
        Ok(Self {
            shared: opening::open(config).await?,
        })
    }

    /// Containers and their exec sessions.
    pub fn containers(&self) -> Containers {
        Containers::new(Arc::clone(&self.shared))
    }

    /// Images.
    pub fn images(&self) -> Images {
        Images::new(Arc::clone(&self.shared))
    }

    /// Builds of images.
    pub fn builds(&self) -> builds::Builds {
        builds::Builds::new(Arc::clone(&self.shared))
    }

    /// Networks.
    pub fn networks(&self) -> Networks {
        Networks::new(Arc::clone(&self.shared))
    }

    /// Volumes.
    pub fn volumes(&self) -> VolumeService {
        VolumeService::new(Arc::clone(&self.shared))
    }

    /// The engine itself: facts, disk usage.
    pub fn system(&self) -> System {
        System::new(Arc::clone(&self.shared))
    }

    /// Events, past (from `since`) and to come.
    pub async fn events(&self, since: Option<model::Timestamp>) -> Result<EventWatch> {
        self.shared.events.watch(since).await
    }

    /// What all services share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Tells that a request has been dealt with; memory is given back when none follows for a while.
    pub fn worked(&self) {
        self.shared.operations.worked().notify_one();
    }

    /// Ends background work and saves what is pending; containers go on.
    pub async fn shutdown(&self) {
        let events = self.shared.events.clone();
        if !tokio::task::spawn_blocking(move || events.flush())
            .await
            .unwrap_or(false)
        {
            tracing::warn!("the last events are not in the history: the disk does not take them");
        }
        if let Err(error) = self.shared.db.call(|db| db.run_ends(model::Timestamp::now())).await {
            tracing::warn!("{}", error.chain());
        }
    }
}
