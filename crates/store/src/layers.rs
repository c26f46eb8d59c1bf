//! Unpacked layers, by diff id.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::FileContext;
use crate::store::lock;
use crate::{Digest, Layer, Lease, PlatformImage, Result, Store, StoreError};

#[derive(Deserialize)]
struct LayerNote {
    size: u64,
}

impl Store {
    /// Whether a layer is unpacked.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.inner.layer_path(diff_id).join("layer.json").exists()
    }

    /// The directory of an unpacked layer, `<root>/layers/<hex>/fs`.
    pub fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.inner.layer_path(diff_id).join("fs")
    }

    /// Bytes of the files of an unpacked layer.
    pub fn layer_size(&self, diff_id: &Digest) -> Result<u64> {
        if let Some(size) = lock(&self.inner.layer_sizes).get(diff_id) {
            return Ok(*size);
        }
        let path = self.inner.layer_path(diff_id).join("layer.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::NoSuchLayer(diff_id.clone())),
            other => other.at("reading", &path)?,
        };
        let note: LayerNote = serde_json::from_slice(&bytes)
            .map_err(|e| StoreError::malformed(path.display().to_string(), e.to_string()))?;
        lock(&self.inner.layer_sizes).insert(diff_id.clone(), note.size);
        Ok(note.size)
    }

    /// The size of every unpacked layer.
    pub fn layer_sizes(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut sizes = BTreeMap::new();
        for diff_id in self.inner.unpacked_layers()? {
            match self.layer_size(&diff_id) {
                Ok(size) => drop(sizes.insert(diff_id, size)),
                // Collected since it was listed.
                Err(StoreError::NoSuchLayer(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(sizes)
    }

    /// Unpacks whatever layers of the image are not unpacked yet (after `load`, or after fsck removed one).
    pub fn ensure_unpacked(&self, lease: &Lease, image: &PlatformImage) -> Result<()> {
        let mut pending = Vec::new();
        for layer in &image.layers {
            lease.protect(&layer.diff_id)?;
            if !self.has_layer(&layer.diff_id) {
                let digest = layer.blob.digest.clone();
                let mut open = move |_| Err(std::io::Error::new(std::io::ErrorKind::NotFound, digest.to_string()));
                if !self.has_blob(&layer.blob.digest)? {
                    return Err(StoreError::NoSuchContent(layer.blob.digest.clone()));
                }
                pending.push(self.take_layer(lease, layer, &mut open, &|_| {})?);
            }
        }
        self.publish(&pending)
    }

    /// The image's layer directories for an overlay mount, top first; all of them must be unpacked.
    pub fn lower_dirs(&self, image: &PlatformImage) -> Result<Vec<PathBuf>> {
        self.lower_dirs_of(&image.layers)
    }

    /// The directories of these layers (given bottom first) for an overlay mount, top first.
    pub fn lower_dirs_of(&self, layers: &[Layer]) -> Result<Vec<PathBuf>> {
        if let Some(missing) = layers.iter().find(|layer| !self.has_layer(&layer.diff_id)) {
            return Err(StoreError::NoSuchLayer(missing.diff_id.clone()));
        }
        Ok(stack(layers.iter().rev().map(|layer| self.layer_dir(&layer.diff_id))))
    }
}

/// Layer directories (top first) as an overlay mount takes them.
///
/// KERNEL: overlay refuses one directory twice (ELOOP). A layer that repeats is kept where it is topmost: there it
/// already covers everything that its lower copy could show.
pub fn stack(dirs: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut stacked = Vec::new();
    for dir in dirs {
        if !stacked.contains(&dir) {
            stacked.push(dir);
        }
    }
    stacked
}

impl crate::store::Inner {
    /// The diff ids of all unpacked layers. Only sha256 is used for diff ids.
    pub(crate) fn unpacked_layers(&self) -> Result<Vec<Digest>> {
        let dir = self.layers_dir();
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).at("listing", &dir)? {
            let name = entry.at("listing", &dir)?.file_name();
            let digest = name.to_str().and_then(|n| {
                let algorithm = if n.len() == 128 { "sha512" } else { "sha256" };
                Digest::parse(&format!("{algorithm}:{n}")).ok()
            });
            found.extend(digest);
        }
        Ok(found)
    }
}
