//! Image records: putting, finding, listing, tagging.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, Transaction, params};
use wharf_sys::failpoint;

use crate::database::{self, Durability, from_ns, now_ns};
use crate::error::DatabaseContext;
use crate::image::history;
use crate::store::lock;
use crate::{
    Descriptor, Digest, Document, HistoryRow, Image, ImageConfig, Layer, Lease, Manifest, PlatformImage, Reference,
    Result, Store, StoreError,
};

const COLUMNS: &str = "id, media_type, size, parent, stored_ns, tagged_ns";

/// COMPAT: Docker takes four digits or more for an id prefix.
const MIN_PREFIX_DIGITS: usize = 4;

/// The columns of one image record.
pub(crate) struct Record {
    pub(crate) target: Descriptor,
    parent: Option<Digest>,
    stored_ns: i64,
    tagged_ns: Option<i64>,
}

impl Store {
    /// Records an image whose content is here and names it. A name that led elsewhere moves; the image it led to
    /// stays, dangling. At least one platform must be complete.
    pub fn put_image(
        &self,
        lease: &Lease,
        target: &Descriptor,
        name: Option<&Reference>,
        parent: Option<&Digest>,
    ) -> Result<Arc<Image>> {
        lease.protect(&target.digest)?;
        failpoint::reach("store/image/unrecorded");
        let _gate = self.inner.writing();
        if self.complete_platforms(target)?.is_empty() {
            return Err(StoreError::malformed(
                format!("image {}", target.digest),
                "no platform of it is complete in the store",
            ));
        }
        database::transact(&mut self.inner.database(), Durability::Power, |t| {
            t.execute(
                "INSERT INTO images (id, media_type, size, parent, stored_ns) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET parent = coalesce(parent, excluded.parent)",
                params![
                    target.digest.as_str(),
                    target.media_type,
                    i64::try_from(target.size).unwrap_or(i64::MAX),
                    parent.map(Digest::as_str),
                    now_ns()
                ],
            )
            .during("recording an image")?;
            name.map_or(Ok(()), |name| put_name(t, name, &target.digest))
        })?;
        failpoint::reach("store/image/recorded");
        self.image(&target.digest)
    }

    /// Gives an image another name; a name that led elsewhere moves.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<()> {
        let _gate = self.inner.writing();
        database::transact(&mut self.inner.database(), Durability::Power, |t| {
            if !exists(t, id)? {
                return Err(StoreError::NoSuchImage(id.to_string()));
            }
            put_name(t, name, id)
        })
    }

    /// Finds an image by name, name@digest, id or unique id prefix, with or without `sha256:`.
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>> {
        let id = self.resolve_id(text)?;
        self.image(&id)
    }

    /// The image of this id.
    pub fn image(&self, id: &Digest) -> Result<Arc<Image>> {
        let record = {
            let database = self.inner.database();
            let sql = format!("SELECT {COLUMNS} FROM images WHERE id = ?1");
            database
                .query_row(&sql, [id.as_str()], read_record)
                .optional()
                .during("reading an image")?
        };
        let record = record.ok_or_else(|| StoreError::NoSuchImage(id.to_string()))??;
        let names = self.names_of(id)?;
        self.assemble(record, names).map(Arc::new)
    }

    /// Every image, the last one stored first. Images whose content is damaged are listed without platforms.
    pub fn images(&self) -> Result<Vec<Arc<Image>>> {
        let mut images = Vec::new();
        for record in self.records()? {
            let names = self.names_of(&record.target.digest)?;
            images.push(Arc::new(self.assemble(record, names)?));
        }
        Ok(images)
    }

    /// The ids of images whose recorded parent is this one.
    pub fn children(&self, id: &Digest) -> Result<Vec<Digest>> {
        let database = self.inner.database();
        let mut statement = database
            .prepare_cached("SELECT id FROM images WHERE parent = ?1")
            .during("reading children")?;
        let rows = statement
            .query_map([id.as_str()], |row| row.get::<_, String>(0))
            .during("reading children")?;
        rows.map(|row| Ok(Digest::parse(&row.during("reading children")?)?))
            .collect()
    }

    /// The rows of `docker history`, newest first.
    pub fn history(&self, image: &Image, platform: &PlatformImage) -> Result<Vec<HistoryRow>> {
        let mut sizes = std::collections::BTreeMap::new();
        for layer in &platform.layers {
            let size = match self.layer_size(&layer.diff_id) {
                Err(StoreError::NoSuchLayer(_)) => 0,
                other => other?,
            };
            sizes.insert(layer.diff_id.clone(), size);
        }
        Ok(history(image, platform, |diff_id| {
            sizes.get(diff_id).copied().unwrap_or(0)
        }))
    }

    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let database = self.inner.database();
        let sql = format!("SELECT {COLUMNS} FROM images ORDER BY stored_ns DESC, id");
        let mut statement = database.prepare_cached(&sql).during("listing images")?;
        let rows = statement.query_map([], read_record).during("listing images")?;
        rows.map(|row| row.during("listing images")?).collect()
    }

    /// The names that lead to an image, sorted.
    pub(crate) fn names_of(&self, id: &Digest) -> Result<Vec<Reference>> {
        let database = self.inner.database();
        let mut statement = database
            .prepare_cached("SELECT name FROM image_names WHERE image = ?1 ORDER BY name")
            .during("reading image names")?;
        let rows = statement
            .query_map([id.as_str()], |row| row.get::<_, String>(0))
            .during("reading image names")?;
        rows.map(|row| Ok(Reference::parse(&row.during("reading image names")?)?))
            .collect()
    }

    pub(crate) fn resolve_id(&self, text: &str) -> Result<Digest> {
        if let Ok(id) = Digest::parse(text).or_else(|_| Digest::from_sha256_hex(text)) {
            return self.existing(&id).map_err(|_| StoreError::NoSuchImage(text.to_owned()));
        }
        let prefix = id_prefix(text);
        match Reference::parse(text) {
            Ok(reference) => {
                let reference = reference.tagged();
                if let Some(id) = self.find_name(&reference)? {
                    return Ok(id);
                }
                match prefix {
                    Some(prefix) => self.find_prefix(prefix, &reference.familiar()),
                    None => Err(StoreError::NoSuchImage(reference.familiar())),
                }
            }
            Err(error) => match prefix {
                Some(prefix) => self.find_prefix(prefix, text),
                None => Err(error.into()),
            },
        }
    }

    fn existing(&self, id: &Digest) -> Result<Digest> {
        let database = self.inner.database();
        let found = database
            .query_row("SELECT 1 FROM images WHERE id = ?1", [id.as_str()], |_| Ok(()))
            .optional()
            .during("finding an image")?;
        found
            .map(|()| id.clone())
            .ok_or_else(|| StoreError::NoSuchImage(id.to_string()))
    }

    /// By exact name; with a digest, any image of that id that has a name in the same repository.
    fn find_name(&self, reference: &Reference) -> Result<Option<Digest>> {
        let Some(digest) = reference.digest() else {
            let database = self.inner.database();
            let found: Option<String> = database
                .prepare_cached("SELECT image FROM image_names WHERE name = ?1")
                .and_then(|mut s| s.query_row([reference.canonical()], |row| row.get(0)).optional())
                .during("finding an image by name")?;
            return found.map(|id| Ok(Digest::parse(&id)?)).transpose();
        };
        let named = self
            .names_of(digest)?
            .iter()
            .any(|name| name.same_repository(reference));
        Ok(named.then(|| digest.clone()))
    }

    fn find_prefix(&self, prefix: &str, shown: &str) -> Result<Digest> {
        let database = self.inner.database();
        let mut statement = database
            .prepare_cached("SELECT id FROM images WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2")
            .during("finding an image by id")?;
        let rows = statement.query_map([format!("sha256:{prefix}")], |row| row.get::<_, String>(0));
        let found: Vec<String> = rows.and_then(|rows| rows.collect()).during("finding an image by id")?;
        match found.as_slice() {
            [] => Err(StoreError::NoSuchImage(shown.to_owned())),
            [id] => Ok(Digest::parse(id)?),
            _ => Err(StoreError::AmbiguousId(prefix.to_owned())),
        }
    }

    fn assemble(&self, record: Record, names: Vec<Reference>) -> Result<Image> {
        let id = record.target.digest.clone();
        let platforms = match self.complete_platforms(&record.target) {
            Ok(platforms) => platforms,
            Err(error) if error.kind() != crate::StoreErrorKind::Internal => {
                tracing::warn!(image = %id, %error, "an image cannot be read");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let repositories: BTreeSet<Reference> = names.iter().map(|n| n.with_digest(id.clone())).collect();
        let mut blobs = BTreeSet::new();
        let mut trees = BTreeSet::new();
        for platform in &platforms {
            blobs.insert((
                platform.manifest_descriptor.digest.clone(),
                platform.manifest_descriptor.size,
            ));
            blobs.insert((platform.manifest.config.digest.clone(), platform.manifest.config.size));
            blobs.extend(platform.layers.iter().map(|l| (l.blob.digest.clone(), l.blob.size)));
            trees.extend(platform.layers.iter().map(|l| l.diff_id.clone()));
        }
        blobs.insert((id.clone(), record.target.size));
        Ok(Image {
            tags: names.iter().filter(|n| n.tag().is_some()).cloned().collect(),
            repo_digests: repositories.into_iter().collect(),
            names,
            tagged_at: record.tagged_ns.map(from_ns),
            stored_at: from_ns(record.stored_ns),
            parent: record.parent,
            content_size: blobs.iter().map(|(_, size)| size).sum(),
            unpacked_size: trees.iter().filter_map(|t| self.layer_size(t).ok()).sum(),
            platforms,
            target: record.target,
            id,
        })
    }

    /// The platforms of a target whose manifest, configuration and layers are here, attestations left out.
    pub(crate) fn complete_platforms(&self, target: &Descriptor) -> Result<Vec<Arc<PlatformImage>>> {
        let document = self.document(&target.digest, &target.media_type)?;
        let candidates = match &*document {
            Document::Manifest(_) => vec![target.clone()],
            Document::Index(index) => index.manifests.clone(),
        };
        let mut complete = Vec::new();
        for candidate in candidates.iter().filter(|c| !c.is_attestation()) {
            if let Some(image) = self.platform_image(candidate)? {
                complete.push(image);
            }
        }
        Ok(complete)
    }

    /// Reads one platform's manifest; `None` if it, its configuration or one of its layers is not here.
    fn platform_image(&self, descriptor: &Descriptor) -> Result<Option<Arc<PlatformImage>>> {
        if let Some(found) = lock(&self.inner.platform_images).get(&descriptor.digest) {
            return Ok(Some(found.clone()));
        }
        if !self.has_blob(&descriptor.digest)? {
            return Ok(None);
        }
        let document = self.document(&descriptor.digest, &descriptor.media_type)?;
        let Document::Manifest(manifest) = &*document else {
            return Ok(None);
        };
        if !self.has_blob(&manifest.config.digest)? {
            return Ok(None);
        }
        let config = self.read_config(manifest)?;
        let layers = pair_layers(&descriptor.digest, manifest, &config)?;
        for layer in &layers {
            if !self.has_blob(&layer.blob.digest)? && !self.has_layer(&layer.diff_id) {
                return Ok(None);
            }
        }
        let image = Arc::new(PlatformImage {
            content_size: descriptor.size + manifest.config.size + layers.iter().map(|l| l.blob.size).sum::<u64>(),
            platform: descriptor.platform.clone().unwrap_or_else(|| config.platform()),
            manifest_descriptor: descriptor.clone(),
            manifest: manifest.clone(),
            config,
            layers,
        });
        lock(&self.inner.platform_images).insert(descriptor.digest.clone(), image.clone());
        Ok(Some(image))
    }

    /// Reads the configuration of a manifest that is here.
    pub fn read_config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        let digest = &manifest.config.digest;
        let bytes = self.read_blob(digest)?;
        ImageConfig::parse(&bytes)
            .map_err(|e| StoreError::malformed(format!("image configuration {digest}"), e.to_string()))
    }
}

/// Joins the layers of a manifest with the diff ids of its configuration.
pub fn pair_layers(digest: &Digest, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<Layer>> {
    let diff_ids = &config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        let reason = format!(
            "it has {} layers, its configuration {}",
            manifest.layers.len(),
            diff_ids.len()
        );
        return Err(StoreError::malformed(format!("manifest {digest}"), reason));
    }
    let pairs = diff_ids.iter().zip(&manifest.layers);
    Ok(pairs
        .map(|(diff_id, blob)| Layer {
            diff_id: diff_id.clone(),
            blob: blob.clone(),
        })
        .collect())
}

fn put_name(transaction: &Transaction<'_>, name: &Reference, id: &Digest) -> Result<()> {
    // COMPAT: a name with both tag and digest is one by digest.
    let name = match name.digest() {
        Some(digest) => name.with_digest(digest.clone()).canonical(),
        None => name.clone().tagged().canonical(),
    };
    transaction
        .execute(
            "INSERT INTO image_names (name, image) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET image = excluded.image",
            [name.as_str(), id.as_str()],
        )
        .and_then(|_| {
            transaction.execute("UPDATE images SET tagged_ns = ?2 WHERE id = ?1", params![id.as_str(), now_ns()])
        })
        .map(drop)
        .during("naming an image")
}

pub(crate) fn exists(transaction: &Transaction<'_>, id: &Digest) -> Result<bool> {
    let found = transaction.query_row("SELECT 1 FROM images WHERE id = ?1", [id.as_str()], |_| Ok(()));
    found.optional().map(|f| f.is_some()).during("finding an image")
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<Result<Record>> {
    let id: String = row.get(0)?;
    let media_type: String = row.get(1)?;
    let size = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
    let parent: Option<String> = row.get(3)?;
    let (stored_ns, tagged_ns) = (row.get(4)?, row.get(5)?);
    let parse = || {
        let target = Descriptor::new(&media_type, Digest::parse(&id)?, size);
        let parent = parent.as_deref().map(Digest::parse).transpose()?;
        Ok(Record {
            target,
            parent,
            stored_ns,
            tagged_ns,
        })
    };
    Ok(parse())
}

fn id_prefix(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && (MIN_PREFIX_DIGITS..64).contains(&digits.len())).then_some(digits)
}
