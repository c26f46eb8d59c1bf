//! Reading a configuration that may be anything: bounded, and with errors
//! that name the field.

use super::{Spec, nulls, place};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The largest configuration that is read, in bytes. Engines write some ten
/// thousand.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Why a bundle's configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("read {path}: it is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a configuration.
    #[error("parse {path}: {place}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The field with the wrong value, such as `process.args[0]`.
        place: String,
        /// The cause, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A list stands where the specification has an object.
    #[error("parse {path}: {place}: is a list, not an object")]
    NotAnObject {
        /// The file.
        path: PathBuf,
        /// The field.
        place: String,
    },
    /// A text that ends up in the kernel holds a NUL byte, where it would end.
    #[error("parse {path}: {place}: holds a NUL byte")]
    Nul {
        /// The file.
        path: PathBuf,
        /// The field.
        place: String,
    },
}

/// Reads `config.json` of the bundle.
///
/// # Errors
/// When the file is unreadable or not a configuration.
pub fn load(bundle: &Path) -> Result<Spec, LoadError> {
    load_file(&bundle.join("config.json"))
}

/// Reads a configuration from a file of any name.
///
/// # Errors
/// [`LoadError`] with the path and the field in the file.
pub fn load_file(path: &Path) -> Result<Spec, LoadError> {
    let failed = |source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len().min(MAX_BYTES);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    // SECURITY: a bundle is not always its engine's; one that never ends must not take all memory.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    parse(path, &bytes)
}

/// Reads a configuration from its text; `path` is for errors.
///
/// # Errors
/// All but those of reading the file.
pub fn parse(path: &Path, text: &[u8]) -> Result<Spec, LoadError> {
    let spec = nulls::from_slice(text).map_err(|source| LoadError::Parse {
        path: path.to_owned(),
        place: place::of_error(text, &source),
        source,
    })?;
    if let Some(place) = place::of_list_for_object(text) {
        return Err(LoadError::NotAnObject {
            path: path.to_owned(),
            place,
        });
    }
    // SECURITY: the kernel takes texts up to their first NUL: what was checked would not be what is used.
    match place::of_nul(text) {
        None => Ok(spec),
        Some(place) => Err(LoadError::Nul {
            path: path.to_owned(),
            place,
        }),
    }
}
