//! Images as callers see them.

use std::sync::Arc;
use std::time::SystemTime;

use crate::{Descriptor, Digest, ImageConfig, Manifest, Platform, Reference, Result, StoreError};

/// One image record with all its platforms.
#[derive(Clone, Debug)]
pub struct Image {
    /// The image id of Docker's containerd store: the digest of the target manifest or index.
    pub id: Digest,
    /// The target.
    pub target: Descriptor,
    /// Names with a tag, sorted (`RepoTags`, by [`Reference::familiar`]).
    pub tags: Vec<Reference>,
    /// All recorded names, those by digest included.
    pub names: Vec<Reference>,
    /// `repository@digest`, one per repository, sorted (`RepoDigests`).
    pub repo_digests: Vec<Reference>,
    /// When a name was last given (`Metadata.LastTagTime`).
    pub tagged_at: Option<SystemTime>,
    /// When the record was made here.
    pub stored_at: SystemTime,
    /// The image it was built on or committed from, if known.
    pub parent: Option<Digest>,
    /// Platforms whose manifest and configuration are here, in the index's order.
    pub platforms: Vec<Arc<PlatformImage>>,
    /// Bytes of all blobs here, of all platforms.
    pub content_size: u64,
    /// Bytes of all unpacked layers of all platforms.
    pub unpacked_size: u64,
}

impl Image {
    /// The content for a platform. `None` means the host's, or, failing that, the only one there is.
    pub fn platform(&self, wanted: Option<&Platform>) -> Result<&Arc<PlatformImage>> {
        let host = Platform::host();
        let platform = wanted.unwrap_or(&host);
        let found = self.platforms.iter().find(|p| platform.accepts(&p.platform));
        match (found, wanted, self.platforms.as_slice()) {
            (Some(found), _, _) => Ok(found),
            (None, None, [only]) => Ok(only),
            _ => Err(StoreError::NoSuchPlatform {
                image: self
                    .tags
                    .first()
                    .map_or_else(|| self.id.to_string(), Reference::familiar),
                platform: platform.to_string(),
            }),
        }
    }

    /// Whether no name leads here.
    pub fn is_dangling(&self) -> bool {
        self.names.is_empty()
    }

    /// `Size` of Docker's containerd store: content and unpacked layers.
    pub fn size(&self) -> u64 {
        self.content_size + self.unpacked_size
    }
}

/// One platform's manifest, configuration and layers.
#[derive(Debug)]
pub struct PlatformImage {
    /// Points to the manifest.
    pub manifest_descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration.
    pub config: ImageConfig,
    /// What it runs on.
    pub platform: Platform,
    /// The layers, bottom first.
    pub layers: Vec<Layer>,
    /// Bytes of manifest, configuration and layer blobs.
    pub content_size: u64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its plain tar.
    pub diff_id: Digest,
    /// The blob, compressed or not.
    pub blob: Descriptor,
}

/// A row of `docker history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The image's id, in the top row only (`<missing>` elsewhere).
    pub id: Option<Digest>,
    /// When the step was made, RFC 3339.
    pub created: Option<String>,
    /// By which instruction.
    pub created_by: String,
    /// A word about it.
    pub comment: String,
    /// Unpacked size of the step's layer; 0 if it has none.
    pub size: u64,
    /// The image's tags, in the top row only.
    pub tags: Vec<Reference>,
}

/// The rows of `docker history`, newest first. `size_of` tells the unpacked size of a layer.
pub(crate) fn history(image: &Image, platform: &PlatformImage, size_of: impl Fn(&Digest) -> u64) -> Vec<HistoryRow> {
    let mut layers = platform.layers.iter();
    let row = |step: &crate::History, size| HistoryRow {
        id: None,
        created: step.created.clone(),
        created_by: step.created_by.clone().unwrap_or_default(),
        comment: step.comment.clone().unwrap_or_default(),
        size,
        tags: Vec::new(),
    };
    let mut rows: Vec<HistoryRow> = Vec::new();
    for step in &platform.config.history {
        let size = match step.empty_layer {
            true => 0,
            false => layers.next().map_or(0, |l| size_of(&l.diff_id)),
        };
        rows.push(row(step, size));
    }
    rows.reverse();
    if let Some(top) = rows.first_mut() {
        top.id = Some(image.id.clone());
        top.tags = image.tags.clone();
    }
    rows
}
