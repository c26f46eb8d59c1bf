//! From Dockerfile to image.
//!
//! Owns: the Dockerfile language, `.dockerignore`, the build plan, the layer cache and the
//! executor. Does not own: how a process is isolated ([`Runner`], implemented by the engine), how
//! an image is fetched ([`BaseImages`], likewise), where layers and images live (`wharf-store`),
//! and the wire format of progress (the daemon).
//!
//! ```text
//!  text --parse--> Dockerfile --plan--> Plan --execute--> image id
//!                                        ^       | \--> Runner (RUN)
//!              request (args, target) ---+       |  \-> BaseImages (FROM, COPY --from=image)
//!                                                +----> Events --> classic (Docker's output lines)
//! ```
//! [`build`] does it all for the classic endpoint. The parts are separate so that BuildKit's API
//! can drive them with other events and another source of files.

#![allow(clippy::todo)]

mod error;
mod event;
mod request;
mod runner;
mod source;

pub mod classic;
pub mod dockerfile;

pub use error::{BuildError, ErrorKind};
pub use event::{Event, Events, OutputStream};
pub use request::{BuildRequest, Cancel, Limits, Ulimit};
pub use runner::{RunError, RunExit, RunMount, RunNetwork, RunStep, Runner};
pub use source::{BaseImageError, BaseImages, ImageRequest};

/// What a build works with.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Holds layers, images and the cache's records.
    pub store: &'a wharf_store::Store,
    /// Runs `RUN` steps.
    pub runner: &'a dyn Runner,
    /// Finds base images.
    pub images: &'a dyn BaseImages,
    /// Hears what happens.
    pub events: &'a dyn Events,
}

/// Builds an image and tags it; returns its id (`sha256:<hex>`). Blocking: call it from a thread
/// that may block. An error before the first event is a bad request; later ones go in-band.
///
/// On failure nothing of the build is left but what its finished steps put in the cache.
pub fn build(_request: &BuildRequest, _services: Services<'_>) -> Result<String, BuildError> {
    todo!()
}
