//! The build cache: what a step made, by what it was made from.
//!
//! ```text
//! <root>/build-cache/<key>.json   one record: when the step was done, which layer it made
//! pin build-cache/<key>           keeps the record's layer and blob from being collected
//! ```
//! A record whose layer is gone is no hit. The number of records and their bytes are capped; the
//! least recently used go first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use wharf_store::{Descriptor, Digest, Lease, Store};
use wharf_sys::failpoint;

use crate::BuildError;
use crate::exec::store_failed;

/// Records kept at most.
const MAX_RECORDS: usize = 2000;
/// Bytes of layers kept for the cache's sake at most.
const MAX_BYTES: u64 = 10 << 30;
/// Prefix of the store's pins.
const PIN: &str = "build-cache/";

/// Identifies what a step is made from; 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey(String);

impl CacheKey {
    /// The key of a step: the state before it and everything that its result depends on.
    pub(crate) fn of(state: &Digest, parts: &[&str]) -> Self {
        let mut text = state.to_string();
        for part in parts {
            text.push_str(&format!("\n{}:{part}", part.len()));
        }
        Self(Digest::of(text.as_bytes()).hex().to_string())
    }
}

/// What a step made.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Made {
    /// When, RFC 3339; kept on a hit, so that the same build gives the same image.
    pub(crate) created: String,
    /// The layer, if any.
    pub(crate) layer: Option<MadeLayer>,
    /// The instruction, for `docker system df -v`.
    pub(crate) description: String,
}

/// A layer in a record.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct MadeLayer {
    pub(crate) diff_id: Digest,
    pub(crate) blob: Descriptor,
}

/// One record, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// 64 hex digits.
    pub id: String,
    /// The instruction.
    pub description: String,
    /// Bytes of its unpacked layer.
    pub size_bytes: u64,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When a build used it last.
    pub last_used: SystemTime,
}

/// What a prune took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedCache {
    /// Ids of the records.
    pub ids: Vec<String>,
    /// Bytes of their layers; the store frees them unless an image holds them too.
    pub bytes: u64,
}

/// Whose half-made things are removed: those that no living build can be making any more, or all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    Stale,
    Any,
}

/// The cache of one store.
#[derive(Clone, Copy)]
pub struct BuildCache<'a> {
    store: &'a Store,
}

impl<'a> BuildCache<'a> {
    /// The cache kept beside this store.
    pub fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Every record, least recently used first. What cannot be read is left out.
    pub fn records(&self) -> Result<Vec<CacheRecord>, BuildError> {
        let mut records: Vec<CacheRecord> = self
            .files(Age::Stale)?
            .into_iter()
            .filter_map(|(id, path)| self.describe(id, &path))
            .collect();
        records.sort_by_key(|record| record.last_used);
        Ok(records)
    }

    /// Forgets records that were last used before `before` (all when absent), then the caches that
    /// `RUN --mount=type=cache` keeps, unless a build uses them now. The caller lets the store
    /// collect afterwards.
    pub fn prune(&self, before: Option<SystemTime>) -> Result<PrunedCache, BuildError> {
        let mut pruned = PrunedCache::default();
        for record in self.records()? {
            if before.is_none_or(|before| record.last_used < before) {
                self.forget(&record.id)?;
                pruned.bytes += record.size_bytes;
                pruned.ids.push(record.id);
            }
        }
        self.unpin_orphans(Age::Stale)?;
        if before.is_none() {
            crate::exec::drop_cache_mounts(self.store.root());
        }
        Ok(pruned)
    }

    /// What the step of this key made, if all of it is still here; protected by `lease` then.
    pub(crate) fn find(&self, key: &CacheKey, lease: &Lease) -> Result<Option<Made>, BuildError> {
        let path = self.path(&key.0);
        let Some(made) = read_record(&path) else {
            return Ok(None);
        };
        if let Some(layer) = &made.layer {
            // ORDER: protect, then look: a collection in between cannot take it any more.
            for digest in [&layer.diff_id, &layer.blob.digest] {
                lease
                    .protect(digest)
                    .map_err(|error| store_failed("protecting a cached layer", error))?;
            }
            let blob = self
                .store
                .blob_size(&layer.blob.digest)
                .map_err(|error| store_failed("looking for a cached layer", error))?;
            if blob.is_none() || !self.store.has_layer(&layer.diff_id) {
                return Ok(None);
            }
        }
        touch(&path);
        Ok(Some(made))
    }

    /// Remembers what a step made, replacing an older record.
    pub(crate) fn remember(&self, key: &CacheKey, made: &Made) -> Result<(), BuildError> {
        let path = self.path(&key.0);
        if let Some(layer) = &made.layer {
            let digests = [layer.diff_id.clone(), layer.blob.digest.clone()];
            self.store
                .pin(&format!("{PIN}{}", key.0), &digests)
                .map_err(|error| store_failed("pinning a cached layer", error))?;
            failpoint::reach("build/cache/pinned");
        }
        let text = serde_json::to_vec(made).map_err(|error| BuildError::internal("writing a cache record", error))?;
        let failed =
            |error: std::io::Error| BuildError::internal(format!("writing {}: {error}", path.display()), error);
        let temporary = path.with_extension(format!("tmp-{}", crate::scratch::random_hex(4)?));
        fs::create_dir_all(self.dir())
            .and_then(|()| fs::write(&temporary, text))
            .map_err(failed)?;
        failpoint::reach("build/cache/written");
        fs::rename(&temporary, &path).map_err(failed)?;
        failpoint::reach("build/cache/kept");
        Ok(())
    }

    /// Removes what builds of a killed process left half made. Only for a process in which no build runs yet, and
    /// that alone uses the store.
    pub(crate) fn clear_after_death(&self) -> Result<(), BuildError> {
        self.files(Age::Any)?;
        self.unpin_orphans(Age::Any)
    }

    /// Keeps the cache inside its caps.
    pub(crate) fn trim(&self) -> Result<(), BuildError> {
        let records = self.records()?;
        let mut count = records.len();
        let mut bytes: u64 = records.iter().map(|record| record.size_bytes).sum();
        for record in records {
            if count <= MAX_RECORDS && bytes <= MAX_BYTES {
                break;
            }
            self.forget(&record.id)?;
            count -= 1;
            bytes -= record.size_bytes;
        }
        self.unpin_orphans(Age::Stale)
    }

    fn forget(&self, id: &str) -> Result<(), BuildError> {
        remove_file(&self.path(id))?;
        failpoint::reach("build/cache/forgotten");
        self.store
            .unpin(&format!("{PIN}{id}"))
            .map_err(|error| store_failed("unpinning a cached layer", error))
    }

    /// Drops pins whose record was never written, because the process died in between.
    fn unpin_orphans(&self, of: Age) -> Result<(), BuildError> {
        let pins = self
            .store
            .pins(PIN)
            .map_err(|error| store_failed("listing cached layers", error))?;
        let young = |made: SystemTime| of == Age::Stale && made.elapsed().map_or(true, |age| age.as_secs() < 60);
        for pin in pins.iter().filter(|pin| !young(pin.created)) {
            let id = pin.name.trim_start_matches(PIN);
            if !self.path(id).exists() {
                self.store
                    .unpin(&pin.name)
                    .map_err(|error| store_failed("unpinning a cached layer", error))?;
            }
        }
        Ok(())
    }

    fn describe(&self, id: String, path: &Path) -> Option<CacheRecord> {
        let made = read_record(path)?;
        let layer = made.layer.as_ref();
        Some(CacheRecord {
            size_bytes: layer
                .and_then(|layer| self.store.layer_size(&layer.diff_id).ok())
                .unwrap_or(0),
            last_used: fs::metadata(path).and_then(|meta| meta.modified()).ok()?,
            description: made.description,
            created: made.created,
            id,
        })
    }

    fn dir(&self) -> PathBuf {
        self.store.root().join("build-cache")
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir().join(format!("{id}.json"))
    }

    /// Ids and paths of the records. Half-written ones of killed processes are removed.
    fn files(&self, of: Age) -> Result<Vec<(String, PathBuf)>, BuildError> {
        let dir = self.dir();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(BuildError::internal(format!("listing {}", dir.display()), error));
            }
        };
        let mut files = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.split_once('.') {
                Some((id, "json")) => files.push((id.to_string(), path)),
                Some((_, rest)) if rest.starts_with("tmp-") && (of == Age::Any || is_stale(&path)) => {
                    remove_file(&path)?;
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

/// A record that is not there or damaged is no record.
fn read_record(path: &Path) -> Option<Made> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Marks a record as used now.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let touched = fs::File::open(path).and_then(|file| file.set_modified(now));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "cannot mark a cache record as used");
    }
}

fn is_stale(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 60))
}

fn remove_file(path: &Path) -> Result<(), BuildError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BuildError::internal(format!("removing {}", path.display()), error))
        }
        _ => Ok(()),
    }
}
