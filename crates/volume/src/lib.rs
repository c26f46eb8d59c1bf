//! Named and anonymous volumes.
#![allow(clippy::todo, missing_docs)]

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// COMPAT: Docker's text is `get <name>: no such volume`.
    #[error("get {0}: no such volume")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// One volume's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// RFC 3339.
    pub created_at: String,
    /// Whether nobody named it.
    pub anonymous: bool,
    #[serde(skip)]
    pub mountpoint: PathBuf,
}

/// What to create.
#[derive(Clone, Debug, Default)]
pub struct NewVolume {
    /// Empty: a fresh 64-digit name, and the volume counts as anonymous.
    pub name: String,
    /// Empty: `local`.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone)]
pub struct Volumes(());

impl Volumes {
    pub fn open(root: &Path) -> Result<Volumes, VolumeError> { let _ = root; todo!() }
    /// Idempotent by name: a volume that exists is returned as it is.
    pub fn create(&self, new: NewVolume) -> Result<Volume, VolumeError> { let _ = new; todo!() }
    pub fn inspect(&self, name: &str) -> Result<Volume, VolumeError> { let _ = name; todo!() }
    /// Sorted by name.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> { todo!() }
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> { let _ = name; todo!() }
    /// Makes the data directory usable (mounts `type`/`device` volumes) and returns the host path to bind. Counted per process: undo with [`Volumes::release`].
    pub fn attach(&self, name: &str) -> Result<PathBuf, VolumeError> { let _ = name; todo!() }
    pub fn release(&self, name: &str) -> Result<(), VolumeError> { let _ = name; todo!() }
    /// Copy-up: if the volume is empty, copies `path` (resolved inside `rootfs`) into it with owners, modes, xattrs and links; the mountpoint takes the directory's owner and mode.
    pub fn fill(&self, name: &str, rootfs: BorrowedFd<'_>, path: &Path) -> Result<(), VolumeError> { let _ = (name, rootfs, path); todo!() }
    /// Bytes of its files.
    pub fn size(&self, name: &str) -> Result<u64, VolumeError> { let _ = name; todo!() }
}
