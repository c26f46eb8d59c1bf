//! `docker save`: an OCI layout that is a docker-archive as well.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::commit::pack_error;
use crate::pack::Bundle;
use crate::{
    Descriptor, Digest, Document, Image, Platform, PlatformImage, Reference, Result, Store, StoreError, media,
};

/// One image to save and the names to save it under (none: by id).
#[derive(Clone, Debug)]
pub struct SaveItem {
    /// The image.
    pub image: Arc<Image>,
    /// Names that lead to it.
    pub names: Vec<Reference>,
}

/// One line of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LegacyImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Store {
    /// Writes images as one tar: `oci-layout`, `index.json`, `blobs/`, and `manifest.json` with `repositories` for
    /// older readers. With a platform, only its content goes in; without, everything that is here.
    pub fn save(&self, items: &[SaveItem], platform: Option<&Platform>, out: &mut dyn Write) -> Result<()> {
        let mut targets = Vec::new();
        let mut blobs = BTreeSet::new();
        let mut legacy: BTreeMap<Digest, LegacyImage> = BTreeMap::new();
        for item in items {
            let shown = item.image.platform(platform)?;
            let target = match platform {
                Some(_) => shown.manifest_descriptor.clone(),
                None => item.image.target.clone(),
            };
            self.collect_blobs(&target, &mut blobs)?;
            targets.extend(annotated(&target, &item.names));
            let line = legacy
                .entry(shown.manifest_descriptor.digest.clone())
                .or_insert_with(|| legacy_image(shown));
            line.repo_tags
                .extend(item.names.iter().filter(|n| n.tag().is_some()).map(Reference::familiar));
        }
        let legacy: Vec<LegacyImage> = legacy.into_values().collect();
        let mut bundle = Bundle::new(out);
        self.write_bundle(&mut bundle, &targets, &blobs, &legacy)?;
        bundle.finish().map_err(archive_error)
    }

    fn collect_blobs(&self, target: &Descriptor, blobs: &mut BTreeSet<Digest>) -> Result<()> {
        if !self.has_blob(&target.digest)? || !blobs.insert(target.digest.clone()) {
            return Ok(());
        }
        match &*self.document(&target.digest, &target.media_type)? {
            Document::Index(index) => {
                for manifest in &index.manifests {
                    self.collect_blobs(manifest, blobs)?;
                }
            }
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    if !self.has_blob(&part.digest)? {
                        return Err(StoreError::NoSuchContent(part.digest.clone()));
                    }
                    blobs.insert(part.digest.clone());
                }
            }
        }
        Ok(())
    }

    fn write_bundle(
        &self,
        bundle: &mut Bundle<'_>,
        targets: &[Value],
        blobs: &BTreeSet<Digest>,
        legacy: &[LegacyImage],
    ) -> Result<()> {
        bundle.directory("blobs").map_err(archive_error)?;
        bundle.directory("blobs/sha256").map_err(archive_error)?;
        for digest in blobs {
            let size = self
                .blob_size(digest)?
                .ok_or_else(|| StoreError::NoSuchContent(digest.clone()))?;
            bundle
                .file(&blob_name(digest), self.open_blob(digest)?, size)
                .map_err(archive_error)?;
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": targets });
        let documents = [
            ("index.json", index),
            ("manifest.json", json!(legacy)),
            ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
            ("repositories", repositories(legacy)),
        ];
        for (name, document) in documents {
            bundle
                .bytes(name, document.to_string().as_bytes())
                .map_err(archive_error)?;
        }
        Ok(())
    }
}

fn archive_error(error: crate::PackError) -> StoreError {
    pack_error(Path::new("the saved archive"), error)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn legacy_image(platform: &PlatformImage) -> LegacyImage {
    LegacyImage {
        config: blob_name(&platform.manifest.config.digest),
        repo_tags: Vec::new(),
        layers: platform.layers.iter().map(|l| blob_name(&l.blob.digest)).collect(),
    }
}

/// The index entries of one target: one per name, or one without a name.
fn annotated(target: &Descriptor, names: &[Reference]) -> Vec<Value> {
    let plain = json!({ "mediaType": target.media_type, "digest": target.digest, "size": target.size });
    let tagged: Vec<&Reference> = names.iter().filter(|n| n.tag().is_some()).collect();
    if tagged.is_empty() {
        return vec![plain];
    }
    let entry = |name: &&Reference| {
        let mut entry = plain.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": name.canonical(),
            "org.opencontainers.image.ref.name": name.tag(),
        });
        entry
    };
    tagged.iter().map(entry).collect()
}

/// The oldest form: repository, tag, top layer.
fn repositories(legacy: &[LegacyImage]) -> Value {
    let mut map: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for image in legacy {
        let top = image
            .layers
            .last()
            .and_then(|l| l.rsplit('/').next())
            .unwrap_or_default();
        for name in &image.repo_tags {
            if let Some((repository, tag)) = name.rsplit_once(':') {
                map.entry(repository.to_owned())
                    .or_default()
                    .insert(tag.to_owned(), top.to_owned());
            }
        }
    }
    json!(map)
}
