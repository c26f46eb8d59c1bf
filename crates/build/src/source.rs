//! Where base images come from: a trait that the engine implements over store and registry.

use std::error::Error as StdError;

use crate::{ErrorKind, Events};

/// Finds images by name, locally or in a registry.
pub trait BaseImages: Send + Sync {
    /// Makes the image present in the store and returns its id (`sha256:<hex>`), reporting a pull
    /// through `events` as [`crate::Event::PullStatus`]. The image must stay in the store until
    /// the build's own lease covers it: hold `request.lease` over what is fetched.
    fn provide(&self, request: &ImageRequest<'_>, events: &dyn Events) -> Result<String, BaseImageError>;
}

/// One image wanted by a build.
#[derive(Clone, Copy, Debug)]
pub struct ImageRequest<'a> {
    /// As written in the Dockerfile: a name, a name with digest, or an image id.
    pub reference: &'a str,
    /// Wanted platform, such as `linux/amd64`; `None` is the engine's own.
    pub platform: Option<&'a str>,
    /// Whether to ask the registry even when the image is here.
    pub refresh: bool,
    /// The build's lease in the store, which keeps what it names from being collected.
    pub lease: &'a str,
}

/// Why an image cannot be had; `message` is what Docker's daemon would say.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BaseImageError {
    /// The cause.
    pub kind: ErrorKind,
    /// What the user reads.
    pub message: String,
    /// The cause's chain.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}
