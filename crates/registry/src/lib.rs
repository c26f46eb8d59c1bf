//! The client side of the distribution protocol: images in and out of registries.
//!
//! Owns endpoints, authentication, manifests over HTTP, and the streaming of blobs to and from the store. It does not
//! unpack or verify content (the store does, in the same pass) and knows no Docker API: progress leaves as data.
//!
//! ```text
//! pull:  ping -> manifest (index -> platform) -> configuration -> layers, several at once:
//!        GET blob from its recorded offset -> store.take_layer (write, verify, decompress, unpack) -> publish -> name
//! push:  ping -> per blob: HEAD, mount from a sibling repository, or upload -> manifests -> tag
//! ```
//!
//! Reading order: [`Options`], [`RegistryError`], `endpoint`, `auth`, `session`, `pull`, `push`, `inspect`.

mod auth;
mod endpoint;
mod error;
mod fetch;
mod inspect;
mod options;
mod progress;
mod pull;
mod push;
mod session;
mod transfer;

pub use error::{RegistryError, RegistryErrorKind};
pub use fetch::Fetched;
pub use inspect::{Distribution, Login};
pub use options::{Credentials, Options};
pub use progress::{LayerState, Progress, Sink};
pub use pull::{PullRequest, Pulled};
pub use push::{PushRequest, Pushed};

use endpoint::Transports;
use std::sync::Arc;

/// A client for every registry there is; cheap to clone, shared by all pulls and pushes of an engine.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    transports: Transports,
}

impl Client {
    /// Makes a client. Nothing is contacted.
    ///
    /// # Errors
    /// When the TLS set-up of the machine cannot be used.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        let transports = Transports::new(&options)?;
        Ok(Self {
            inner: Arc::new(Inner { options, transports }),
        })
    }
}
