//! Builds: a context from a client, the build crate, base images from the store or a registry.
//!
//! ```text
//! <root>/builds/<id>/     the unpacked context of one build; removed with it, or at the next start
//! ```
mod source;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf_build::{BuildError, BuildRequest, Event, Events, Services};
use wharf_registry::Credentials;
use wharf_store::extract::{Devices, ExtractOptions, Owner, Purpose, extract};
use wharf_sys::failpoint;

use crate::Shared;
use crate::containers::{ByteSource, StepRunner};
use crate::error::{Context, Error, Result};
use crate::model::ids::random_hex_id;
use crate::operations::{self, OperationKind};

use source::StoreOrRegistry;

/// Everything a build needs from its client.
pub struct Build {
    /// What to build; its `context` is filled in from `archive`.
    pub request: BuildRequest,
    /// The context as a tar, plain or compressed.
    pub archive: ByteSource,
    /// Credentials by registry host.
    pub credentials: BTreeMap<String, Credentials>,
    /// Hears what happens, from the build's own thread.
    pub events: Arc<dyn Fn(Event) + Send + Sync>,
}

/// The builder of an engine.
#[derive(Clone, Debug)]
pub struct Builds {
    shared: Arc<Shared>,
}

impl Builds {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Removes what builds of a killed engine left. Part of the engine's start.
    pub fn prepare(&self) -> Result<()> {
        wharf_build::sweep_after_death(&self.shared.store);
        let folder = self.folder();
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).internal(|| format!("remove {}", folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// Builds an image; answers its id. The outer error is about the context.
    pub async fn build(&self, build: Build) -> Result<Result<String, BuildError>> {
        let shared = Arc::clone(&self.shared);
        let target = random_hex_id();
        let folder = self.folder().join(&target);
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let context = ContextFolder::create(folder)?;
            unpack(build.archive, &context.0)?;
            failpoint::reach("build/context");
            let request = BuildRequest {
                context: context.0.clone(),
                ..build.request
            };
            let events = |event| (build.events)(event);
            let images = StoreOrRegistry {
                shared: Arc::clone(&shared),
                credentials: build.credentials,
                runtime,
            };
            let runner = StepRunner::new(Arc::clone(&shared));
            let services = Services {
                store: &shared.store,
                runner: &runner,
                images: &images,
                events: &events as &dyn Events,
            };
            Ok(wharf_build::build(&request, services))
        };
        let built = async {
            let _waiting = operations::waiting("the builder");
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(join) => Err(Error::internal("the build was interrupted").with_source(join)),
            }
        };
        let operations = &self.shared.operations;
        operations.run_here(OperationKind::Build, target, built).await
    }

    fn folder(&self) -> PathBuf {
        self.shared.config.root.join("builds")
    }
}

/// A folder that is removed when the build is over.
struct ContextFolder(PathBuf);

impl ContextFolder {
    fn create(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path).internal(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for ContextFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a build's context is left behind");
        }
    }
}

/// SECURITY: the archive is the client's: it is unpacked by the store's extractor, which cannot
/// be led out of the folder, and it makes no device nodes.
fn unpack(archive: ByteSource, folder: &Path) -> Result<()> {
    let root = std::fs::File::open(folder).internal(|| format!("open {}", folder.display()))?;
    let options = ExtractOptions {
        purpose: Purpose::Files,
        owner: Owner::Archived,
        devices: Devices::Skip,
        ..ExtractOptions::default()
    };
    let (_, plain) = wharf_store::decompress(archive)
        .map_err(|error| Error::invalid(format!("the build context cannot be read: {error}")).with_source(error))?;
    extract(root.as_fd(), plain, &options).map_err(wharf_store::StoreError::from)?;
    Ok(())
}
