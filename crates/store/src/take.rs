//! Taking a layer in: receive, hash, decompress, hash again and unpack, in one pass on three threads.
//!
//! ```text
//! source -> partial file, blob hash, inflate -+-> diff id hash
//!                                             +-> extract into layers/.new-*
//! ```
//!
//! The length of the partial file is the offset to resume from. It may be wrong after a power cut, but never
//! harmfully: the whole blob, resumed part included, is hashed before it is published.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use wharf_sys::failpoint;

use crate::error::FileContext;
use crate::extract::{self, ExtractError, ExtractOptions, Extracted};
use crate::store::{Inner, lock};
use crate::{Algorithm, Digest, Digester, Layer, Lease, Result, Store, StoreError, compression, inroot};

const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_IN_FLIGHT: usize = 16;

/// What happens to a layer while it is taken in; in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerProgress {
    /// Bytes of the blob that are here, of so many.
    Received {
        /// Bytes so far.
        n: u64,
        /// The blob's size.
        total: u64,
    },
    /// Bytes of the blob that are unpacked, of so many.
    Extracting {
        /// Bytes so far.
        n: u64,
        /// The blob's size.
        total: u64,
    },
}

/// Where the missing bytes of a blob come from: called with the offset to continue from.
pub type OpenSource<'a> = dyn FnMut(u64) -> io::Result<Box<dyn Read + Send>> + Send + 'a;

/// Layers that are being taken in, by blob, so that two pulls of one layer download it once.
#[derive(Default)]
pub(crate) struct InFlight(HashMap<Digest, Slot>);

enum Slot {
    Running,
    Ready(Weak<PendingLayer>),
}

impl InFlight {
    /// Whether a partial download belongs to somebody.
    pub(crate) fn is_active(&self, digest: &Digest) -> bool {
        match self.0.get(digest) {
            Some(Slot::Running) => true,
            Some(Slot::Ready(pending)) => pending.strong_count() > 0,
            None => false,
        }
    }
}

/// A layer whose blob and tree are complete but maybe not yet visible; see [`Store::publish`]. If it is dropped
/// unpublished, its tree is removed and its blob stays as a partial download.
pub struct PendingLayer {
    inner: Arc<Inner>,
    blob: Digest,
    diff_id: Digest,
    has_new_blob: bool,
    new_tree: Option<PathBuf>,
    published: Mutex<bool>,
}

impl PendingLayer {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        layer: &Layer,
        has_new_blob: bool,
        new_tree: Option<PathBuf>,
    ) -> Arc<PendingLayer> {
        Arc::new(PendingLayer {
            inner: inner.clone(),
            blob: layer.blob.digest.clone(),
            diff_id: layer.diff_id.clone(),
            has_new_blob,
            new_tree,
            published: Mutex::new(false),
        })
    }

    fn is_published(&self) -> bool {
        *lock(&self.published)
    }

    /// Moves blob and tree into place. ORDER: the caller has made their data durable.
    fn publish(&self) -> Result<()> {
        let mut published = lock(&self.published);
        if *published {
            return Ok(());
        }
        if self.has_new_blob {
            let path = self.inner.content_path(&self.blob);
            fs::rename(self.inner.partial_path(&self.blob), &path).at("moving into place", &path)?;
            failpoint::reach("store/take/blob");
        }
        if let Some(tree) = &self.new_tree {
            let path = self.inner.layer_path(&self.diff_id);
            match fs::rename(tree, &path) {
                // Somebody else unpacked the same layer from another blob.
                Err(e) if matches!(e.raw_os_error(), Some(17 | 39)) => {
                    inroot::remove_path(tree).at("removing", tree)?
                }
                other => other.at("moving into place", &path)?,
            }
            failpoint::reach("store/take/tree");
        }
        *published = true;
        Ok(())
    }
}

impl Drop for PendingLayer {
    fn drop(&mut self) {
        let published = *self.published.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (false, Some(tree)) = (published, &self.new_tree)
            && let Err(error) = inroot::remove_path(tree)
        {
            tracing::warn!(path = %tree.display(), %error, "an unpublished layer stays until the next start");
        }
    }
}

impl Store {
    /// Takes a layer in. `open` is called at most once, with the offset to continue from (not at all if the blob is
    /// here), and yields the rest of the blob. If another thread is taking the same blob, its result is shared.
    ///
    /// On failure the bytes received so far stay for a later attempt, unless they are to blame.
    pub fn take_layer(
        &self,
        lease: &Lease,
        layer: &Layer,
        open: &mut OpenSource<'_>,
        progress: &(dyn Fn(LayerProgress) + Sync),
    ) -> Result<Arc<PendingLayer>> {
        lease.protect(&layer.blob.digest)?;
        lease.protect(&layer.diff_id)?;
        if let Some(shared) = self.claim(&layer.blob.digest) {
            return Ok(shared);
        }
        let result = self.take_claimed(layer, open, progress);
        let mut slots = lock(&self.inner.in_flight);
        match &result {
            Ok(pending) => slots
                .0
                .insert(layer.blob.digest.clone(), Slot::Ready(Arc::downgrade(pending))),
            Err(_) => slots.0.remove(&layer.blob.digest),
        };
        slots
            .0
            .retain(|_, slot| !matches!(slot, Slot::Ready(p) if p.strong_count() == 0));
        drop(slots);
        self.inner.in_flight_changed.notify_all();
        result
    }

    /// Makes layers visible: one `syncfs` for all, then the renames.
    pub fn publish(&self, layers: &[Arc<PendingLayer>]) -> Result<()> {
        let waiting: Vec<_> = layers.iter().filter(|l| !l.is_published()).collect();
        if waiting.iter().any(|l| l.has_new_blob || l.new_tree.is_some()) {
            let root = inroot::open_path(&self.inner.root).at("opening", &self.inner.root)?;
            failpoint::reach("store/take/unpacked");
            rustix::fs::syncfs(&root).at("syncing", &self.inner.root)?;
        }
        for layer in &waiting {
            layer.publish()?;
        }
        if !waiting.is_empty() {
            for dir in [self.inner.root.join("content/sha256"), self.inner.layers_dir()] {
                let opened = inroot::open_path(&dir).at("opening", &dir)?;
                rustix::fs::fsync(&opened).at("syncing", &dir)?;
            }
        }
        Ok(())
    }

    /// Waits until nobody else works on the blob; returns their result, or claims it for the caller.
    fn claim(&self, blob: &Digest) -> Option<Arc<PendingLayer>> {
        let mut slots = lock(&self.inner.in_flight);
        loop {
            match slots.0.get(blob) {
                Some(Slot::Running) => {
                    slots = self
                        .inner
                        .in_flight_changed
                        .wait(slots)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Ready(pending)) => match pending.upgrade() {
                    Some(pending) if !pending.is_published() => return Some(pending),
                    _ => {
                        slots.0.remove(blob);
                    }
                },
                None => {
                    slots.0.insert(blob.clone(), Slot::Running);
                    return None;
                }
            }
        }
    }

    fn take_claimed(
        &self,
        layer: &Layer,
        open: &mut OpenSource<'_>,
        progress: &(dyn Fn(LayerProgress) + Sync),
    ) -> Result<Arc<PendingLayer>> {
        let has_blob = self.has_blob(&layer.blob.digest)?;
        let has_tree = self.has_layer(&layer.diff_id);
        if has_blob {
            // Left by a commit or load of content that was here already.
            let _ = fs::remove_file(self.inner.partial_path(&layer.blob.digest));
        }
        if has_blob && has_tree {
            return Ok(PendingLayer::new(&self.inner, layer, false, None));
        }
        let mut incoming = Incoming::open(self, layer, has_blob, open, progress)?;
        let tree = (!has_tree).then(|| NewTree::create(&self.inner)).transpose()?;
        let outcome = match &tree {
            Some(tree) => unpack(&mut incoming, tree, layer),
            None => incoming.drain(),
        };
        let outcome = incoming.finish(outcome);
        if let Err(error) = &outcome
            && blames_content(error)
            && !has_blob
        {
            let partial = self.inner.partial_path(&layer.blob.digest);
            fs::remove_file(&partial).at("removing", &partial)?;
        }
        outcome?;
        Ok(PendingLayer::new(
            &self.inner,
            layer,
            !has_blob,
            tree.map(NewTree::keep),
        ))
    }
}

/// Whether keeping the received bytes would only repeat the failure.
fn blames_content(error: &StoreError) -> bool {
    match error {
        StoreError::DigestMismatch { .. } | StoreError::DiffIdMismatch { .. } | StoreError::SizeMismatch { .. } => true,
        StoreError::Extract(e) => e.is_refusal(),
        _ => false,
    }
}

/// The blob's bytes: first those already here, then those of the source, which are written down on the way.
struct Incoming<'a> {
    layer: &'a Layer,
    stored: Option<File>,
    partial: Option<(File, PathBuf)>,
    source: Option<Box<dyn Read + Send>>,
    digester: Digester,
    count: u64,
    progress: &'a (dyn Fn(LayerProgress) + Sync),
    /// The first failure of the source or of the disk, which explains whatever the decoder then says.
    failure: Option<StoreError>,
}

impl<'a> Incoming<'a> {
    fn open(
        store: &Store,
        layer: &'a Layer,
        has_blob: bool,
        open: &mut OpenSource<'_>,
        progress: &'a (dyn Fn(LayerProgress) + Sync),
    ) -> Result<Incoming<'a>> {
        let digest = &layer.blob.digest;
        let mut incoming = Incoming {
            layer,
            stored: None,
            partial: None,
            source: None,
            digester: Digester::new(digest.algorithm()),
            count: 0,
            progress,
            failure: None,
        };
        if has_blob {
            incoming.stored = Some(store.open_blob(digest)?);
            return Ok(incoming);
        }
        let path = store.inner.partial_path(digest);
        let partial = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .at("opening", &path)?;
        let mut offset = partial.metadata().at("looking at", &path)?.len();
        if offset > layer.blob.size {
            partial.set_len(0).at("truncating", &path)?;
            offset = 0;
        }
        if offset > 0 {
            incoming.stored = Some(File::open(&path).at("opening", &path)?);
        }
        if offset < layer.blob.size {
            let source = open(offset);
            incoming.source = Some(source.map_err(|e| source_error(digest, e))?);
        }
        incoming.partial = Some((partial, path));
        Ok(incoming)
    }

    fn drain(&mut self) -> Result<()> {
        io::copy(self, &mut io::sink())
            .map(drop)
            .map_err(|e| source_error(&self.layer.blob.digest, e))
    }

    /// Verifies length and digest. A wrong blob explains a failed unpacking, so it is reported first.
    fn finish(mut self, outcome: Result<()>) -> Result<()> {
        let archive_failed = matches!(&outcome, Err(StoreError::Extract(_) | StoreError::Source { .. }));
        let aborted = outcome.is_err() && !archive_failed;
        let refused = matches!(&outcome, Err(StoreError::Extract(e)) if !matches!(e, ExtractError::Damaged { .. } | ExtractError::Read(_)));
        if self.failure.is_none() && !aborted && !refused {
            let drained = self.drain();
            if self.failure.is_none() {
                drained?;
            }
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if refused || aborted {
            return outcome;
        }
        let Incoming {
            layer, digester, count, ..
        } = self;
        let (digest, expected) = (layer.blob.digest.clone(), layer.blob.size);
        if count < expected {
            return Err(StoreError::Truncated {
                digest,
                expected,
                actual: count,
            });
        }
        let actual = digester.finish();
        if actual != digest {
            return Err(StoreError::DigestMismatch {
                expected: digest,
                actual,
            });
        }
        outcome
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let digest = &self.layer.blob.digest;
        if let Some(stored) = &mut self.stored {
            let n = stored.read(buffer).map_err(|e| source_error(digest, e))?;
            if n > 0 {
                return Ok(n);
            }
            self.stored = None;
        }
        let Some(source) = &mut self.source else { return Ok(0) };
        let n = source.read(buffer).map_err(|e| source_error(digest, e))?;
        let total = self.count + n as u64;
        if total > self.layer.blob.size {
            let (digest, expected) = (digest.clone(), self.layer.blob.size);
            return Err(StoreError::SizeMismatch {
                digest,
                expected,
                actual: total,
            });
        }
        if let Some((file, path)) = &mut self.partial {
            file.write_all(&buffer[..n]).at("writing", path)?;
        }
        Ok(n)
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the source failed before"));
        }
        match self.read_some(buffer) {
            Ok(n) => {
                self.digester.update(&buffer[..n]);
                self.count += n as u64;
                if n > 0 {
                    (self.progress)(LayerProgress::Received {
                        n: self.count,
                        total: self.layer.blob.size,
                    });
                }
                Ok(n)
            }
            Err(error) => {
                self.failure = Some(error);
                Err(io::Error::other("the source failed"))
            }
        }
    }
}

fn source_error(digest: &Digest, source: io::Error) -> StoreError {
    StoreError::Source {
        what: format!("layer {digest}"),
        source,
    }
}

/// A layer directory being filled; removed on drop unless kept.
pub(crate) struct NewTree {
    path: Option<PathBuf>,
}

impl NewTree {
    pub(crate) fn create(inner: &Inner) -> Result<NewTree> {
        let path = inner.scratch(&inner.layers_dir(), ".new-");
        DirBuilder::new().mode(0o711).create(&path).at("creating", &path)?;
        Ok(NewTree { path: Some(path) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    pub(crate) fn fs(&self) -> PathBuf {
        self.path().join("fs")
    }

    pub(crate) fn make_fs(&self) -> Result<()> {
        let fs = self.fs();
        DirBuilder::new().mode(0o755).create(&fs).at("creating", &fs)
    }

    /// Notes what was unpacked.
    pub(crate) fn describe(&self, extracted: Extracted) -> Result<()> {
        let path = self.path().join("layer.json");
        let text = serde_json::json!({ "size": extracted.bytes, "entries": extracted.entries }).to_string();
        fs::write(&path, text).at("writing", &path)
    }

    pub(crate) fn keep(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for NewTree {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = inroot::remove_path(path)
        {
            tracing::warn!(path = %path.display(), %error, "an unfinished layer stays until the next start");
        }
    }
}

/// Decompresses, hashes and unpacks what comes in.
fn unpack(incoming: &mut Incoming<'_>, tree: &NewTree, layer: &Layer) -> Result<()> {
    tree.make_fs()?;
    let root = inroot::open_path(&tree.fs()).at("opening", &tree.fs())?;
    let (extract_tx, extract_rx) = sync_channel(CHUNKS_IN_FLIGHT);
    let (hash_tx, hash_rx) = sync_channel(CHUNKS_IN_FLIGHT);
    let (extracted, actual, pumped) = thread::scope(|scope| {
        let extractor = scope
            .spawn(move || extract::extract(root.as_fd(), ChunkReader::new(extract_rx), &ExtractOptions::default()));
        let algorithm = layer.diff_id.algorithm();
        let hasher = scope.spawn(move || hash_chunks(hash_rx, algorithm));
        let pumped = pump(incoming, &extract_tx, &hash_tx);
        if pumped.is_err() {
            // The extractor must not take a cut-off stream for a complete one.
            let _ = extract_tx.send(Err(()));
        }
        drop((extract_tx, hash_tx));
        (join(extractor), join(hasher), pumped)
    });
    if pumped.is_err() && matches!(extracted, Err(ExtractError::Read(_)) | Ok(_)) {
        return pumped;
    }
    let extracted = extracted?;
    pumped?;
    if actual != layer.diff_id {
        let (blob, expected) = (layer.blob.digest.clone(), layer.diff_id.clone());
        return Err(StoreError::DiffIdMismatch { blob, expected, actual });
    }
    let total = layer.blob.size;
    (incoming.progress)(LayerProgress::Extracting { n: total, total });
    tree.describe(extracted)
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

type Chunk = std::result::Result<Arc<Vec<u8>>, ()>;

/// Sends the plain bytes to both consumers until the end, or until the extractor gives up.
fn pump(incoming: &mut Incoming<'_>, extract: &SyncSender<Chunk>, hash: &SyncSender<Arc<Vec<u8>>>) -> Result<()> {
    let digest = incoming.layer.blob.digest.clone();
    let decode_error = |e: io::Error| {
        StoreError::Extract(ExtractError::Damaged {
            reason: format!("layer {digest} cannot be decompressed: {e}"),
        })
    };
    let (_, mut plain) = compression::decompress(&mut *incoming).map_err(decode_error)?;
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let n = fill(&mut plain, &mut chunk).map_err(decode_error)?;
        if n == 0 {
            return Ok(());
        }
        chunk.truncate(n);
        let chunk = Arc::new(chunk);
        if extract.send(Ok(chunk.clone())).is_err() || hash.send(chunk).is_err() {
            return Ok(());
        }
    }
}

/// Reads until the buffer is full or the end is reached.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn hash_chunks(chunks: Receiver<Arc<Vec<u8>>>, algorithm: Algorithm) -> Digest {
    let mut digester = Digester::new(algorithm);
    for chunk in chunks {
        digester.update(&chunk);
    }
    digester.finish()
}

/// The receiving end as a reader.
struct ChunkReader {
    chunks: Receiver<Chunk>,
    current: Arc<Vec<u8>>,
    position: usize,
}

impl ChunkReader {
    fn new(chunks: Receiver<Chunk>) -> ChunkReader {
        ChunkReader {
            chunks,
            current: Arc::default(),
            position: 0,
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            match self.chunks.recv() {
                Ok(Ok(chunk)) => (self.current, self.position) = (chunk, 0),
                Ok(Err(())) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut off")),
                Err(_) => return Ok(0),
            }
        }
        let left = &self.current[self.position..];
        let n = left.len().min(buffer.len());
        buffer[..n].copy_from_slice(&left[..n]);
        self.position += n;
        Ok(n)
    }
}
