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

mod args;
mod cache;
mod changes;
mod context;
mod error;
mod event;
mod exec;
mod request;
mod rootfs;
mod runner;
mod scratch;
mod source;
mod transfer;

use context::Context;
use wharf_store::Reference;

pub mod classic;
pub mod dockerfile;
pub mod ignore;
pub mod plan;

pub use cache::{BuildCache, CacheRecord, PrunedCache};
pub use changes::apply_changes;
pub use error::{BuildError, ErrorKind};
pub use event::{Event, Events, OutputStream};
pub use request::{BuildRequest, Cancel, Limits, Ulimit};
pub use runner::{RunError, RunExit, RunMount, RunNetwork, RunStep, Runner};
pub use scratch::sweep_after_death;
pub use source::{BaseImageError, BaseImages, Downloaded, ImageRequest};

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
pub fn build(request: &BuildRequest, services: Services<'_>) -> Result<String, BuildError> {
    refuse_unsupported(request)?;
    let tags = parse_tags(&request.tags)?;
    let context = Context::open(request)?;
    let dockerfile = dockerfile::parse(context.dockerfile())?;
    let warnings = dockerfile.warnings.clone();
    let plan = plan::plan(dockerfile, request, plan::Selection::UpToTarget)?;
    let executor = exec::Executor::new(request, services, &plan, &context)?;
    for text in warnings {
        services.events.emit(Event::Warning { text });
    }
    executor.run(&tags).map(|image| image.to_string())
}

/// Refuses what this builder has no part for.
fn refuse_unsupported(request: &BuildRequest) -> Result<(), BuildError> {
    if request.squash {
        return Err(BuildError::unsupported(
            "squashing an image is not supported by this builder",
        ));
    }
    Ok(())
}

/// The names for the result, `latest` where no tag is written, each once.
fn parse_tags(tags: &[String]) -> Result<Vec<Reference>, BuildError> {
    let mut parsed: Vec<Reference> = Vec::new();
    for text in tags.iter().filter(|text| !text.is_empty()) {
        let reference =
            Reference::parse(text).map_err(|error| BuildError::invalid(error.to_string()).with_source(error))?;
        if reference.digest().is_some() {
            return Err(BuildError::invalid("refusing to create a tag with a digest reference"));
        }
        let reference = reference.tagged();
        if !parsed.contains(&reference) {
            parsed.push(reference);
        }
    }
    Ok(parsed)
}
