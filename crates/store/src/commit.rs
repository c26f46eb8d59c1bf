//! Making layers and images: commit, build steps, import.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use flate2::write::GzEncoder;
use wharf_sys::failpoint;

use crate::error::FileContext;
use crate::take::{NewTree, PendingLayer};
use crate::{
    Algorithm, Descriptor, Digest, Hashing, Image, ImageConfig, Layer, Lease, Manifest, PackError, Reference, Result,
    Store, StoreError, compression, extract, inroot, media, overlay, pack,
};

/// Fast enough for builds, within a few percent of the default's size.
const GZIP_LEVEL: u32 = 4;

/// What a layer is made from.
#[derive(Clone, Copy, Debug)]
pub enum LayerSource<'a> {
    /// An overlay upper directory that somebody still uses: it is read and copied.
    Copy(&'a Path),
    /// An overlay upper directory on the store's file system that is given away: it becomes the layer by rename. It
    /// must not be mounted any more.
    Consume(&'a Path),
}

/// A new image, for [`Store::create_image`].
#[derive(Debug)]
pub struct NewImage<'a> {
    /// The configuration; `rootfs.diff_ids` is filled in from `layers`.
    pub config: ImageConfig,
    /// The layers, bottom first, all of them here.
    pub layers: &'a [Layer],
    /// Its first name.
    pub name: Option<&'a Reference>,
    /// The image it was made from.
    pub parent: Option<&'a Digest>,
}

impl Store {
    /// Turns an overlay upper directory into a layer: a gzip blob and an unpacked tree, both visible on return.
    pub fn commit_layer(&self, lease: &Lease, source: LayerSource<'_>) -> Result<Layer> {
        let (LayerSource::Copy(upper) | LayerSource::Consume(upper)) = source;
        let opened = inroot::open_path(upper).at("opening", upper)?;
        let layer = self.compress(lease, |out| {
            pack::pack_layer(opened.as_fd(), out).map_err(|e| pack_error(upper, e))
        })?;
        if let LayerSource::Consume(_) = source
            && !self.has_layer(&layer.diff_id)
        {
            let tree = NewTree::create(&self.inner)?;
            let bytes = strip_tree(upper)?;
            fs::rename(upper, tree.fs()).at("moving", upper)?;
            tree.describe(bytes)?;
            let pending = PendingLayer::new(&self.inner, &layer, false, Some(tree.keep()));
            self.publish(&[pending])?;
        }
        self.settle(lease, &layer)?;
        Ok(layer)
    }

    /// Turns a flat tar of any compression into a layer: `docker import`.
    pub fn import_layer(&self, lease: &Lease, tar: &mut (dyn Read + Send)) -> Result<Layer> {
        let source_error = |source| StoreError::Source {
            what: "the archive to import".to_owned(),
            source,
        };
        let (_, mut plain) = compression::decompress(tar).map_err(source_error)?;
        let layer = self.compress(lease, |out| io::copy(&mut plain, out).map(drop).map_err(source_error))?;
        self.settle(lease, &layer)?;
        Ok(layer)
    }

    /// Writes configuration and manifest for layers that are here, and records the image.
    pub fn create_image(&self, lease: &Lease, image: NewImage<'_>) -> Result<Arc<Image>> {
        let mut config = image.config;
        config.rootfs.diff_ids = image.layers.iter().map(|l| l.diff_id.clone()).collect();
        let config_bytes = to_json(&config)?;
        let config_digest = self.write_blob(lease, &config_bytes)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(media::OCI_CONFIG, config_digest, config_bytes.len() as u64),
            layers: image.layers.iter().map(|l| l.blob.clone()).collect(),
            subject: None,
            annotations: Default::default(),
        };
        let bytes = to_json(&manifest)?;
        let digest = self.write_blob(lease, &bytes)?;
        let target = Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64);
        self.put_image(lease, &target, image.name, image.parent)
    }

    /// Runs a producer of a plain tar into a gzip partial blob, hashing both forms, and names it by its digest.
    /// ORDER: protected before it gets that name, under which the collector would take it for an old download.
    fn compress(&self, lease: &Lease, produce: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Layer> {
        let path = self.inner.scratch(&self.inner.ingest_dir(), ".tmp-");
        let scratch = Scratch(&path);
        let file = File::create_new(&path).at("creating", &path)?;
        let blob = Hashing::new(BufWriter::with_capacity(256 << 10, file), Algorithm::Sha256);
        let gzip = GzEncoder::new(blob, flate2::Compression::new(GZIP_LEVEL));
        let mut plain = Hashing::new(gzip, Algorithm::Sha256);
        produce(&mut plain)?;
        let (gzip, diff_id, _) = plain.finish();
        let (mut file, digest, size) = gzip.finish().at("writing", &path)?.finish();
        file.flush().at("writing", &path)?;
        drop(file);
        lease.protect(&digest)?;
        lease.protect(&diff_id)?;
        let partial = self.inner.partial_path(&digest);
        fs::rename(&path, &partial).at("moving into place", &partial)?;
        failpoint::reach("store/layer/compressed");
        drop(scratch);
        let blob = Descriptor::new(media::OCI_LAYER_GZIP, digest, size);
        Ok(Layer { diff_id, blob })
    }

    /// Publishes the finished partial blob, unpacking it unless its tree is here.
    fn settle(&self, lease: &Lease, layer: &Layer) -> Result<()> {
        let whole = |offset| Err(io::Error::other(format!("the new layer's blob is cut off at {offset}")));
        let pending = self.take_layer(lease, layer, &mut { whole }, &|_| {})?;
        failpoint::reach("store/layer/unpacked");
        self.publish(&[pending])?;
        failpoint::reach("store/layer/published");
        Ok(())
    }
}

/// Removes a scratch file unless it was renamed away.
struct Scratch<'a>(&'a Path);

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "a scratch file stays until the next start");
        }
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| StoreError::malformed("image document", e.to_string()))
}

pub(crate) fn pack_error(path: &Path, error: PackError) -> StoreError {
    match error {
        PackError::Write(source) => StoreError::File {
            action: "writing the tar of",
            path: path.to_owned(),
            source,
        },
        PackError::Read { name, source } => StoreError::File {
            action: "packing",
            path: path.join(name),
            source,
        },
        PackError::NotFound(name) => StoreError::malformed(path.display().to_string(), format!("{name} is missing")),
    }
}

/// Removes overlay's bookkeeping from every directory and file of an upper directory that becomes a layer, and
/// counts its files' bytes.
fn strip_tree(upper: &Path) -> Result<extract::Extracted> {
    let mut total = extract::Extracted::default();
    let root = inroot::open_path(upper).at("opening", upper)?;
    strip(root.as_fd(), &mut total).at("preparing", upper)?;
    Ok(total)
}

fn strip(dir: std::os::fd::BorrowedFd<'_>, total: &mut extract::Extracted) -> rustix::io::Result<()> {
    use rustix::fs::{FileType, Mode, OFlags};
    use std::os::unix::ffi::OsStrExt;
    overlay::strip_private(dir)?;
    for name in inroot::names(dir)? {
        let Some(stat) = inroot::stat(dir, &name)? else {
            continue;
        };
        total.entries += 1;
        match inroot::kind(&stat) {
            FileType::Directory => strip(inroot::enter(dir, &name)?.as_fd(), total)?,
            FileType::RegularFile => {
                total.bytes += stat.st_size as u64;
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let name = std::ffi::OsStr::from_bytes(&name);
                let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
                overlay::strip_private(file.as_fd())?;
            }
            _ => {}
        }
    }
    Ok(())
}
