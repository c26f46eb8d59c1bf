//! Images in and out: archives, registries.
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_registry::{
    Client, Credentials, Distribution, PullRequest, Pulled, PushRequest, Pushed, RegistryError, Sink,
};
use wharf_store::{History, Image, ImageConfig, Loaded, NewImage, Platform, Reference, RunConfig, SaveItem};

use super::{Images, parse_target};
use crate::containers::{ByteSource, ByteStream};
use crate::error::{Error, Result};
use crate::model::Timestamp;
use crate::operations::{self, OperationKind};

/// The registry that an empty address means.
const HUB: &str = "docker.io";
/// How Docker Hub is called in credentials.
const HUB_ADDRESS: &str = "index.docker.io";
/// How long content without an image record is kept while it is being put together.
const LEASE: Duration = Duration::from_secs(3600);
/// Pieces of an archive that may wait for a slow reader.
const ARCHIVE_DEPTH: usize = 16;
/// Bytes of one piece of an archive.
const ARCHIVE_PIECE: usize = 64 << 10;

/// Asks for an image made of one plain archive.
#[derive(Clone, Debug, Default)]
pub struct ImportImage {
    /// Repository; empty leaves it untagged.
    pub repo: String,
    /// Tag; empty means `latest`.
    pub tag: String,
    /// A word about it.
    pub message: String,
    /// Dockerfile instructions that configure it.
    pub changes: Vec<String>,
    /// `None` means the host's.
    pub platform: Option<Platform>,
}

/// One image to pull.
pub struct PullImage {
    /// A name with a tag or digest.
    pub reference: Reference,
    /// `None` means the host's.
    pub platform: Option<Platform>,
    /// As whom.
    pub credentials: Credentials,
    /// Where news goes.
    pub sink: Sink,
}

/// How a pull ended.
pub enum PullOutcome {
    /// The image is embedded in the engine: nothing was fetched.
    Embedded(Arc<Image>),
    /// It is here now.
    Fetched(Pulled),
}

impl Images {
    /// Images with their names as one archive. Fails before the first byte when a name is unknown.
    pub async fn save(&self, names: &[String], platform: Option<Platform>) -> Result<ByteStream> {
        let mut items: Vec<SaveItem> = Vec::new();
        for name in names {
            let image = self.find(name).await?;
            let tag = Reference::parse(name)
                .ok()
                .map(Reference::tagged)
                .filter(|tag| image.tags.contains(tag));
            match items.iter_mut().find(|item| item.image.id == image.id) {
                Some(item) => item.names.extend(tag),
                None => items.push(SaveItem {
                    image,
                    names: tag.into_iter().collect(),
                }),
            }
        }
        for item in &items {
            self.publish("save", item.image.id.as_str(), item.image.id.as_str());
        }
        let store = self.shared.store.clone();
        let (sender, receiver) = mpsc::channel(ARCHIVE_DEPTH);
        tokio::task::spawn_blocking(move || {
            let mut out = std::io::BufWriter::with_capacity(ARCHIVE_PIECE, ChannelWriter(sender.clone()));
            let done = store.save(&items, platform.as_ref(), &mut out).map_err(Error::from);
            let done = done.and_then(|()| {
                out.flush()
                    .map_err(|e| Error::internal("write an archive").with_source(e))
            });
            if let Err(error) = done {
                let _ = sender.blocking_send(Err(error)); // an error means that the reader has gone
            }
        });
        Ok(receiver)
    }

    /// Takes in the images of an archive (Docker's or OCI's form, plain or compressed).
    pub async fn load(&self, mut source: ByteSource, platform: Option<Platform>) -> Result<Vec<Loaded>> {
        let work = self.call(move |store| store.load(&mut source, platform.as_ref()));
        let operations = &self.shared.operations;
        let loaded = operations.run_here(OperationKind::ImageLoad, "archive", work).await?;
        for image in &loaded {
            let name = match image {
                Loaded::Named(name) => name.familiar(),
                Loaded::Id(id) => id.to_string(),
            };
            let id = self
                .find(&name)
                .await
                .map(|image| image.id.to_string())
                .unwrap_or_default();
            self.publish("load", &id, &name);
        }
        Ok(loaded)
    }

    /// Makes an image of one layer from a plain archive; answers its id.
    pub async fn import(&self, request: ImportImage, mut source: ByteSource) -> Result<String> {
        let name = match request.repo.as_str() {
            "" => None,
            repo => Some(parse_target(repo, &request.tag)?),
        };
        let mut config = RunConfig::default();
        wharf_build::apply_changes(&mut config, &request.changes)?;
        let document = import_config(config, &request);
        let made = self.call(move |store| {
            let lease = store.lease("import", LEASE)?;
            let layer = store.import_layer(&lease, &mut source)?;
            let new = NewImage {
                config: document,
                layers: &[layer],
                name: name.as_ref(),
                parent: None,
            };
            Ok((store.create_image(&lease, new)?, name))
        });
        let operations = &self.shared.operations;
        let (image, name) = operations
            .run_here(OperationKind::ImageImport, request.repo.as_str(), made)
            .await?;
        let shown = name.map_or_else(|| image.id.to_string(), |name| name.familiar());
        self.publish("import", image.id.as_str(), &shown);
        Ok(image.id.to_string())
    }

    /// Fetches one image.
    pub async fn pull(&self, request: PullImage) -> Result<PullOutcome> {
        let name = request.reference.familiar();
        if let Some(image) = self.embedded(&name).await? {
            return Ok(PullOutcome::Embedded(image));
        }
        let pull = PullRequest {
            store: &self.shared.store,
            reference: &request.reference,
            platform: request.platform,
            credentials: request.credentials,
            sink: request.sink,
        };
        let work = async {
            let _waiting = operations::waiting("the registry");
            Ok(self.registry().pull(pull).await?)
        };
        let operations = &self.shared.operations;
        let pulled = operations
            .run_here(OperationKind::ImagePull, name.as_str(), work)
            .await?;
        self.publish("pull", pulled.image.id.as_str(), &name);
        Ok(PullOutcome::Fetched(pulled))
    }

    /// All tags of a repository at its registry.
    pub async fn remote_tags(&self, repository: &Reference, credentials: &Credentials) -> Result<Vec<String>> {
        Ok(self.registry().tags(repository, credentials).await?)
    }

    /// The names under which images of a repository are here.
    pub async fn local_tags(&self, repository: &Reference) -> Result<Vec<Reference>> {
        let images = self.call(wharf_store::Store::images).await?;
        let mut names: Vec<Reference> = images.iter().flat_map(|image| image.tags.iter().cloned()).collect();
        names.retain(|name| name.same_repository(repository));
        names.sort();
        Ok(names)
    }

    /// Brings an image to the registry in its name.
    pub async fn push(&self, reference: &Reference, credentials: Credentials, sink: Sink) -> Result<Pushed> {
        let name = reference.familiar();
        let image = self.find(&name).await.map_err(|error| match error.kind() {
            crate::ErrorKind::NotFound => Error::not_found(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            )),
            _ => error,
        })?;
        let id = image.id.to_string();
        let push = PushRequest {
            store: &self.shared.store,
            image,
            reference,
            credentials,
            sink,
        };
        let pushed = self.registry().push(push).await?;
        self.publish("push", &id, &name);
        Ok(pushed)
    }

    /// What a name leads to at its registry.
    pub async fn distribution(&self, reference: &Reference, credentials: &Credentials) -> Result<Distribution> {
        Ok(self.registry().inspect(reference, credentials).await?)
    }

    /// Asks a registry whether credentials are good; answers the token to keep, if it gives one.
    pub async fn login(&self, address: &str, credentials: Credentials) -> Result<String> {
        let host = registry_host(address);
        Ok(self.registry().login(&host, &credentials).await?.identity_token)
    }

    fn registry(&self) -> Client {
        self.shared.registry.now()
    }
}

fn import_config(config: RunConfig, request: &ImportImage) -> ImageConfig {
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let created = Timestamp::now().to_string();
    let comment = if request.message.is_empty() {
        "Imported from -"
    } else {
        &request.message
    };
    ImageConfig {
        created: Some(created.clone()),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        config,
        history: vec![History {
            created: Some(created),
            comment: Some(comment.to_owned()),
            ..History::default()
        }],
        comment: Some(comment.to_owned()),
        ..ImageConfig::default()
    }
}

/// The registry in an address as clients keep it with credentials (`https://index.docker.io/v1/`).
fn registry_host(address: &str) -> String {
    let bare = address.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | HUB_ADDRESS | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// Writes into a bounded channel, from a thread that may block.
struct ChannelWriter(mpsc::Sender<Result<Bytes>>);

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the reader has gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        use crate::ErrorKind;
        use wharf_registry::RegistryErrorKind as Kind;
        let kind = match error.kind() {
            Kind::NotFound => ErrorKind::NotFound,
            Kind::Forbidden => ErrorKind::Forbidden,
            Kind::Unauthorized => ErrorKind::Unauthorized,
            Kind::Unavailable => ErrorKind::Unavailable,
            Kind::Invalid => ErrorKind::InvalidArgument,
            Kind::Internal => ErrorKind::Internal,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_credentials_name_registries() {
        let check = |address: &str, host: &str| assert_eq!(registry_host(address), host, "{address}");
        check("https://index.docker.io/v1/", "docker.io");
        check("", "docker.io");
        check("docker.io", "docker.io");
        check("127.0.0.1:5000", "127.0.0.1:5000");
        check("https://registry.example/v2/", "registry.example");
    }
}
