//! The plugins of one engine: found when they are asked for, activated once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::client::Patience;
use super::discovery::{Description, PluginDirs};
use super::{Driver, PluginError};

/// Between two looks for a plugin that is not described yet.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The plugins of one engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Plugins {
    dirs: Arc<Mutex<Arc<PluginDirs>>>,
    drivers: Arc<Mutex<BTreeMap<String, Arc<Driver>>>>,
}

/// A plugin that the directories describe, and how it is reached.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// It, activated; or why it is not.
    pub driver: Result<Arc<Driver>, PluginError>,
    /// It was a volume driver when it last said.
    pub was_driver: bool,
}

impl Plugins {
    /// Plugins that are looked for in these directories.
    pub fn new(dirs: PluginDirs) -> Self {
        Self {
            dirs: Arc::new(Mutex::new(Arc::new(dirs))),
            drivers: Arc::default(),
        }
    }

    /// Looks in other directories from now on.
    pub fn look_in(&self, dirs: PluginDirs) {
        *self.dirs.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(dirs);
    }

    fn dirs(&self) -> Arc<PluginDirs> {
        Arc::clone(&self.dirs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The driver of this name, activated. One that changed its address is activated anew.
    pub async fn driver(&self, name: &str, patience: Patience) -> Result<Arc<Driver>, PluginError> {
        let begun = Instant::now();
        let description = loop {
            match self.describe(name).await? {
                Some(found) => break found,
                None if begun.elapsed() + LOOK_PAUSE < patience.appearance => sleep(LOOK_PAUSE).await,
                None => {
                    self.lock().remove(name);
                    return Err(PluginError::NotFound(name.to_owned()));
                }
            }
        };
        let driver = self.spoken_to(name, description)?;
        // Several may wait for one handshake: each only as long as it is ready to.
        match timeout_at(begun + patience.answer, driver.activate(patience)).await {
            Ok(done) => done.map(|()| driver),
            Err(_) => Err(PluginError::Silent {
                plugin: name.to_owned(),
                request: "Plugin.Activate",
                after: patience.answer,
            }),
        }
    }

    /// All plugins that are described, asked side by side; `skip` tells which not to wait for.
    pub async fn all(&self, patience: Patience, skip: impl Fn(&Driver) -> bool) -> Vec<Found> {
        let dirs = self.dirs();
        let names = tokio::task::spawn_blocking(move || dirs.names())
            .await
            .unwrap_or_default();
        let mut asked = Vec::with_capacity(names.len());
        for name in names {
            let known = self.lock().get(&name).cloned();
            if known.as_ref().is_some_and(|driver| skip(driver)) {
                continue;
            }
            let was_driver = known.is_some_and(|driver| driver.is_active());
            let plugins = self.clone();
            asked.push(tokio::spawn(async move {
                let driver = plugins.driver(&name, patience).await;
                Found {
                    name,
                    driver,
                    was_driver,
                }
            }));
        }
        let mut found = Vec::with_capacity(asked.len());
        for task in asked {
            found.extend(task.await.ok());
        }
        found
    }

    /// Whether this plugin was asked and has not answered lately.
    pub fn is_silent(&self, name: &str) -> bool {
        self.lock().get(name).is_some_and(|driver| driver.is_silent())
    }

    /// The names of the volume drivers that have been activated.
    pub fn active(&self) -> Vec<String> {
        let drivers = self.lock();
        let active = drivers.values().filter(|driver| driver.is_active());
        active.map(|driver| driver.name().to_owned()).collect()
    }

    async fn describe(&self, name: &str) -> Result<Option<Description>, PluginError> {
        let (dirs, wanted) = (self.dirs(), name.to_owned());
        match tokio::task::spawn_blocking(move || dirs.find(&wanted)).await {
            Ok(found) => found,
            Err(_) => Ok(None), // the runtime ends
        }
    }

    fn spoken_to(&self, name: &str, description: Description) -> Result<Arc<Driver>, PluginError> {
        let mut drivers = self.lock();
        if let Some(known) = drivers.get(name).filter(|known| known.is_described_by(&description)) {
            return Ok(Arc::clone(known));
        }
        let driver = Arc::new(Driver::new(name, description)?);
        drivers.insert(name.to_owned(), Arc::clone(&driver));
        Ok(driver)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Driver>>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
