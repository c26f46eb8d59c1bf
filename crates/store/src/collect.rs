//! Garbage collection: what no record and no living lease leads to, goes.
//!
//! Marking and moving away happen under the exclusive gate, so nobody can protect or record anything in between;
//! the slow deletion comes after. Anything moved away but not deleted is recognised by its name at the next start.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::params;
use wharf_sys::failpoint;

use crate::database::now_ns;
use crate::error::{DatabaseContext, FileContext};
use crate::store::lock;
use crate::{Digest, Document, Image, ImageConfig, Result, Store, inroot};

/// How long an unfinished download is kept for a later attempt.
const PARTIAL_AGE: Duration = Duration::from_secs(24 * 3600);

/// How much the collector takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcScope {
    /// What nothing references. Partial downloads stay for a day.
    Unreferenced,
    /// Also every partial download that nobody is writing, and the leases of processes that are gone (prune).
    Everything,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs, partial ones included.
    pub blobs: Vec<Digest>,
    /// Layers, by diff id.
    pub layers: Vec<Digest>,
    /// Bytes of both.
    pub bytes: u64,
}

/// Everything that must stay.
#[derive(Default)]
struct Marks {
    blobs: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
    /// What living leases and pins name themselves.
    leased: BTreeSet<Digest>,
}

impl Store {
    /// Deletes content that no image, pin or living lease references.
    pub fn gc(&self, scope: GcScope) -> Result<Collected> {
        let mut collected = Collected::default();
        let moved = {
            let _gate = self.inner.collecting();
            let marks = self.mark(scope)?;
            failpoint::reach("store/gc/marked");
            let mut moved = self.sweep_blobs(&marks, &mut collected)?;
            failpoint::reach("store/gc/blobs");
            moved.extend(self.sweep_layers(&marks, &mut collected)?);
            failpoint::reach("store/gc/layers");
            moved.extend(self.sweep_partials(&marks, scope, &mut collected)?);
            moved
        };
        failpoint::reach("store/gc/moved");
        for path in moved {
            inroot::remove_path(&path).at("removing", &path)?;
        }
        Ok(collected)
    }

    /// Bytes of all blobs (partial ones included) and unpacked layers.
    pub fn disk_usage(&self) -> Result<u64> {
        let mut total = 0;
        for dir in self.content_dirs().into_iter().chain([self.inner.ingest_dir()]) {
            for entry in fs::read_dir(&dir).at("listing", &dir)? {
                total += entry
                    .at("listing", &dir)?
                    .metadata()
                    .map_or(0, |m| if m.is_file() { m.len() } else { 0 });
            }
        }
        Ok(total + self.layer_sizes()?.values().sum::<u64>())
    }

    /// The distinct blobs and layers of one image, from which callers compute what images share.
    pub fn parts(&self, image: &Image) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>)> {
        let mut marks = Marks::default();
        self.mark_target(&image.id, &image.target.media_type, &mut marks)?;
        Ok((marks.blobs, marks.layers))
    }

    fn mark(&self, scope: GcScope) -> Result<Marks> {
        let mut marks = Marks::default();
        for record in self.records()? {
            self.mark_target(&record.target.digest, &record.target.media_type, &mut marks)?;
        }
        for digest in self.leased(scope)? {
            marks.layers.insert(digest.clone());
            marks.leased.insert(digest.clone());
            self.mark_target(&digest, "", &mut marks)?;
        }
        Ok(marks)
    }

    /// Drops leases that have ended and returns what the others protect.
    fn leased(&self, scope: GcScope) -> Result<Vec<Digest>> {
        let database = self.inner.database();
        let everything = scope == GcScope::Everything;
        database
            .execute(
                "DELETE FROM leases WHERE deadline_ns IS NOT NULL AND (deadline_ns < ?1 OR (?2 AND session <> ?3))",
                params![now_ns(), everything, self.inner.session],
            )
            .during("ending leases")?;
        let mut statement = database
            .prepare_cached("SELECT DISTINCT digest FROM lease_refs")
            .during("reading leases")?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .during("reading leases")?;
        rows.map(|row| Ok(Digest::parse(&row.during("reading leases")?)?))
            .collect()
    }

    /// Marks a blob and, if it is a manifest or index, everything below it. Unreadable documents mark themselves
    /// only: fsck reports them.
    fn mark_target(&self, digest: &Digest, media_type: &str, marks: &mut Marks) -> Result<()> {
        if !marks.blobs.insert(digest.clone()) {
            return Ok(());
        }
        let known = lock(&self.inner.documents).contains_key(digest);
        if !known && !self.may_be_document(digest)? {
            return Ok(());
        }
        let Ok(document) = self.document(digest, media_type) else {
            return Ok(());
        };
        match &*document {
            Document::Index(index) => {
                for manifest in &index.manifests {
                    self.mark_target(&manifest.digest, &manifest.media_type, marks)?;
                }
            }
            Document::Manifest(manifest) => {
                marks.blobs.insert(manifest.config.digest.clone());
                marks.blobs.extend(manifest.layers.iter().map(|l| l.digest.clone()));
                marks.layers.extend(self.diff_ids(digest, &manifest.config.digest)?);
            }
        }
        Ok(())
    }

    /// The diff ids of a manifest's configuration; none if it is not here or is none.
    fn diff_ids(&self, manifest: &Digest, config: &Digest) -> Result<Vec<Digest>> {
        if let Some(known) = lock(&self.inner.platform_images).get(manifest) {
            return Ok(known.config.rootfs.diff_ids.clone());
        }
        match self.read_blob(config) {
            Ok(bytes) => Ok(ImageConfig::parse(&bytes)
                .map(|c| c.rootfs.diff_ids)
                .unwrap_or_default()),
            Err(error) if error.kind() == crate::StoreErrorKind::Internal => Err(error),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Spares the collector from reading compressed layers as documents.
    fn may_be_document(&self, digest: &Digest) -> Result<bool> {
        if self
            .blob_size(digest)?
            .is_none_or(|size| size > crate::MAX_DOCUMENT_BYTES)
        {
            return Ok(false);
        }
        let mut first = [0u8; 1];
        let n = self
            .open_blob(digest)?
            .read(&mut first)
            .at("reading", &self.inner.content_path(digest))?;
        Ok(n == 1 && matches!(first[0], b'{' | b' ' | b'\n' | b'\t' | b'\r'))
    }

    fn content_dirs(&self) -> Vec<PathBuf> {
        ["sha256", "sha512"]
            .map(|name| self.root().join("content").join(name))
            .to_vec()
    }

    fn sweep_blobs(&self, marks: &Marks, collected: &mut Collected) -> Result<Vec<PathBuf>> {
        let mut moved = Vec::new();
        for dir in self.content_dirs() {
            for (digest, path, size) in blobs_in(&dir)? {
                if !marks.blobs.contains(&digest) {
                    moved.push(self.move_away(&path, &self.inner.ingest_dir())?);
                    self.forget(&digest);
                    collected.bytes += size;
                    collected.blobs.push(digest);
                }
            }
        }
        Ok(moved)
    }

    fn sweep_layers(&self, marks: &Marks, collected: &mut Collected) -> Result<Vec<PathBuf>> {
        let mut moved = Vec::new();
        for diff_id in self.inner.unpacked_layers()? {
            if !marks.layers.contains(&diff_id) {
                collected.bytes += self.layer_size(&diff_id).unwrap_or(0);
                moved.push(self.move_away(&self.inner.layer_path(&diff_id), &self.inner.layers_dir())?);
                self.forget(&diff_id);
                collected.layers.push(diff_id);
            }
        }
        Ok(moved)
    }

    fn sweep_partials(&self, marks: &Marks, scope: GcScope, collected: &mut Collected) -> Result<Vec<PathBuf>> {
        let dir = self.inner.ingest_dir();
        let in_flight = lock(&self.inner.in_flight);
        let mut moved = Vec::new();
        for entry in fs::read_dir(&dir).at("listing", &dir)? {
            let entry = entry.at("listing", &dir)?;
            let Some(digest) = entry.file_name().to_str().and_then(partial_digest) else {
                continue;
            };
            let Ok(meta) = entry.metadata() else { continue };
            let old = meta.modified().is_ok_and(|t| t + PARTIAL_AGE < SystemTime::now());
            let wanted = in_flight.is_active(&digest) || marks.leased.contains(&digest);
            let stays = wanted || (scope == GcScope::Unreferenced && !old);
            if stays {
                continue;
            }
            moved.push(self.move_away(&entry.path(), &dir)?);
            collected.bytes += meta.len();
            collected.blobs.push(digest);
        }
        Ok(moved)
    }

    fn move_away(&self, path: &Path, dir: &Path) -> Result<PathBuf> {
        let gone = self.inner.scratch(dir, ".gone-");
        fs::rename(path, &gone).at("moving away", path)?;
        Ok(gone)
    }
}

/// The blobs of a content directory: digest, path and size.
pub(crate) fn blobs_in(dir: &Path) -> Result<Vec<(Digest, PathBuf, u64)>> {
    let algorithm = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).at("listing", dir)? {
        let entry = entry.at("listing", dir)?;
        let name = entry.file_name();
        let Ok(digest) = Digest::parse(&format!("{algorithm}:{}", name.to_string_lossy())) else {
            continue;
        };
        let size = entry.metadata().map_or(0, |m| m.len());
        found.push((digest, entry.path(), size));
    }
    found.sort();
    Ok(found)
}

fn partial_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}
