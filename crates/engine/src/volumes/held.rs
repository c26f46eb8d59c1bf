//! What plugins have mounted for whom, so that each mount is taken back once, by this engine or by a later one.
//!
//! ```text
//!  row committed --> Mount --> in use --> Unmount, until the plugin has answered --> row deleted
//!                      `-- refused: row deleted       (a task of its own; asked again when there is no answer)
//!                      `-- no answer: in doubt, so it is unmounted
//! ```
//! A row outlives the engine. The next one keeps those of containers that run and takes back all others. Who needs
//! the end of a mount (rm, the next start) waits for it and is told what it is stuck on; nobody else does.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use wharf_volume::plugin::PluginError;

use super::asking::{self, told};
use crate::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::random_hex_id;
use crate::operations::{self, OperationKind};

/// Between two attempts to unmount; then twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the end of a run waits for its mounts before it leaves them to the background.
const MOMENT: Duration = Duration::from_secs(3);

/// A mount that a plugin may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRow {
    /// What the plugin knows it by.
    pub(crate) id: String,
    /// The plugin.
    pub(crate) driver: String,
    /// The volume.
    pub(crate) volume: String,
    /// The container that uses it; with a suffix for what only looks into it.
    pub(crate) owner: String,
}

/// The mounts of one engine.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: Mutex<BTreeMap<String, Arc<Held>>>,
}

#[derive(Debug)]
struct Held {
    row: MountRow,
    ending: AtomicBool,
    nudge: Notify,
    outcome: watch::Sender<Outcome>,
}

/// How the end of a mount goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing has come of it yet.
    Open,
    /// The plugin could not be told; it is tried again.
    Failed {
        reason: String,
        /// There is nobody to tell.
        plugin_gone: bool,
    },
    /// It is over.
    Gone,
}

/// How long whoever gives mounts back waits for the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Giving {
    /// Until it has answered, or does not.
    Awaited,
    /// A moment; then it goes on in the background.
    Behind,
    /// Not at all: an engine that starts waits for no plugin.
    Unawaited,
    /// Awaited, but a plugin that is gone need not be told.
    Forced,
}

/// A mount in use; given back when this is dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct Hold {
    shared: Arc<Shared>,
    /// It may be dropped by a thread outside of the runtime.
    runtime: Handle,
    id: String,
    path: PathBuf,
    kept: bool,
}

impl Hold {
    /// Where the volume is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It stays until its owner gives it back.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.kept {
            end(&self.shared, &self.runtime, &self.id);
        }
    }
}

impl Ledger {
    /// The mounts that an earlier engine left.
    pub(crate) fn load(rows: Vec<MountRow>) -> Self {
        let held = rows.into_iter().map(|row| (row.id.clone(), Held::new(row)));
        Self {
            held: Mutex::new(held.collect()),
        }
    }

    fn of(&self, is_meant: impl Fn(&MountRow) -> bool) -> Vec<Arc<Held>> {
        self.lock()
            .values()
            .filter(|held| is_meant(&held.row))
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn new(row: MountRow) -> Arc<Self> {
        Arc::new(Self {
            row,
            ending: AtomicBool::new(false),
            nudge: Notify::new(),
            outcome: watch::Sender::new(Outcome::Open),
        })
    }
}

/// Has `volume` mounted by its plugin. Blocks nobody but whoever asks.
pub(crate) async fn mount(shared: &Arc<Shared>, driver: &str, volume: &str, owner: &str) -> Result<Hold> {
    let row = MountRow {
        id: random_hex_id(),
        driver: driver.to_owned(),
        volume: volume.to_owned(),
        owner: owner.to_owned(),
    };
    let failed = |error: PluginError| {
        let error = told(error);
        Error::new(
            error.kind(),
            format!("error while mounting volume '{volume}': {}", error.message()),
        )
    };
    let patience = shared.plugged.patient();
    let plugin = asking::driver(shared, driver, patience).await.map_err(|e| {
        let message = format!("error while mounting volume '{volume}': {}", e.message());
        Error::new(e.kind(), message)
    })?;
    // ORDER: the row is there before the plugin may have the mount, whatever becomes of this engine.
    let written = row.clone();
    shared.db.call(move |db| db.put_mount(&written)).await?;
    let id = row.id.clone();
    shared.plugged.ledger.lock().insert(id.clone(), Held::new(row));
    let mut hold = Hold {
        shared: Arc::clone(shared),
        runtime: Handle::current(),
        id,
        path: PathBuf::new(),
        kept: false,
    };
    let waiting = asking::waiting(driver, "VolumeDriver.Mount", volume);
    let mounted = plugin.mount(volume, &hold.id, patience).await;
    drop(waiting);
    match mounted {
        Ok(path) => {
            hold.path = path;
            Ok(hold)
        }
        Err(error) => {
            if !error.is_in_doubt() {
                hold.kept = true; // there is nothing to take back
                forget(shared, &hold.id).await;
            }
            Err(failed(error))
        }
    }
}

/// Gives back all mounts of an owner. Those that the plugin does not take back go on being tried.
pub(crate) async fn release(shared: &Arc<Shared>, owner: &str, giving: Giving) -> Result<()> {
    settle(shared, |row| row.owner == owner, giving).await
}

/// Gives back what is left of the mounts of a volume that nobody uses.
pub(crate) async fn release_volume(shared: &Arc<Shared>, driver: &str, volume: &str, giving: Giving) -> Result<()> {
    settle(shared, |row| row.driver == driver && row.volume == volume, giving).await
}

/// Gives back all mounts of an owner, and waits for nothing.
pub(crate) fn release_behind(shared: &Arc<Shared>, owner: &str) {
    for held in shared.plugged.ledger.of(|row| row.owner == owner) {
        end(shared, &Handle::current(), &held.row.id);
    }
}

/// Gives back the mounts of whoever is not among `owners`: what a killed engine left.
pub(crate) fn release_strangers(shared: &Arc<Shared>, is_known: impl Fn(&str) -> bool) {
    for held in shared.plugged.ledger.of(|row| !is_known(&row.owner)) {
        end(shared, &Handle::current(), &held.row.id);
    }
}

async fn settle(shared: &Arc<Shared>, is_meant: impl Fn(&MountRow) -> bool, giving: Giving) -> Result<()> {
    let held = shared.plugged.ledger.of(is_meant);
    let limit = match giving {
        Giving::Behind => MOMENT.min(shared.plugged.deadline()),
        Giving::Awaited | Giving::Forced => shared.plugged.deadline(),
        Giving::Unawaited => Duration::ZERO,
    };
    let until = tokio::time::Instant::now() + limit;
    // All are told at once: one that hangs costs no more than its own time.
    let waits: Vec<_> = held.iter().map(|held| (held, held.outcome.subscribe())).collect();
    for (held, _) in &waits {
        end(shared, &Handle::current(), &held.row.id);
    }
    let mut first = Ok(());
    if giving == Giving::Unawaited {
        return first;
    }
    for (held, mut outcome) in waits {
        let _waiting = asking::waiting(&held.row.driver, "VolumeDriver.Unmount", &held.row.volume);
        let changed = tokio::time::timeout_at(until, next_outcome(&mut outcome)).await;
        let (reason, plugin_gone) = match changed {
            Ok(Outcome::Gone) => continue,
            Ok(Outcome::Failed { reason, plugin_gone }) => (reason, plugin_gone),
            Ok(Outcome::Open) | Err(_) => (unanswered(&held.row, limit), false),
        };
        if giving == Giving::Forced && plugin_gone {
            tracing::warn!(
                volume = held.row.volume,
                "its plugin is gone and was not told of its unmount: {reason}"
            );
            forget(shared, &held.row.id).await;
            continue;
        }
        if first.is_ok() {
            let message = format!("volume {} is not unmounted: {reason}", held.row.volume);
            first = Err(Error::new(ErrorKind::Unavailable, message)
                .with_hint("it is tried again until the plugin answers; `wharf ops` shows it"));
        }
    }
    first
}

/// The outcome of an attempt that ends after the subscription, or that it is gone.
async fn next_outcome(outcome: &mut watch::Receiver<Outcome>) -> Outcome {
    if *outcome.borrow() == Outcome::Gone || outcome.changed().await.is_err() {
        return Outcome::Gone;
    }
    outcome.borrow_and_update().clone()
}

fn unanswered(row: &MountRow, limit: Duration) -> String {
    let (driver, seconds) = (&row.driver, limit.as_secs_f32());
    format!("plugin {driver:?} has not answered VolumeDriver.Unmount within {seconds} s")
}

/// Begins to take a mount back, or does it again at once.
fn end(shared: &Arc<Shared>, runtime: &Handle, id: &str) {
    let Some(held) = shared.plugged.ledger.lock().get(id).cloned() else {
        return;
    };
    if held.ending.swap(true, Ordering::SeqCst) {
        return held.nudge.notify_one();
    }
    // When the engine is ending nothing comes of it, and the next one finds the row.
    runtime.spawn(take_back(Arc::clone(shared), held));
}

async fn take_back(shared: Arc<Shared>, held: Arc<Held>) {
    let kind = OperationKind::VolumeUnmount;
    let operation = shared.operations.begin_until(kind, held.row.volume.clone(), None);
    operations::within(operation, async {
        operations::step("begun");
        let mut pause = FIRST_PAUSE;
        loop {
            match unmount(&shared, &held.row).await {
                Ok(()) => break,
                Err(error) if error.is_refusal() => {
                    tracing::warn!(
                        volume = held.row.volume,
                        plugin = held.row.driver,
                        "the plugin refused to unmount it: {error}"
                    );
                    break;
                }
                Err(error) => {
                    let plugin_gone = error.is_gone();
                    let reason = told(error).message().to_owned();
                    tracing::warn!(volume = held.row.volume, "not unmounted, it is tried again: {reason}");
                    held.outcome.send_replace(Outcome::Failed { reason, plugin_gone });
                }
            }
            let _ = tokio::time::timeout(pause, held.nudge.notified()).await; // either is a reason to go on
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !shared.plugged.ledger.lock().contains_key(&held.row.id) {
                return; // given up by force
            }
        }
        operations::step("unmounted");
        forget(&shared, &held.row.id).await;
    })
    .await;
}

async fn unmount(shared: &Arc<Shared>, row: &MountRow) -> Result<(), PluginError> {
    let patience = shared.plugged.prompt();
    let _waiting = asking::waiting(&row.driver, "VolumeDriver.Unmount", &row.volume);
    let driver = shared.plugged.plugins.driver(&row.driver, patience).await?;
    driver.unmount(&row.volume, &row.id, patience).await
}

async fn forget(shared: &Arc<Shared>, id: &str) {
    let gone = id.to_owned();
    if let Err(error) = shared.db.call(move |db| db.delete_mount(&gone)).await {
        // The next engine unmounts it once more.
        tracing::warn!("{}", error.chain());
    }
    let held = shared.plugged.ledger.lock().remove(id);
    if let Some(held) = held {
        held.outcome.send_replace(Outcome::Gone);
    }
}
