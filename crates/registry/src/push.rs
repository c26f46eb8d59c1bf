//! Pushing: each blob once (it may be there, or in a sibling repository), then the manifests, then the tag.

use crate::Client;
use crate::error::RegistryError;
use crate::options::Credentials;
use crate::progress::{BlobSink, LayerState, Sink};
use crate::pull::blocking;
use crate::session::{Access, Session};
use crate::transfer::Meter;
use futures_util::StreamExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use wharf_store::{Descriptor, Digest, Image, PlatformImage, Reference, Store};

/// How long the image's content is protected from the collector while it leaves.
const LEASE: Duration = Duration::from_secs(24 * 3600);
const UPLOAD_BUFFER: usize = 256 << 10;

/// The upload of one blob.
type Job<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), RegistryError>> + Send + 'a>>;

/// What to push, and where from.
pub struct PushRequest<'a> {
    /// The store that has it.
    pub store: &'a Store,
    /// The image.
    pub image: Arc<Image>,
    /// The name with its tag.
    pub reference: &'a Reference,
    /// As whom.
    pub credentials: Credentials,
    /// Where news goes.
    pub sink: Sink,
}

/// What the registry has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest or index that the tag leads to.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl Client {
    /// Pushes one image under one name. What was uploaded before a failure is not uploaded again.
    ///
    /// # Errors
    /// [`RegistryError`], by kind: forbidden, unauthorized, unavailable, or content missing here.
    pub async fn push(&self, request: PushRequest<'_>) -> Result<Pushed, RegistryError> {
        let PushRequest {
            store,
            image,
            reference,
            credentials,
            sink,
        } = request;
        let lease = blocking(store, |s| s.lease("push", LEASE)).await?;
        let session = Session::open(self, reference, Access::PullAndPush, &credentials).await?;
        let upload = Upload {
            client: self,
            session: &session,
            store,
            reference,
            siblings: siblings(&image, reference),
        };
        let parts = Parts::of(store, &image).await?;
        for descriptor in parts.layers.iter().chain(&parts.configs).chain(&parts.manifests) {
            lease.protect(&descriptor.digest)?;
        }
        for layer in &parts.layers {
            BlobSink {
                blob: layer.digest.clone(),
                sink: sink.clone(),
            }
            .tell(LayerState::Preparing);
        }
        // A plain list of boxed jobs: with closures over references the compiler cannot prove that
        // the whole future may move between threads.
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for layer in &parts.layers {
            jobs.push(Box::pin(upload.blob(layer, Some(sink.clone()))));
        }
        for config in &parts.configs {
            jobs.push(Box::pin(upload.blob(config, None)));
        }
        let mut results = futures_util::stream::iter(jobs).buffer_unordered(self.inner.options.parallel_uploads.max(1));
        while let Some(result) = results.next().await {
            result?;
        }
        for manifest in parts.manifests.iter().filter(|m| m.digest != parts.top.digest) {
            upload.manifest(manifest, manifest.digest.as_str()).await?;
        }
        let tag = reference.tag().unwrap_or("latest");
        upload.manifest(&parts.top, tag).await?;
        Ok(Pushed {
            digest: parts.top.digest.clone(),
            size: parts.top.size,
        })
    }
}

/// All that makes up an image, each once.
struct Parts {
    layers: Vec<Descriptor>,
    configs: Vec<Descriptor>,
    manifests: Vec<Descriptor>,
    /// What the tag will lead to: the image's target, or, when not all of an index is here, its one platform.
    top: Descriptor,
}

impl Parts {
    async fn of(store: &Store, image: &Arc<Image>) -> Result<Self, RegistryError> {
        let platforms: Vec<Arc<PlatformImage>> = image.platforms.clone();
        let target = image.target.clone();
        let is_whole =
            !wharf_store::media::is_index(&target.media_type) || index_is_whole(store, &target, &platforms).await?;
        let mut seen = HashSet::new();
        let mut once = |d: &Descriptor| seen.insert(d.digest.clone()).then(|| d.clone());
        let chosen = if is_whole {
            platforms
        } else {
            vec![image.platform(None)?.clone()]
        };
        let layers = chosen
            .iter()
            .flat_map(|p| &p.manifest.layers)
            .filter_map(&mut once)
            .collect();
        let configs = chosen
            .iter()
            .map(|p| &p.manifest.config)
            .filter_map(&mut once)
            .collect();
        let manifests: Vec<Descriptor> = chosen.iter().map(|p| p.manifest_descriptor.clone()).collect();
        let top = if is_whole {
            target
        } else {
            manifests.first().cloned().unwrap_or(target)
        };
        Ok(Self {
            layers,
            configs,
            manifests,
            top,
        })
    }
}

/// Whether every manifest that the index lists is here.
async fn index_is_whole(
    store: &Store,
    target: &Descriptor,
    platforms: &[Arc<PlatformImage>],
) -> Result<bool, RegistryError> {
    let digest = target.digest.clone();
    let bytes = blocking(store, move |s| s.read_blob(&digest)).await?;
    let malformed = |e: serde_json::Error| RegistryError::Malformed {
        url: target.digest.to_string(),
        reason: e.to_string(),
    };
    let index: wharf_store::Index = serde_json::from_slice(&bytes).map_err(malformed)?;
    Ok(index
        .manifests
        .iter()
        .all(|m| platforms.iter().any(|p| p.manifest_descriptor.digest == m.digest)))
}

/// Other repositories of the same registry that probably have the layers.
fn siblings(image: &Image, reference: &Reference) -> Vec<String> {
    let names = image.repo_digests.iter().chain(&image.tags);
    let same_host = names.filter(|n| n.domain() == reference.domain() && n.path() != reference.path());
    let mut paths: Vec<String> = same_host.map(|n| n.path().to_owned()).collect();
    paths.sort();
    paths.dedup();
    paths.truncate(3);
    paths
}

struct Upload<'a> {
    client: &'a Client,
    session: &'a Session,
    store: &'a Store,
    reference: &'a Reference,
    siblings: Vec<String>,
}

impl Upload<'_> {
    async fn blob(&self, descriptor: &Descriptor, sink: Option<Sink>) -> Result<(), RegistryError> {
        let sink = sink.map(|sink| BlobSink {
            blob: descriptor.digest.clone(),
            sink,
        });
        let tell = |state| sink.iter().for_each(|s: &BlobSink| s.tell(LayerState::clone(&state)));
        if self.exists(&descriptor.digest).await? {
            tell(LayerState::LayerAlreadyExists);
            return Ok(());
        }
        for sibling in &self.siblings {
            if self.mount(&descriptor.digest, sibling).await? {
                tell(LayerState::MountedFrom(sibling.clone()));
                return Ok(());
            }
        }
        let options = &self.client.inner.options;
        let mut pause = options.retry_pause;
        let mut attempt = 1;
        loop {
            match self.upload(descriptor, sink.as_ref()).await {
                Ok(()) => break,
                Err(error) if attempt < options.attempts && error.is_passing() => {
                    tracing::info!(blob = %descriptor.digest, attempt, %error, "upload broke off, starting again");
                    tell(LayerState::Retrying {
                        seconds: pause.as_secs().max(1),
                    });
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
        tell(LayerState::Pushed);
        Ok(())
    }

    async fn exists(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.session.url(&format!("blobs/{digest}"));
        let answer = self.session.send("HEAD", &url, |r| r).await?;
        match answer.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refused("HEAD", &url, answer).await),
        }
    }

    /// Asks the registry to take the blob from another of its repositories (end-11).
    async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, RegistryError> {
        let url = self.session.url(&format!("blobs/uploads/?mount={digest}&from={from}"));
        let answer = self
            .session
            .send("POST", &url, |r| r.header("Content-Length", "0"))
            .await?;
        if answer.status().as_u16() == 202 {
            // An upload was begun instead; it is not used, so that each blob has one way in.
            if let Some(location) = answer.headers().get("Location").and_then(|l| l.to_str().ok()) {
                let location = self.session.absolute(location);
                self.session.send("DELETE", &location, |r| r).await?;
            }
        }
        Ok(answer.status().as_u16() == 201)
    }

    async fn upload(&self, descriptor: &Descriptor, sink: Option<&BlobSink>) -> Result<(), RegistryError> {
        let url = self.session.url("blobs/uploads/");
        let answer = self
            .session
            .send("POST", &url, |r| r.header("Content-Length", "0"))
            .await?;
        if answer.status().as_u16() != 202 {
            return Err(self.refused("POST", &url, answer).await);
        }
        let location = answer.headers().get("Location").and_then(|l| l.to_str().ok());
        let location = location.ok_or_else(|| RegistryError::Malformed {
            url: url.clone(),
            reason: "an upload without a location".to_owned(),
        })?;
        let location = self.session.absolute(location);
        let joint = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{joint}digest={}", descriptor.digest);
        let digest = descriptor.digest.clone();
        let file = blocking(self.store, move |s| s.open_blob(&digest)).await?;
        let answer = self
            .session
            .send("PUT", &target, |r| with_body(r, &file, descriptor, sink))
            .await?;
        if answer.status().as_u16() != 201 {
            return Err(self.refused("PUT", &target, answer).await);
        }
        Ok(())
    }

    async fn manifest(&self, descriptor: &Descriptor, tag: &str) -> Result<(), RegistryError> {
        let digest = descriptor.digest.clone();
        let bytes = blocking(self.store, move |s| s.read_blob(&digest)).await?;
        let url = self.session.url(&format!("manifests/{tag}"));
        let complete =
            |r: reqwest::RequestBuilder| r.header("Content-Type", &descriptor.media_type).body(bytes.clone());
        let answer = self.session.send("PUT", &url, complete).await?;
        if !answer.status().is_success() {
            return Err(self.refused("PUT", &url, answer).await);
        }
        Ok(())
    }

    async fn refused(&self, method: &'static str, url: &str, answer: reqwest::Response) -> RegistryError {
        let repository = self.reference.familiar_name();
        match answer.status().as_u16() {
            401 => self.session.unauthorized(answer).await,
            403 => {
                let detail = crate::session::error_detail(&answer.bytes().await.unwrap_or_default());
                RegistryError::PushDenied { repository, detail }
            }
            _ => Session::status(method, url, answer).await,
        }
    }
}

/// The blob's file as a body, from its beginning, counted on its way.
fn with_body(
    request: reqwest::RequestBuilder,
    file: &std::fs::File,
    descriptor: &Descriptor,
    sink: Option<&BlobSink>,
) -> reqwest::RequestBuilder {
    let request = request
        .header("Content-Type", "application/octet-stream")
        .header("Content-Length", descriptor.size);
    // The clone shares its offset with the attempt before, which is over: begin again.
    let again = file
        .try_clone()
        .and_then(|mut f| std::io::Seek::rewind(&mut f).map(|()| f));
    let file = match again {
        Ok(file) => file,
        Err(error) => {
            return request.body(reqwest::Body::wrap_stream(futures_util::stream::iter([Err::<
                bytes::Bytes,
                _,
            >(
                error
            )])));
        }
    };
    let total = descriptor.size;
    let meter = sink.map(|s| Meter::new(s.clone(), total));
    let mut sent = 0;
    let stream = tokio_util::io::ReaderStream::with_capacity(tokio::fs::File::from_std(file), UPLOAD_BUFFER).inspect(
        move |piece| {
            if let (Ok(bytes), Some(meter)) = (piece, &meter) {
                sent += bytes.len() as u64;
                meter.at(sent, || LayerState::Pushing { current: sent, total });
            }
        },
    );
    request.body(reqwest::Body::wrap_stream(stream))
}
