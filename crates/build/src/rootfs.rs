//! The merged tree of layers as an open directory: an overlay mount that is attached nowhere, so
//! that a killed engine leaves no mount behind.

use std::path::{Path, PathBuf};

use wharf_sys::overlay::{Way, Writable, open_overlay};
use wharf_sys::path::RootDir;

use crate::BuildError;

/// Opens the tree of `lower` (topmost first) for reading. `empty` stands in for no layers at all.
pub(crate) fn open_layers(lower: &[PathBuf], empty: &Path) -> Result<RootDir, BuildError> {
    match lower {
        [] => open_plain(empty),
        [only] => open_plain(only),
        many => mount_overlay(many, None),
    }
}

/// Opens the tree of `lower` with all changes going to `upper`.
pub(crate) fn open_writable(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<RootDir, BuildError> {
    match lower {
        [] => open_plain(upper),
        some => mount_overlay(some, Some(Writable { upper, work })),
    }
}

fn open_plain(path: &Path) -> Result<RootDir, BuildError> {
    RootDir::open(path).map_err(|errno| BuildError::internal(format!("opening {}", path.display()), errno))
}

/// A detached overlay mount.
fn mount_overlay(lower: &[PathBuf], writable: Option<Writable<'_>>) -> Result<RootDir, BuildError> {
    open_overlay(lower, writable, Way::Newest)
        .map(RootDir::from_fd)
        .map_err(|errno| BuildError::internal(format!("mounting {} layers: {errno}", lower.len()), errno))
}
