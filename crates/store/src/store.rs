//! The store itself: its directories, its locks and what it clears when it is opened.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::error::FileContext;
use crate::take::InFlight;
use crate::{Digest, Document, PlatformImage, Result, database, inroot};

/// The store; cheap to clone, safe to share between threads.
///
/// One process at a time may hold a root (the engine takes care of that).
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    database: Mutex<Connection>,
    /// Shared by whoever protects content or records an image; exclusive for the collector. Taken before `database`.
    gate: RwLock<()>,
    /// Layers being taken in, by blob.
    pub(crate) in_flight: Mutex<InFlight>,
    pub(crate) in_flight_changed: Condvar,
    /// Parsed manifests and indexes; content never changes, so these are dropped only with their blobs.
    pub(crate) documents: Mutex<HashMap<Digest, Arc<Document>>>,
    pub(crate) platform_images: Mutex<HashMap<Digest, Arc<PlatformImage>>>,
    pub(crate) layer_sizes: Mutex<HashMap<Digest, u64>>,
    /// Images that something is about to use, with how many such uses; see `Store::hold_image`.
    pub(crate) held_images: Mutex<HashMap<Digest, usize>>,
    /// Distinguishes this process's leases and scratch names from those of earlier ones.
    pub(crate) session: String,
    counter: AtomicU64,
}

/// Locks a mutex whose holders leave it consistent even when they panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells ext4 that what is in `parent` are unrelated hierarchies: each directory gets block groups of its own. The files
/// of one (a layer, say) lie together then, and making them does not search through the inodes of one that was just
/// removed.
pub fn keep_apart(parent: &Path) {
    let set = || -> std::io::Result<()> {
        let dir = fs::File::open(parent)?;
        let flags = ioctl_getflags(&dir)?;
        if !flags.contains(IFlags::TOPDIR) {
            ioctl_setflags(&dir, flags | IFlags::TOPDIR)?;
        }
        Ok(())
    };
    if let Err(error) = set() {
        tracing::debug!(path = %parent.display(), %error, "the file system does not keep directories apart");
    }
}

impl Store {
    /// Opens or creates the store below `root` and clears what a killed process left half-done. Partial downloads
    /// and the leases of earlier processes stay until their deadline, so that a pull can be resumed.
    pub fn open(root: &Path) -> Result<Store> {
        for dir in ["", "content/sha256", "content/sha512", "ingest", "layers"] {
            let path = root.join(dir);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&path)
                .at("creating", &path)?;
        }
        for private in ["content", "ingest"] {
            let path = root.join(private);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).at("setting the mode of", &path)?;
        }
        keep_apart(&root.join("layers"));
        let connection = database::open(&root.join("wharf.db"))?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let inner = Inner {
            root: root.to_owned(),
            database: Mutex::new(connection),
            gate: RwLock::new(()),
            in_flight: Mutex::new(InFlight::default()),
            in_flight_changed: Condvar::new(),
            documents: Mutex::new(HashMap::new()),
            platform_images: Mutex::new(HashMap::new()),
            layer_sizes: Mutex::new(HashMap::new()),
            held_images: Mutex::new(HashMap::new()),
            session: format!("{:x}-{:x}", std::process::id(), since_epoch.as_nanos()),
            counter: AtomicU64::new(0),
        };
        let store = Store { inner: Arc::new(inner) };
        store.clear_unfinished()?;
        Ok(store)
    }

    /// The engine's root directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Drops what is remembered of a blob or layer that goes.
    pub(crate) fn forget(&self, digest: &Digest) {
        lock(&self.inner.documents).remove(digest);
        lock(&self.inner.layer_sizes).remove(digest);
        let uses = |image: &PlatformImage| {
            image.manifest.config.digest == *digest
                || image
                    .layers
                    .iter()
                    .any(|l| l.diff_id == *digest || l.blob.digest == *digest)
        };
        lock(&self.inner.platform_images).retain(|manifest, image| manifest != digest && !uses(image));
    }

    /// Removes the scratch of earlier processes, recognisable by its name.
    fn clear_unfinished(&self) -> Result<()> {
        for dir in [self.inner.ingest_dir(), self.inner.layers_dir()] {
            for entry in fs::read_dir(&dir).at("listing", &dir)? {
                let path = entry.at("listing", &dir)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if [".tmp-", ".new-", ".gone-"].iter().any(|p| name.starts_with(p)) {
                    inroot::remove_path(&path).at("removing", &path)?;
                }
            }
        }
        Ok(())
    }
}

impl Inner {
    pub(crate) fn content_path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("content")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    pub(crate) fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.ingest_dir()
            .join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers_dir().join(diff_id.hex())
    }

    /// A path that no other operation uses; `prefix` is one that [`Store::open`] clears.
    pub(crate) fn scratch(&self, dir: &Path, prefix: &str) -> PathBuf {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        dir.join(format!("{prefix}{}-{n}", self.session))
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Connection> {
        lock(&self.database)
    }

    /// Held while content is protected or recorded.
    pub(crate) fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by the collector.
    pub(crate) fn collecting(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }
}
