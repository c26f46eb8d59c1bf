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
#![allow(clippy::todo)]

pub mod config;
pub mod containers;
pub mod db;
pub mod error;
pub mod events;
pub mod filters;
pub mod model;

use std::sync::Arc;

/// Sockets passed by the service manager, for whoever listens.
pub use wharf_sys::activation;

pub use config::Config;
pub use containers::Containers;
pub use error::{Error, ErrorKind, Result};
pub use events::{EventBus, EventWatch};
pub use filters::Filters;

use db::Db;

/// A running engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all services of one engine share.
#[derive(Debug)]
pub struct Shared {
    /// What it was started with.
    pub config: Config,
    /// Its records.
    pub db: Db,
    /// Its events.
    pub events: EventBus,
}

impl Engine {
    /// Takes the root's lock, opens everything, reconciles with shims and kernel, and returns
    /// as soon as requests can be answered. Fails when another engine owns the root.
    pub async fn start(config: Config) -> Result<Self> {
        config.validate()?;
        todo!()
    }

    /// Containers and their exec sessions.
    pub fn containers(&self) -> Containers {
        Containers::new(Arc::clone(&self.shared))
    }

    /// Events, past and to come.
    pub fn events(&self) -> EventWatch {
        self.shared.events.watch()
    }

    /// What all services share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Ends background work and saves what is pending; containers go on.
    pub async fn shutdown(&self) {
        todo!()
    }
}

/// Removes everything an instance owns in the kernel and on disk, with or without an engine.
pub fn reset(root: &std::path::Path, run: &std::path::Path, instance: &str) -> Result<()> {
    let _ = (root, run, instance);
    todo!()
}
