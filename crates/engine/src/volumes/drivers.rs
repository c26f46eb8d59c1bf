//! Volumes whose drivers are plugins: made, found, listed and removed.
//!
//! The plugin knows which volumes there are; the engine's record adds labels, options and who nobody named. A record is
//! written before the plugin is asked for its volume, so that what a plugin made for us is always known; one that the
//! plugin knows nothing of is forgotten when it is noticed.
//! COMPAT: rules and words are those of Docker's volume store.
use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use wharf_volume::plugin::{Driver, Patience, PluginVolume, Scope};
use wharf_volume::{LOCAL_DRIVER, NewVolume, Volume};

use super::asking::{self, told};
use super::held::{self, Giving};
use super::{Listed, VolumeService};
use crate::error::{Error, ErrorKind, Result};

/// A volume, and whether it was made just now.
pub(super) type Made = (Volume, bool);

/// When a plugin does not say when a volume was made. COMPAT: Docker's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl VolumeService {
    /// Makes a volume where it is asked for, or finds the one of this name.
    pub(super) async fn make(&self, new: NewVolume) -> Result<Made> {
        let wants_local = matches!(new.driver.as_str(), "" | LOCAL_DRIVER);
        if new.name.is_empty() && wants_local {
            return self.make_local(new).await;
        }
        let new = match new.name.is_empty() {
            true => NewVolume {
                name: wharf_volume::random_name()?,
                anonymous: true,
                ..new
            },
            false => new,
        };
        let known = self.record(&new.name).await?;
        if let Some(volume) = known.filter(|known| known.is_local() && wants_local) {
            return Ok((volume, false));
        }
        let _alone = self.shared.plugged.lock(&new.name).await;
        if let Some(known) = self.record(&new.name).await?
            && let Some(there) = self.still_there(known, &new.driver).await?
        {
            return Ok((there, false));
        }
        if new.driver.is_empty()
            && let Some(found) = self.probe(&new.name).await
        {
            return Ok((found, false));
        }
        match wants_local {
            true => self.make_local(new).await,
            false => self.make_in_plugin(new).await,
        }
    }

    async fn make_local(&self, new: NewVolume) -> Result<Made> {
        self.call(move |volumes| {
            let known = !new.name.is_empty() && volumes.inspect(&new.name).is_ok();
            Ok((volumes.create(new)?, !known))
        })
        .await
    }

    async fn make_in_plugin(&self, new: NewVolume) -> Result<Made> {
        let name = new.name.clone();
        let failed = |error: Error| Error::new(error.kind(), format!("create {name}: {}", error.message()));
        let patience = self.shared.plugged.prompt();
        let driver = asking::driver(&self.shared, &new.driver, patience)
            .await
            .map_err(failed)?;
        let waiting = asking::waiting(&new.driver, "VolumeDriver.Get", &name);
        let there = driver.volume(&name, patience).await.map_err(told).map_err(failed)?;
        drop(waiting);
        let volume = Volume::planned(new, name.clone());
        let note = volume.clone();
        // ORDER: the record first: what a plugin made for us must not be unknown to the next engine.
        self.call(move |volumes| volumes.note(&note)).await?;
        if let Some(seen) = there {
            return Ok((joined(volume, seen, driver.scope(patience).await), true));
        }
        let waiting = asking::waiting(driver.name(), "VolumeDriver.Create", &name);
        let made = driver.create(&name, &volume.options, patience).await;
        drop(waiting);
        if let Err(error) = made {
            self.forget(&name).await?;
            return Err(failed(told(error)));
        }
        let scope = driver.scope(self.shared.plugged.glancing()).await;
        Ok((Volume { scope, ..volume }, true))
    }

    /// What becomes of a record when a volume of its name is asked for: it is used, in the way, or out of date.
    async fn still_there(&self, known: Volume, wanted: &str) -> Result<Option<Volume>> {
        let (name, owner) = (known.name.clone(), known.driver.clone());
        let in_the_way = !wanted.is_empty() && wanted != owner;
        if in_the_way && wanted != LOCAL_DRIVER {
            let found = asking::driver(&self.shared, wanted, self.shared.plugged.prompt()).await;
            found.map_err(|e| Error::new(e.kind(), format!("create {name}: {}", e.message())))?;
        }
        let conflict = |reason: String| Error::conflict(format!("create {name}: {reason}: volume name must be unique"));
        let found = match known.is_local() {
            true => Ok(Some(known)),
            false => self.seen(known, self.shared.plugged.prompt()).await,
        };
        match found {
            Ok(Some(_)) if in_the_way => Err(conflict(format!("driver '{owner}' already has volume '{name}'"))),
            Ok(Some(volume)) => Ok(Some(volume)),
            Ok(None) if self.references().contains_key(&name) => Err(conflict(format!(
                "found references to volume '{name}' in driver '{owner}' but the volume was not found in the driver \
                 -- you may need to remove containers referencing this volume or force remove the volume to \
                 re-create it"
            ))),
            Ok(None) => {
                self.forget(&name).await?;
                Ok(None)
            }
            Err(error) => Err(conflict(format!(
                "found reference to volume '{name}' in driver '{owner}', but got an error while checking the driver: {}",
                error.message()
            ))
            .with_kind(match error.kind() {
                ErrorKind::Unavailable if !in_the_way => ErrorKind::Unavailable,
                _ => ErrorKind::Conflict,
            })),
        }
    }

    /// A recorded volume as its plugin sees it; `None` when that knows nothing of it.
    pub(super) async fn seen(&self, known: Volume, patience: Patience) -> Result<Option<Volume>> {
        let (name, owner) = (known.name.clone(), known.driver.clone());
        let failed = |error: Error| {
            let text = error.message();
            let message = format!("error while checking if volume {name:?} exists in driver {owner:?}: {text}");
            // COMPAT: a plugin that is not there is no missing volume.
            let kind = match error.kind() {
                ErrorKind::NotFound => ErrorKind::Internal,
                kind => kind,
            };
            Error::new(kind, message)
        };
        let driver = asking::driver(&self.shared, &owner, patience).await.map_err(failed)?;
        let waiting = asking::waiting(&owner, "VolumeDriver.Get", &name);
        let seen = driver.volume(&name, patience).await.map_err(told).map_err(failed)?;
        drop(waiting);
        let Some(seen) = seen else { return Ok(None) };
        let scope = driver.scope(self.shared.plugged.glancing()).await;
        Ok(Some(joined(known, seen, scope)))
    }

    /// Asks the plugins, side by side, for a volume that the engine has no record of; the first by name that has it
    /// counts. Those that do not answer do not count.
    pub(super) async fn probe(&self, name: &str) -> Option<Volume> {
        let patience = self.shared.plugged.glancing();
        let found = self.shared.plugged.plugins.all(patience, Driver::is_silent).await;
        let drivers = found.into_iter().filter_map(|found| found.driver.ok());
        let ask = |driver: Arc<Driver>| async move {
            let waiting = asking::waiting(driver.name(), "VolumeDriver.Get", name);
            let seen = driver.volume(name, patience).await.ok().flatten();
            drop(waiting);
            Some((driver, seen?))
        };
        let mut answers: FuturesOrdered<_> = drivers.map(ask).collect();
        while let Some(answer) = answers.next().await {
            if let Some((driver, seen)) = answer {
                let scope = driver.scope(patience).await;
                return Some(joined(unrecorded(driver.name(), name), seen, scope));
            }
        }
        None
    }

    /// The volumes of all plugins. One that does not answer has what is recorded of it, and a warning.
    pub(super) async fn list_plugins(&self, records: Vec<Volume>, is_wanted: impl Fn(&str) -> bool) -> Listed {
        let mut records: BTreeMap<String, Volume> = records.into_iter().map(|v| (v.name.clone(), v)).collect();
        let patience = self.shared.plugged.glancing();
        let skip = |driver: &Driver| driver.is_silent() || !is_wanted(driver.name());
        let found = self.shared.plugged.plugins.all(patience, skip).await;
        let mut asked = Vec::new();
        let mut listed = Listed::default();
        for found in found.into_iter().filter(|found| is_wanted(&found.name)) {
            match found.driver {
                Ok(driver) => asked.push(tokio::spawn(async move {
                    let volumes = driver.volumes(patience).await;
                    // Who has not answered this would not answer more.
                    let scope = match volumes {
                        Ok(_) => driver.scope(patience).await,
                        Err(_) => Scope::Local,
                    };
                    (driver, volumes, scope)
                })),
                // What was never a volume driver may be no plugin at all: an old socket, another kind of plugin.
                Err(error) if found.was_driver => listed.warn(&found.name, told(error).message()),
                Err(error) => tracing::debug!(plugin = found.name, "not asked for its volumes: {error}"),
            }
        }
        for task in asked {
            let Ok((driver, volumes, scope)) = task.await else {
                continue;
            };
            match volumes {
                Err(error) => listed.warn(driver.name(), told(error).message()),
                Ok(volumes) => {
                    let theirs = |v: &Volume| v.driver == driver.name();
                    for seen in volumes {
                        let record = match records.get(&seen.name) {
                            Some(known) if !theirs(known) => continue, // COMPAT: the known one is shown
                            Some(known) => known.clone(),
                            None => unrecorded(driver.name(), &seen.name),
                        };
                        let volume = joined(record, seen, scope);
                        listed.volumes.push(Volume { status: None, ..volume });
                    }
                    records.retain(|_, known| !theirs(known));
                }
            }
        }
        let unasked = records.into_values().filter(|v| !v.is_local() && is_wanted(&v.driver));
        for volume in unasked {
            if !listed.warned.contains(&volume.driver) {
                let reason = match self.shared.plugged.plugins.is_silent(&volume.driver) {
                    true => format!("plugin {:?} does not answer", volume.driver),
                    false => format!("plugin {:?} not found", volume.driver),
                };
                listed.warn(&volume.driver, &reason);
            }
            listed.volumes.push(volume);
        }
        listed
    }

    /// Removes a plugin's volume, and the record of it. With `force` a plugin that is gone need not be asked.
    pub(super) async fn remove_from_plugin(&self, volume: &Volume, force: bool) -> Result<()> {
        let (name, owner) = (&volume.name, &volume.driver);
        let _alone = self.shared.plugged.lock(name).await;
        let giving = if force { Giving::Forced } else { Giving::Awaited };
        let asked = async {
            let of_driver = |error: Error| Error::new(error.kind(), format!("remove {owner}: {}", error.message()));
            held::release_volume(&self.shared, owner, name, giving).await?;
            let patience = self.shared.plugged.prompt();
            let driver = asking::driver(&self.shared, owner, patience).await.map_err(of_driver)?;
            let _waiting = asking::waiting(owner, "VolumeDriver.Remove", name);
            let Err(error) = driver.remove(name, patience).await else {
                return Ok(());
            };
            // An engine that was killed may have had it removed already.
            if error.is_refusal() && matches!(driver.volume(name, patience).await, Ok(None)) {
                return Ok(());
            }
            let gone = error.is_gone();
            let error = told(error);
            let kind = if gone { ErrorKind::NotFound } else { error.kind() };
            Err(Error::new(kind, format!("remove {name}: {}", error.message())))
        };
        match asked.await {
            Ok(()) => self.forget(name).await,
            Err(error) if force => {
                tracing::warn!(volume = name, "forgotten by force: {}", error.message());
                self.forget(name).await?;
                match error.kind() {
                    // There is nobody who could have removed it.
                    ErrorKind::NotFound | ErrorKind::Unavailable => Ok(()),
                    _ => Err(error),
                }
            }
            // Whose plugin is away is not missing itself.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error.with_kind(ErrorKind::Unavailable)),
            Err(error) => Err(error),
        }
    }

    /// Removes a volume that was made for one container, whoever has it. A local one that is gone is an error, one
    /// that its plugin does not have any more is not.
    pub(crate) async fn discard(&self, name: &str, driver: &str) -> Result<()> {
        if matches!(driver, "" | LOCAL_DRIVER) {
            let name = name.to_owned();
            return self.call(move |volumes| volumes.remove(&name)).await;
        }
        let volume = self.record(name).await?.unwrap_or_else(|| unrecorded(driver, name));
        self.remove_from_plugin(&volume, false).await
    }

    /// What the engine has recorded of a volume.
    pub(super) async fn record(&self, name: &str) -> Result<Option<Volume>> {
        let name = name.to_owned();
        self.call(move |volumes| match volumes.inspect(&name) {
            Ok(volume) => Ok(Some(volume)),
            Err(wharf_volume::VolumeError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    pub(super) async fn forget(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.call(move |volumes| volumes.forget(&name)).await
    }
}

fn joined(record: Volume, seen: PluginVolume, scope: Scope) -> Volume {
    Volume {
        mountpoint: seen.mountpoint.into(),
        created_at: match seen.created_at.is_empty() {
            true => record.created_at,
            false => seen.created_at,
        },
        status: Some(seen.status).filter(|status| !status.is_empty()),
        scope,
        ..record
    }
}

/// A volume that only its plugin knows.
fn unrecorded(driver: &str, name: &str) -> Volume {
    let new = NewVolume {
        driver: driver.to_owned(),
        ..NewVolume::default()
    };
    Volume {
        created_at: NEVER.to_owned(),
        ..Volume::planned(new, name.to_owned())
    }
}
