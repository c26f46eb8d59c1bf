//! x
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::*;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The store; cheap to clone, safe to share between threads.
#[derive(Clone)]
pub struct Store(#[allow(dead_code)] Arc<()>);

/// Protects content from the collector. Ends when dropped, at its deadline, or with the process.
pub struct Lease(#[allow(dead_code)] ());

impl Lease {
    /// Moves the deadline.
    pub fn extend(&self, time: Duration) -> Result<()> { let _ = time; todo!() }
    /// Protects a blob or layer (by diff id). Do this before asking whether it exists.
    pub fn protect(&self, digest: &Digest) -> Result<()> { let _ = digest; todo!() }
}

/// One image record, all platforms.
#[derive(Clone, Debug)]
pub struct Image {
    /// Docker 29's image id: the digest of the target (manifest or index).
    pub id: Digest,
    pub target: Descriptor,
    /// Tags, sorted (RepoTags by `familiar()`).
    pub tags: Vec<Reference>,
    /// `repository@digest` (RepoDigests by `familiar()`), one per repository, sorted.
    pub repo_digests: Vec<Reference>,
    pub tagged_at: Option<SystemTime>,
    /// When this record was made here.
    pub stored_at: SystemTime,
    /// The image it was built on or committed from, if known.
    pub parent: Option<Digest>,
    /// Platforms whose manifest and configuration are here.
    pub platforms: Vec<Arc<PlatformImage>>,
    /// Bytes of all blobs present, of all platforms.
    pub content_size: u64,
    /// Bytes of all unpacked layers of all platforms.
    pub unpacked_size: u64,
}

impl Image {
    /// The content for a platform; `None` means the host's, falling back to the only one there is.
    pub fn platform(&self, wanted: Option<&Platform>) -> Result<&Arc<PlatformImage>> { let _ = wanted; todo!() }
    /// Whether no tag or digest name leads here.
    pub fn is_dangling(&self) -> bool { self.tags.is_empty() && self.repo_digests.is_empty() }
    /// Docker 29's `Size`: content and unpacked.
    pub fn size(&self) -> u64 { self.content_size + self.unpacked_size }
}

/// One platform's manifest, configuration and layers.
#[derive(Debug)]
pub struct PlatformImage {
    pub manifest_descriptor: Descriptor,
    pub manifest: Manifest,
    pub config: ImageConfig,
    pub platform: Platform,
    /// Layers bottom first: diff id and blob.
    pub layers: Vec<Layer>,
    pub content_size: u64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer { pub diff_id: Digest, pub blob: Descriptor }

/// A row of `docker history`, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The image's id in the top row.
    pub id: Option<Digest>,
    pub created: Option<String>,
    pub created_by: String,
    pub comment: String,
    /// Unpacked size of the step's layer.
    pub size: u64,
    /// Tags, in the top row.
    pub tags: Vec<Reference>,
}

/// What a removal would do; see [`Store::plan_removal`].
#[derive(Clone, Debug)]
pub struct Removal {
    pub image: Arc<Image>,
    /// The name that was given; `None` when an id was.
    pub named: Option<Reference>,
    /// Names that go: only `named` if others remain, else all of them.
    pub untag: Vec<Reference>,
    /// Whether the image itself goes (its last name, or by id).
    pub deletes: bool,
}

/// What [`Store::remove`] does when the plan would delete the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveMode {
    /// Delete it.
    Delete,
    /// Take the names away and keep the image dangling, since a container uses it.
    KeepDangling,
}

/// One line of Docker's answer to a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed { Untagged(Reference), Deleted(Digest) }

/// How much the collector takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcScope {
    /// Unreferenced content; resumable partial downloads stay for a day.
    Unreferenced,
    /// Also partial downloads that nobody is writing, and leases of engines that are gone (prune, reset).
    Everything,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected { pub blobs: Vec<Digest>, pub layers: Vec<Digest>, pub bytes: u64 }

/// One finding of [`Store::fsck`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding { pub subject: String, pub problem: String, pub mended: bool }

/// A named lease without a deadline (build cache, containers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin { pub name: String, pub digests: Vec<Digest>, pub created: SystemTime }

/// What a layer is made from.
pub enum LayerSource<'a> {
    /// An overlay upper directory that somebody still uses: it is read and copied.
    Copy(&'a Path),
    /// An overlay upper directory on the store's file system that is given away: it becomes the layer by rename.
    Consume(&'a Path),
}

/// A new image, for [`Store::create_image`].
pub struct NewImage<'a> {
    /// `rootfs.diff_ids` is filled in from `layers`.
    pub config: ImageConfig,
    pub layers: &'a [Layer],
    pub name: Option<&'a Reference>,
    pub parent: Option<&'a Digest>,
}

/// How one path of a container differs from its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind { Modified = 0, Added = 1, Deleted = 2 }

/// One difference; the path is absolute inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change { pub path: PathBuf, pub kind: ChangeKind }

/// One image to save: everything under a name, or by id.
pub struct SaveItem { pub image: Arc<Image>, pub tags: Vec<Reference> }

/// One image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded { Named(Reference), Id(Digest) }

/// What happens to one layer while it is taken in; `n` and `total` are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerProgress { Received { n: u64, total: u64 }, Extracting { n: u64, total: u64 } }

/// A layer whose blob and tree are complete but not yet visible; see [`Store::publish`].
pub struct PendingLayer(#[allow(dead_code)] ());

impl Store {
    /// Opens or creates the store below `root` and clears what a killed process left half-done.
    pub fn open(root: &Path) -> Result<Store> { let _ = root; todo!() }
    pub fn root(&self) -> &Path { todo!() }

    // Leases and pins.
    /// Starts a lease that ends after `time` at the latest.
    pub fn lease(&self, purpose: &str, time: Duration) -> Result<Lease> { let _ = (purpose, time); todo!() }
    /// Sets what the pin of this name protects: blobs, layers (diff ids) or images (their ids, with all they need).
    pub fn pin(&self, name: &str, digests: &[Digest]) -> Result<()> { let _ = (name, digests); todo!() }
    pub fn unpin(&self, name: &str) -> Result<()> { let _ = name; todo!() }
    pub fn pins(&self, prefix: &str) -> Result<Vec<Pin>> { let _ = prefix; todo!() }

    // Content.
    /// The size of a blob that is here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> { let _ = digest; todo!() }
    pub fn open_blob(&self, digest: &Digest) -> Result<File> { let _ = digest; todo!() }
    /// A small document, at most [`MAX_DOCUMENT_BYTES`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> { let _ = digest; todo!() }
    /// Stores a small document under its sha256 digest.
    pub fn write_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> { let _ = (lease, bytes); todo!() }
    /// How many bytes of a blob are already here, as a partial download or whole.
    pub fn partial_size(&self, digest: &Digest) -> Result<u64> { let _ = digest; todo!() }

    // Layers.
    pub fn has_layer(&self, diff_id: &Digest) -> bool { let _ = diff_id; todo!() }
    /// `<root>/layers/<hex>/fs`.
    pub fn layer_dir(&self, diff_id: &Digest) -> PathBuf { let _ = diff_id; todo!() }
    pub fn layer_size(&self, diff_id: &Digest) -> Result<u64> { let _ = diff_id; todo!() }
    /// Takes a layer in: `open` is called with the offset to continue from (and not at all if the blob is here)
    /// and yields the rest of the blob; it is written, verified, decompressed and unpacked in one pass.
    pub fn take_layer(&self, lease: &Lease, layer: &Layer, open: &mut dyn FnMut(u64) -> std::io::Result<Box<dyn Read + Send>>, progress: &(dyn Fn(LayerProgress) + Sync)) -> Result<Arc<PendingLayer>> { let _ = (lease, layer, open, progress); todo!() }
    /// Makes layers visible: one `syncfs`, then the renames.
    pub fn publish(&self, layers: &[Arc<PendingLayer>]) -> Result<()> { let _ = layers; todo!() }
    /// Unpacks whatever layers of the image are not unpacked yet (after load or a partial fsck).
    pub fn ensure_unpacked(&self, lease: &Lease, image: &PlatformImage) -> Result<()> { let _ = (lease, image); todo!() }
    /// The image's layer directories for an overlay mount, top first; all of them unpacked.
    pub fn lower_dirs(&self, image: &PlatformImage) -> Result<Vec<PathBuf>> { let _ = image; todo!() }
    /// Turns an overlay upper directory into a layer (gzip blob and unpacked tree).
    pub fn commit_layer(&self, lease: &Lease, source: LayerSource<'_>) -> Result<Layer> { let _ = (lease, source); todo!() }
    /// Turns a flat tar (any compression) into a layer: `docker import`.
    pub fn import_layer(&self, lease: &Lease, tar: &mut (dyn Read + Send)) -> Result<Layer> { let _ = (lease, tar); todo!() }

    // Images.
    /// Records an image whose content is here and names it. A name that led elsewhere moves; the old image stays, dangling.
    pub fn put_image(&self, lease: &Lease, target: &Descriptor, name: Option<&Reference>, parent: Option<&Digest>) -> Result<Arc<Image>> { let _ = (lease, target, name, parent); todo!() }
    /// Writes configuration and manifest for layers that are here, then [`Store::put_image`].
    pub fn create_image(&self, lease: &Lease, image: NewImage<'_>) -> Result<Arc<Image>> { let _ = (lease, image); todo!() }
    /// Finds an image by name, name@digest, id or unique id prefix, with or without `sha256:`.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>> { let _ = text; todo!() }
    pub fn image(&self, id: &Digest) -> Result<Arc<Image>> { let _ = id; todo!() }
    /// Every image, newest first.
    pub fn images(&self) -> Result<Vec<Arc<Image>>> { todo!() }
    /// Images whose recorded parent is this one.
    pub fn children(&self, id: &Digest) -> Result<Vec<Digest>> { let _ = id; todo!() }
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<()> { let _ = (id, name); todo!() }
    pub fn plan_removal(&self, text: &str) -> Result<Removal> { let _ = text; todo!() }
    /// Applies a plan, checks it again in the same transaction, and collects what nothing references any more.
    pub fn remove(&self, removal: &Removal, mode: RemoveMode) -> Result<Vec<Removed>> { let _ = (removal, mode); todo!() }
    /// `docker history`.
    pub fn history(&self, image: &Image, platform: &PlatformImage) -> Result<Vec<HistoryRow>> { let _ = (image, platform); todo!() }
    /// Total bytes of content and layers on disk.
    pub fn disk_usage(&self) -> Result<u64> { todo!() }
    /// Bytes of each layer's tree, by diff id, for shared-size sums.
    pub fn layer_sizes(&self) -> Result<BTreeMap<Digest, u64>> { todo!() }

    // Collection and repair.
    pub fn gc(&self, scope: GcScope) -> Result<Collected> { let _ = scope; todo!() }
    /// Checks every record, blob and layer; with `mend`, removes what is damaged and can be fetched again.
    pub fn fsck(&self, mend: Mend) -> Result<Vec<Finding>> { let _ = mend; todo!() }

    // Archives.
    pub fn save(&self, items: &[SaveItem], platform: Option<&Platform>, out: &mut dyn Write) -> Result<()> { let _ = (items, platform, out); todo!() }
    /// Loads a docker-archive or OCI layout tar, plain or compressed.
    pub fn load(&self, tar: &mut (dyn Read + Send), platform: Option<&Platform>) -> Result<Vec<Loaded>> { let _ = (tar, platform); todo!() }
}

/// Whether [`Store::fsck`] changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend { No, Yes }

/// The differences that an overlay upper directory makes to its lower directories (top first), sorted by path.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>> { let _ = (upper, lowers); todo!() }

/// Writes the tree below an opened directory as one flat tar (`docker export`).
pub fn export_tree(root: BorrowedFd<'_>, out: &mut dyn Write) -> Result<()> { let _ = (root, out); todo!() }

/// Writes one path of a tree, named `name` in the tar, with everything below it (`docker cp` from a container).
/// `path` is resolved inside `root`, its last component not followed.
pub fn pack_path(root: BorrowedFd<'_>, path: &Path, name: &str, out: &mut dyn Write) -> Result<()> { let _ = (root, path, name, out); todo!() }

/// A reader of the plain bytes of a gzip, zstd, bzip2, xz or uncompressed stream, decided by its first bytes.
pub fn decompress<'a>(source: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> { let _ = source; todo!() }
