//! Where base images come from: a trait that the engine implements over store and registry.

use std::error::Error as StdError;
use std::fs::File;
use std::time::SystemTime;

use wharf_store::Lease;

use crate::{Cancel, ErrorKind, Events};

/// Finds images by name, locally or in a registry.
pub trait BaseImages: Send + Sync {
    /// Makes the image present in the store and returns its id (`sha256:<hex>`), reporting a pull
    /// through `events` as [`crate::Event::PullStatus`]. `request.lease` must protect the id before
    /// the call returns, so that a prune cannot take the image away.
    fn provide(&self, request: &ImageRequest<'_>, events: &dyn Events) -> Result<String, BaseImageError>;

    /// Fetches what `ADD` names by an `http` or `https` address into `to`, whatever it is. An
    /// implementation without a client refuses.
    fn download(&self, address: &str, to: &mut File, cancel: &Cancel) -> Result<Downloaded, BaseImageError> {
        let _ = (to, cancel);
        Err(BaseImageError {
            kind: ErrorKind::Unimplemented,
            message: format!("ADD {address}: {REMOTE_HINT}"),
            source: None,
        })
    }
}

/// What to do instead of adding something remote that cannot be fetched.
pub(crate) const REMOTE_HINT: &str =
    "such remote sources are not supported by this builder; fetch it in a RUN step or put it into the build context";

/// What the server said about a fetched file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// When it was changed last.
    pub last_modified: Option<SystemTime>,
    /// The name it suggests.
    pub file_name: Option<String>,
}

/// One image wanted by a build.
#[derive(Clone, Copy)]
pub struct ImageRequest<'a> {
    /// As written in the Dockerfile: a name, a name with digest, or an image id.
    pub reference: &'a str,
    /// Wanted platform, such as `linux/amd64`; `None` is the engine's own.
    pub platform: Option<&'a str>,
    /// Whether to ask the registry even when the image is here.
    pub refresh: bool,
    /// The build's lease, which keeps what it protects from being collected.
    pub lease: &'a Lease,
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
