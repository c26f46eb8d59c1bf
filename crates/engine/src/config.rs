//! What an engine is started with, and which of it can change while it runs.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use wharf_shim::plan::HostView;

use crate::error::{Error, Result};
use crate::logging::LogDefaults;
use crate::operations::OperationKind;
use crate::registries::RegistrySettings;
use crate::runtimes::Runtimes;
use crate::volumes::PluginSettings;

/// What all containers together leave to the host. `None` is the product's default, 0 nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reserve {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Process ids.
    pub pids: Option<u64>,
    /// Processors' worth of time, fractions allowed.
    pub cpus: f64,
}

/// Parameters of one engine instance; nothing else is global.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data that outlives the machine's boot (`/var/lib/wharf`).
    pub root: PathBuf,
    /// Sockets, shims, namespaces (`/run/wharf`).
    pub run: PathBuf,
    /// Name in the kernel: cgroup parent, bridge, nft table.
    pub instance: String,
    /// The static `wharf-shim` binary.
    pub shim_binary: PathBuf,
    /// How much of the past `events` can show.
    pub event_history: crate::HistoryLimits,
    /// What can change while the engine runs.
    pub live: Live,
}

/// What can change while an engine runs ([`crate::Engine::reload`]); what is under way goes on with what it began with.
#[derive(Clone, Debug, PartialEq)]
pub struct Tunables {
    /// Registries: which may be spoken to over http or with unverified TLS, mirrors, how much at once.
    pub registries: RegistrySettings,
    /// Further runtimes by name, and the default one.
    pub runtimes: Runtimes,
    /// Process limit of containers that ask for none; -1 is unlimited.
    pub default_pids_limit: i64,
    /// What containers that do not say see of their machine's size.
    pub default_host_view: HostView,
    /// What containers leave to the host.
    pub reserve: Reserve,
    /// Log driver and limits of containers that choose none.
    pub logging: LogDefaults,
    /// Labels of the engine itself (`info`).
    pub labels: Vec<String>,
    /// Whether its own log tells details (`info`).
    pub debug: bool,
    /// Time limits of operations that differ from the product's.
    pub operation_limits: BTreeMap<OperationKind, Duration>,
    /// Volume plugins.
    pub plugins: PluginSettings,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            registries: RegistrySettings::default(),
            runtimes: Runtimes::default(),
            default_pids_limit: 4096,
            default_host_view: HostView::Host,
            reserve: Reserve::default(),
            logging: LogDefaults::default(),
            labels: Vec::new(),
            debug: false,
            operation_limits: BTreeMap::new(),
            plugins: PluginSettings::default(),
        }
    }
}

/// The present [`Tunables`]; readers take them as they are at that moment and keep them.
#[derive(Debug, Default)]
pub struct Live(RwLock<Arc<Tunables>>);

impl Live {
    /// Those of this moment.
    pub fn now(&self) -> Arc<Tunables> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All at once: no reader sees some old and some new ones.
    pub fn replace(&self, with: Tunables) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(with);
    }
}

impl Clone for Live {
    fn clone(&self) -> Self {
        Self(RwLock::new(self.now()))
    }
}

impl Config {
    /// A configuration with the product's defaults for everything but the places.
    pub fn new(
        root: impl Into<PathBuf>,
        run: impl Into<PathBuf>,
        instance: impl Into<String>,
        shim_binary: impl Into<PathBuf>,
    ) -> Self {
        Self {
            root: root.into(),
            run: run.into(),
            instance: instance.into(),
            shim_binary: shim_binary.into(),
            event_history: crate::HistoryLimits::default(),
            live: Live::default(),
        }
    }

    /// Refuses what cannot work, before anything is touched.
    pub fn validate(&self) -> Result<()> {
        let name_ok = !self.instance.is_empty()
            && self.instance.len() <= 14
            && self
                .instance
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && self.instance.as_bytes()[0].is_ascii_alphabetic();
        if !name_ok {
            return Err(Error::invalid(format!(
                "invalid instance name {:?}: 1 to 14 letters, digits, '-' or '_', a letter first",
                self.instance
            )));
        }
        for (what, path) in [("root", &self.root), ("run", &self.run)] {
            if !path.is_absolute() {
                return Err(Error::invalid(format!(
                    "the {what} directory must be an absolute path, not {}",
                    path.display()
                )));
            }
        }
        self.live.now().validate()
    }
}

impl Tunables {
    /// Refuses what cannot work, before anything is touched.
    pub fn validate(&self) -> Result<()> {
        self.logging.validate()?;
        self.registries.validate()?;
        crate::reserve::check(&self.reserve)
    }
}
