//! The merged tree of layers as an open directory: an overlay mount that is attached nowhere, so
//! that a killed engine leaves no mount behind.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use wharf_sys::mount::{Parameter, new_filesystem};
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
        some => mount_overlay(some, Some((upper, work))),
    }
}

fn open_plain(path: &Path) -> Result<RootDir, BuildError> {
    RootDir::open(path).map_err(|errno| BuildError::internal(format!("opening {}", path.display()), errno))
}

/// A detached overlay mount.
fn mount_overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<RootDir, BuildError> {
    let mut texts: Vec<(&str, CString)> = Vec::new();
    for path in lower {
        texts.push(("lowerdir+", c_string(path)?));
    }
    if let Some((upper, work)) = upper {
        texts.push(("upperdir", c_string(upper)?));
        texts.push(("workdir", c_string(work)?));
    }
    // Layers must hold plain files and directories: no references to other layers.
    for option in ["index", "metacopy", "redirect_dir"] {
        texts.push((option, c"off".to_owned()));
    }
    let parameters: Vec<Parameter<'_>> = texts.iter().map(|(key, value)| Parameter::Text(key, value)).collect();
    let mount = new_filesystem("overlay", &parameters, 0)
        .map_err(|errno| BuildError::internal(format!("mounting {} layers", lower.len()), errno))?;
    Ok(RootDir::from_fd(mount))
}

fn c_string(path: &Path) -> Result<CString, BuildError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| BuildError::internal(format!("path {} holds a zero byte", path.display()), error))
}
