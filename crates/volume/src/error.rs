//! What can go wrong with volumes.

use std::io;
use std::path::{Path, PathBuf};

/// A failed operation on a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume of this name. COMPAT: the text is Docker's.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// A name, driver or option that cannot be used; the text says which and why.
    #[error("{0}")]
    Invalid(String),
    /// The volume's file system could not be mounted. COMPAT: the text is Docker's.
    #[error("error while mounting volume '{}': failed to mount local volume: mount {device}:{}, data: {data}", path.display(), path.display())]
    Mount {
        /// Where.
        path: PathBuf,
        /// What.
        device: String,
        /// With which options.
        data: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Adds what was being done to which path to an I/O error.
pub(crate) trait FileContext<T> {
    /// Names the action and the path.
    fn at(self, action: &'static str, path: &Path) -> Result<T, VolumeError>;
}

impl<T, E: Into<io::Error>> FileContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, VolumeError> {
        self.map_err(|e| VolumeError::File {
            action,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}
