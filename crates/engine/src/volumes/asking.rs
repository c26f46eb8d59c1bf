//! Asking plugins: how long who waits for them, what `wharf ops` shows meanwhile, and their failures in our words.
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use wharf_volume::plugin::{Driver, Patience, PluginDirs, PluginError, Plugins, default_plugin_dirs};

use super::held::Ledger;
use crate::Shared;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::operations::{self, Waiting};

/// How long a plugin that is needed may take to appear: it may be starting beside the engine.
const APPEARANCE: Duration = Duration::from_secs(15);

/// How long reads of one volume wait for its plugin.
const LOOK: Duration = Duration::from_secs(10);

/// How long reads wait that can do without.
const GLANCE: Duration = Duration::from_secs(2);

/// Where plugins are looked for, and how long they may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSettings {
    /// Directories of sockets and spec files.
    pub dirs: Vec<PathBuf>,
    /// Longest time of one request.
    pub deadline: Duration,
}

impl Default for PluginSettings {
    fn default() -> Self {
        Self {
            dirs: default_plugin_dirs(),
            deadline: Duration::from_secs(60),
        }
    }
}

/// The plugins of one engine, and what they have mounted for it.
#[derive(Debug)]
pub(crate) struct Plugged {
    pub(crate) plugins: Plugins,
    pub(super) ledger: Ledger,
    /// Longest time of one request, in seconds.
    deadline_s: AtomicU64,
    /// One lock per volume that is being made or removed.
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Plugged {
    /// Nothing is asked yet: an engine's start does not wait for plugins.
    pub(crate) fn open(settings: &PluginSettings, db: &Db) -> Result<Self> {
        Ok(Self {
            plugins: Plugins::new(PluginDirs(settings.dirs.clone())),
            ledger: Ledger::load(db.mounts()?),
            deadline_s: AtomicU64::new(settings.deadline.as_secs()),
            locks: Mutex::default(),
        })
    }

    /// Puts other settings in force; requests under way keep theirs.
    pub(crate) fn adjust(&self, settings: &PluginSettings) {
        self.plugins.look_in(PluginDirs(settings.dirs.clone()));
        self.deadline_s.store(settings.deadline.as_secs(), Ordering::Relaxed);
    }

    /// Longest time of one request.
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s.load(Ordering::Relaxed))
    }

    /// For what cannot be done without the plugin, which may not be there yet.
    pub(super) fn patient(&self) -> Patience {
        self.patience(self.deadline(), APPEARANCE.min(self.deadline()))
    }

    /// For what cannot be done without the plugin.
    pub(super) fn prompt(&self) -> Patience {
        self.patience(self.deadline(), Duration::ZERO)
    }

    /// For reads of one volume.
    pub(super) fn looking(&self) -> Patience {
        self.patience(LOOK, Duration::ZERO)
    }

    /// For reads that can do without.
    pub(super) fn glancing(&self) -> Patience {
        self.patience(GLANCE, Duration::ZERO)
    }

    fn patience(&self, answer: Duration, appearance: Duration) -> Patience {
        Patience {
            answer: answer.min(self.deadline()),
            appearance,
        }
    }

    /// Nobody else makes or removes the volume while this is held.
    pub(super) async fn lock(&self, volume: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(volume).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    locks.insert(volume.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        let _waiting = operations::waiting("another operation on the volume");
        lock.lock_owned().await
    }
}

/// The driver of this name. COMPAT: the words are Docker's.
pub(super) async fn driver(shared: &Shared, name: &str, patience: Patience) -> Result<Arc<Driver>> {
    let waiting = operations::waiting(format!("volume plugin {name}, request Plugin.Activate"));
    let found = shared.plugged.plugins.driver(name, patience).await;
    drop(waiting);
    found.map_err(|error| {
        let error = told(error);
        let message = format!("error looking up volume plugin {name}: {}", error.message());
        Error::new(error.kind(), message)
    })
}

/// Notes for `wharf ops` what is waited for.
pub(super) fn waiting(driver: &str, request: &str, volume: &str) -> Waiting {
    operations::waiting(format!("volume plugin {driver}, request {request} of volume {volume}"))
}

/// A plugin's failure as the engine's.
pub(super) fn told(error: PluginError) -> Error {
    let kind = match &error {
        PluginError::NotFound(_) => ErrorKind::NotFound,
        PluginError::Away { .. } | PluginError::Silent { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        let text = next.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = next.source();
    }
    Error::new(kind, message)
}
