//! What can go wrong in the store, in the classes that the engine answers with.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Digest, DigestError, ManifestError, PlatformError, ReferenceError};

/// The class of a [`StoreError`], for whoever has to choose a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// A named thing is not there.
    NotFound,
    /// The request contradicts what is there.
    Conflict,
    /// The input is wrong: a name, an archive, a document, a digest.
    Invalid,
    /// The machine failed: disk, database.
    Internal,
}

/// A failed operation of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No image under this name or id. COMPAT: the text is Docker's.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// An id prefix that fits several images.
    #[error("image id prefix {0:?} is ambiguous")]
    AmbiguousId(String),
    /// An image exists, but not for this platform.
    #[error("image {image} was found but does not provide the platform {platform}")]
    NoSuchPlatform {
        /// The image.
        image: String,
        /// The wanted platform.
        platform: String,
    },
    /// Content that a record or caller names is not in the store.
    #[error("content {0} not found in the store")]
    NoSuchContent(Digest),
    /// A layer that is not unpacked.
    #[error("layer {0} is not unpacked")]
    NoSuchLayer(Digest),
    /// Content whose bytes have another digest than was promised.
    #[error("content digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// A layer whose unpacked tar has another digest than the configuration says.
    #[error("layer {blob}: wrong diff id: expected {expected}, got {actual}")]
    DiffIdMismatch {
        /// The compressed blob.
        blob: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What the tar is.
        actual: Digest,
    },
    /// Content of another length than was promised.
    #[error("content {digest} is {actual} bytes long, expected {expected}")]
    SizeMismatch {
        /// The content.
        digest: Digest,
        /// The promised length.
        expected: u64,
        /// The length found.
        actual: u64,
    },
    /// Bytes that end before the promised length: the source was cut off. The partial content stays and is resumed.
    #[error("content {digest} ends after {actual} of {expected} bytes")]
    Truncated {
        /// The content.
        digest: Digest,
        /// The promised length.
        expected: u64,
        /// The length so far.
        actual: u64,
    },
    /// A document or archive that cannot be used.
    #[error("{what}: {reason}")]
    Malformed {
        /// Which document or archive.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest or index that cannot be used.
    #[error("manifest {digest} cannot be used")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// An entry of a tar that is refused or cannot be created.
    #[error(transparent)]
    Extract(#[from] crate::extract::ExtractError),
    /// A wrong image name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A wrong digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A wrong platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A lease that was dropped or has passed its deadline.
    #[error("lease {0} has ended")]
    LeaseEnded(String),
    /// The bytes handed in could not be read.
    #[error("reading {what}")]
    Source {
        /// Which bytes.
        what: String,
        /// Why.
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
    /// The database failed.
    #[error("image database: {action}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// The class of this error.
    pub fn kind(&self) -> StoreErrorKind {
        use StoreError as E;
        match self {
            E::NoSuchImage(_) | E::NoSuchPlatform { .. } | E::NoSuchContent(_) | E::NoSuchLayer(_) => {
                StoreErrorKind::NotFound
            }
            E::LeaseEnded(_) => StoreErrorKind::Conflict,
            E::AmbiguousId(_)
            | E::DigestMismatch { .. }
            | E::DiffIdMismatch { .. }
            | E::SizeMismatch { .. }
            | E::Truncated { .. }
            | E::Malformed { .. }
            | E::Manifest { .. }
            | E::Reference(_)
            | E::Digest(_)
            | E::Platform(_) => StoreErrorKind::Invalid,
            E::Extract(e) if e.is_refusal() => StoreErrorKind::Invalid,
            E::Extract(_) | E::Source { .. } | E::File { .. } | E::Database { .. } => StoreErrorKind::Internal,
        }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl Into<String>) -> StoreError {
        StoreError::Malformed {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// Adds what was being done to which path to an I/O error.
pub(crate) trait FileContext<T> {
    /// Names the action and the path.
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> FileContext<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::File {
            action,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}

/// Adds what was being done to a database error.
pub(crate) trait DatabaseContext<T> {
    /// Names the action.
    fn during(self, action: &'static str) -> Result<T, StoreError>;
}

impl<T> DatabaseContext<T> for Result<T, rusqlite::Error> {
    fn during(self, action: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { action, source })
    }
}
