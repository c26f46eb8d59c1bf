//! Pulling: manifest, configuration, then all layers at once, each in one streaming pass into the store.

use crate::Client;
use crate::error::RegistryError;
use crate::options::Credentials;
use crate::progress::{BlobSink, LayerState, Progress, Sink};
use crate::session::{Access, Session, read_document};
use crate::transfer::{BlobSource, Meter};
use futures_util::StreamExt;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wharf_store::{
    Descriptor, Digest, Document, Image, ImageConfig, Layer, LayerProgress, Lease, MAX_DOCUMENT_BYTES, Manifest,
    PendingLayer, Platform, Reference, Store,
};

/// How long content of an unfinished pull is protected from the collector.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// What to pull, and where to.
pub struct PullRequest<'a> {
    /// The store that takes it.
    pub store: &'a Store,
    /// A name with a tag or digest.
    pub reference: &'a Reference,
    /// The platform; the host's when `None`.
    pub platform: Option<Platform>,
    /// As whom.
    pub credentials: Credentials,
    /// Where news goes.
    pub sink: Sink,
}

/// A pulled image.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image as recorded.
    pub image: Arc<Image>,
    /// The digest that the name leads to at the registry.
    pub digest: Digest,
    /// Whether the name led elsewhere (or nowhere) here before.
    pub is_newer: bool,
}

impl Client {
    /// Pulls one image. On failure nothing is recorded; verified blobs and partial downloads stay for the next
    /// attempt until the collector takes them.
    ///
    /// # Errors
    /// [`RegistryError`], by kind: not found, unauthorized, unavailable, invalid content.
    pub async fn pull(&self, request: PullRequest<'_>) -> Result<Pulled, RegistryError> {
        let PullRequest {
            store,
            reference,
            platform,
            credentials,
            sink,
        } = request;
        let session = Arc::new(Session::open(self, reference, Access::Pull, &credentials).await?);
        let lease = Arc::new(blocking(store, |s| s.lease("pull", LEASE)).await?);
        let fetch = Fetch {
            session: &session,
            store,
            lease: &lease,
            reference,
        };
        let before = store.resolve(&reference.canonical()).ok().map(|i| i.id.clone());

        let (target, document) = fetch.target().await?;
        sink(Progress::Resolved(target.digest.clone()));
        let platform = platform.unwrap_or_else(Platform::host);
        let manifest = fetch.platform_manifest(document, &platform).await?;
        let config = fetch.config(&manifest).await?;
        let layers = pair_layers(&manifest, &config, &session)?;
        self.take_layers(&fetch, layers, &sink).await?;

        let (name, descriptor) = (reference.clone(), target.clone());
        let held = lease.clone();
        let image = blocking(store, move |s| s.put_image(&held, &descriptor, Some(&name), None)).await?;
        Ok(Pulled {
            is_newer: before.as_ref() != Some(&image.id),
            image,
            digest: target.digest,
        })
    }

    /// All tags of a repository.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn tags(&self, repository: &Reference, credentials: &Credentials) -> Result<Vec<String>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let session = Session::open(self, repository, Access::Pull, credentials).await?;
        let mut all = Vec::new();
        let mut url = session.url("tags/list?n=1000");
        loop {
            let answer = session.send("GET", &url, |r| r).await?;
            if !answer.status().is_success() {
                return Err(refused(&session, repository, "GET", &url, answer).await);
            }
            let next = answer
                .headers()
                .get("Link")
                .and_then(|l| l.to_str().ok())
                .and_then(next_page)
                .map(|l| session.absolute(l));
            let body = read_document(&url, answer).await?;
            let page: Tags = serde_json::from_slice(&body).map_err(|e| RegistryError::Malformed {
                url: url.clone(),
                reason: e.to_string(),
            })?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if next != url => url = next,
                _ => return Ok(all),
            }
        }
    }

    async fn take_layers(&self, fetch: &Fetch<'_>, layers: Vec<Layer>, sink: &Sink) -> Result<(), RegistryError> {
        for layer in &layers {
            BlobSink {
                blob: layer.blob.digest.clone(),
                sink: sink.clone(),
            }
            .tell(LayerState::PullingFsLayer);
        }
        // An image may hold the same layer twice.
        let mut seen = HashSet::new();
        let distinct: Vec<Layer> = layers
            .into_iter()
            .filter(|l| seen.insert(l.blob.digest.clone()))
            .collect();
        let cancelled = Arc::new(AtomicBool::new(false));
        // The caller may drop this future at any await; the transfers are on threads of their own.
        let _guard = CancelOnDrop(cancelled.clone());
        let at_once = self.inner.options.parallel_downloads.max(1);
        for waiting in distinct.iter().skip(at_once) {
            BlobSink {
                blob: waiting.blob.digest.clone(),
                sink: sink.clone(),
            }
            .tell(LayerState::Waiting);
        }
        let jobs = distinct
            .into_iter()
            .map(|layer| self.take_layer(fetch, layer, sink, &cancelled));
        let mut done = Vec::new();
        let mut failure = None;
        let mut results = futures_util::stream::iter(jobs).buffered(at_once);
        while let Some(result) = results.next().await {
            match result {
                Ok(taken) => done.extend(taken),
                Err(error) => {
                    cancelled.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        let (sinks, pending): (Vec<BlobSink>, Vec<Arc<PendingLayer>>) = done.into_iter().unzip();
        blocking(fetch.store, move |s| s.publish(&pending)).await?;
        sinks.iter().for_each(|s| s.tell(LayerState::PullComplete));
        Ok(())
    }

    /// One layer, through all its attempts; `None` when it was here before.
    async fn take_layer(
        &self,
        fetch: &Fetch<'_>,
        layer: Layer,
        sink: &Sink,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Option<(BlobSink, Arc<PendingLayer>)>, RegistryError> {
        let sink = BlobSink {
            blob: layer.blob.digest.clone(),
            sink: sink.clone(),
        };
        let (held, wanted) = (fetch.lease.clone(), layer.clone());
        let is_here = blocking(fetch.store, move |s| {
            held.protect(&wanted.blob.digest)?;
            held.protect(&wanted.diff_id)?;
            Ok(s.has_layer(&wanted.diff_id) && s.blob_size(&wanted.blob.digest)?.is_some())
        });
        if is_here.await? {
            sink.tell(LayerState::AlreadyExists);
            return Ok(None);
        }
        let options = &self.inner.options;
        let mut pause = options.retry_pause;
        let mut attempt = 1;
        loop {
            match attempt_layer(fetch, &layer, &sink, cancelled).await {
                Ok(pending) => return Ok(Some((sink, pending))),
                Err(error)
                    if attempt < options.attempts && error.is_passing() && !cancelled.load(Ordering::Relaxed) =>
                {
                    tracing::info!(blob = %layer.blob.digest, attempt, %error, "download broke off, going on");
                    sink.tell(LayerState::Retrying {
                        seconds: pause.as_secs().max(1),
                    });
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn attempt_layer(
    fetch: &Fetch<'_>,
    layer: &Layer,
    sink: &BlobSink,
    cancelled: &Arc<AtomicBool>,
) -> Result<Arc<PendingLayer>, RegistryError> {
    let failure = Arc::new(Mutex::new(None));
    let source = BlobSource {
        session: fetch.session.clone(),
        descriptor: layer.blob.clone(),
        cancelled: cancelled.clone(),
        runtime: tokio::runtime::Handle::current(),
        failure: failure.clone(),
    };
    let (lease, layer, sink) = (fetch.lease.clone(), layer.clone(), sink.clone());
    let meter = Meter::new(sink.clone(), layer.blob.size);
    let result = blocking(fetch.store, move |store| {
        let progress = |news: LayerProgress| match news {
            LayerProgress::Received { n, total } if n >= total => sink.tell(LayerState::DownloadComplete),
            LayerProgress::Received { n, total } => meter.at(n, || LayerState::Downloading { current: n, total }),
            LayerProgress::Extracting { n, total } => meter.at(n, || LayerState::Extracting { current: n, total }),
        };
        store.take_layer(&lease, &layer, &mut |offset| source.open(offset), &progress)
    });
    let result = result.await;
    // The store saw only an io::Error; what is behind it says more.
    let typed = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, typed) {
        (Err(_), Some(typed)) => Err(typed),
        (result, _) => result,
    }
}

/// Tells the transfers of a pull to stop when nobody waits for them any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What one pull works with.
struct Fetch<'a> {
    session: &'a Arc<Session>,
    store: &'a Store,
    lease: &'a Arc<Lease>,
    reference: &'a Reference,
}

impl Fetch<'_> {
    /// The document that the name leads to, stored, with its descriptor.
    async fn target(&self) -> Result<(Descriptor, Document), RegistryError> {
        let tag = self.reference.tag().unwrap_or("latest");
        let wanted = self
            .reference
            .digest()
            .map_or_else(|| tag.to_owned(), |d| d.to_string());
        let (media_type, bytes) = fetch_manifest(self.session, self.reference, &wanted).await?;
        self.keep(&media_type, bytes, self.reference.digest()).await
    }

    async fn keep(
        &self,
        media_type: &str,
        bytes: Vec<u8>,
        expected: Option<&Digest>,
    ) -> Result<(Descriptor, Document), RegistryError> {
        let digest = match expected {
            Some(expected) => verified(expected, &bytes)?,
            None => Digest::of(&bytes),
        };
        let parse = |bytes: &[u8]| Document::parse(bytes, media_type);
        let document = parse(&bytes).map_err(|source| wharf_store::StoreError::Manifest {
            digest: digest.clone(),
            source,
        })?;
        let descriptor = Descriptor::new(document.media_type(), digest.clone(), bytes.len() as u64);
        let lease = self.lease.clone();
        blocking(self.store, move |s| s.write_blob_as(&lease, &digest, &bytes)).await?;
        Ok((descriptor, document))
    }

    async fn platform_manifest(&self, document: Document, platform: &Platform) -> Result<Manifest, RegistryError> {
        let index = match document {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        let fits = |d: &&Descriptor| !d.is_attestation() && d.platform.as_ref().is_some_and(|p| platform.accepts(p));
        let chosen = index
            .manifests
            .iter()
            .find(fits)
            .ok_or_else(|| RegistryError::NoPlatform {
                platform: platform.to_string(),
            })?;
        let (media_type, bytes) = fetch_manifest(self.session, self.reference, chosen.digest.as_str()).await?;
        match self.keep(&media_type, bytes, Some(&chosen.digest)).await?.1 {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(RegistryError::Malformed {
                url: self.session.url(&format!("manifests/{}", chosen.digest)),
                reason: "an index inside an index".to_owned(),
            }),
        }
    }

    async fn config(&self, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let descriptor = &manifest.config;
        let url = self.session.url(&format!("blobs/{}", descriptor.digest));
        let malformed = |reason: String| RegistryError::Malformed {
            url: url.clone(),
            reason,
        };
        if descriptor.size > MAX_DOCUMENT_BYTES {
            return Err(malformed(format!("a configuration of {} bytes", descriptor.size)));
        }
        let answer = self.session.send("GET", &url, |r| r).await?;
        if !answer.status().is_success() {
            return Err(Session::status("GET", &url, answer).await);
        }
        let bytes = read_document(&url, answer).await?;
        let digest = verified(&descriptor.digest, &bytes)?;
        let config = ImageConfig::parse(&bytes).map_err(|e| malformed(e.to_string()))?;
        let lease = self.lease.clone();
        blocking(self.store, move |s| s.write_blob_as(&lease, &digest, &bytes)).await?;
        Ok(config)
    }
}

/// The expected digest, if it is that of the bytes.
fn verified(expected: &Digest, bytes: &[u8]) -> Result<Digest, RegistryError> {
    let actual = Digest::of_as(expected.algorithm(), bytes);
    let expected = expected.clone();
    if actual == expected {
        return Ok(actual);
    }
    Err(wharf_store::StoreError::DigestMismatch { expected, actual }.into())
}

/// The bytes and media type of a manifest or index.
pub(crate) async fn fetch_manifest(
    session: &Session,
    reference: &Reference,
    wanted: &str,
) -> Result<(String, Vec<u8>), RegistryError> {
    let url = session.url(&format!("manifests/{wanted}"));
    let answer = session.send("GET", &url, accept_documents).await?;
    if !answer.status().is_success() {
        return Err(refused(session, reference, "GET", &url, answer).await);
    }
    let kind = answer
        .headers()
        .get("Content-Type")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_owned();
    Ok((kind, read_document(&url, answer).await?))
}

pub(crate) fn accept_documents(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    use wharf_store::media;
    let kinds = [
        media::OCI_INDEX,
        media::DOCKER_LIST,
        media::OCI_MANIFEST,
        media::DOCKER_MANIFEST,
    ];
    request.header("Accept", kinds.join(", "))
}

/// The error for a refused look at a repository.
pub(crate) async fn refused(
    session: &Session,
    reference: &Reference,
    method: &'static str,
    url: &str,
    answer: reqwest::Response,
) -> RegistryError {
    match answer.status().as_u16() {
        404 => RegistryError::NotFound {
            reference: reference.canonical(),
        },
        401 | 403 if session.domain() == "docker.io" => RegistryError::Denied {
            repository: reference.familiar_name(),
        },
        401 => session.unauthorized(answer).await,
        403 => RegistryError::Denied {
            repository: reference.familiar_name(),
        },
        _ => Session::status(method, url, answer).await,
    }
}

fn pair_layers(manifest: &Manifest, config: &ImageConfig, session: &Session) -> Result<Vec<Layer>, RegistryError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(RegistryError::Malformed {
            url: session.url(&format!("blobs/{}", manifest.config.digest)),
            reason: format!("{} diff ids for {} layers", diff_ids.len(), manifest.layers.len()),
        });
    }
    let pairs = diff_ids.iter().zip(&manifest.layers);
    Ok(pairs
        .map(|(diff_id, blob)| Layer {
            diff_id: diff_id.clone(),
            blob: blob.clone(),
        })
        .collect())
}

/// The target of `<...>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let (target, parameters) = link.split_once(';')?;
    parameters
        .contains("next")
        .then(|| target.trim().trim_start_matches('<').trim_end_matches('>'))
}

/// Runs store work on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, wharf_store::StoreError> + Send + 'static,
) -> Result<T, RegistryError> {
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store))
        .await
        .map_err(RegistryError::Worker)?;
    Ok(done?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_follows_only_next_links() {
        assert_eq!(
            next_page("</v2/a/tags/list?n=2&last=b>; rel=\"next\""),
            Some("/v2/a/tags/list?n=2&last=b")
        );
        assert_eq!(next_page("</x>; rel=\"prev\""), None);
    }
}
