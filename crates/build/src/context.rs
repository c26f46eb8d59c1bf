//! The files a client sent: where the Dockerfile is, and what COPY sees of the rest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use wharf_sys::path::RootDir;

use crate::ignore::{Patterns, clean_path};
use crate::transfer::{Origin, Source, is_regular};
use crate::{BuildError, BuildRequest, ErrorKind};

/// A Dockerfile or `.dockerignore` is not read past this.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The name that is taken when none is given.
const DEFAULT_NAME: &str = "Dockerfile";

/// An unpacked context.
pub(crate) struct Context {
    dir: PathBuf,
    /// Files that are there for the builder's sake only.
    hidden: Vec<PathBuf>,
    dockerfile: String,
}

impl Context {
    /// Opens the context and reads the Dockerfile.
    pub(crate) fn open(request: &BuildRequest) -> Result<Self, BuildError> {
        let root = open_root(&request.context)?;
        let name = match request.dockerfile.as_str() {
            "" => DEFAULT_NAME,
            name => name,
        };
        let path = clean_path(name);
        if path == ".." || path.starts_with("../") {
            return Err(BuildError::invalid(format!(
                "the Dockerfile ({name}) must be within the build context"
            )));
        }
        let dockerfile = match &request.dockerfile_text {
            Some(text) => text.clone(),
            None => read_dockerfile(&root, &path, name)?,
        };
        if dockerfile.trim().is_empty() {
            return Err(BuildError::invalid(format!("the Dockerfile ({name}) cannot be empty")));
        }
        Ok(Self {
            dir: request.context.clone(),
            hidden: hidden_files(&root, &path)?,
            dockerfile,
        })
    }

    /// The Dockerfile's text.
    pub(crate) fn dockerfile(&self) -> &str {
        &self.dockerfile
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What COPY and ADD see.
    pub(crate) fn source(&self) -> Result<Source, BuildError> {
        let root = open_root(&self.dir)?;
        Ok(Source::new(root, Origin::Context, self.hidden.clone()))
    }
}

fn open_root(dir: &Path) -> Result<RootDir, BuildError> {
    RootDir::open(dir)
        .map_err(|errno| BuildError::internal(format!("opening the build context {}", dir.display()), errno))
}

fn read_dockerfile(root: &RootDir, path: &str, name: &str) -> Result<String, BuildError> {
    let missing = || {
        BuildError::new(
            ErrorKind::NotFound,
            format!("Cannot locate specified Dockerfile: {name}"),
        )
    };
    let bytes = read_file(root, path)?.ok_or_else(missing)?;
    String::from_utf8(bytes)
        .map_err(|error| BuildError::invalid(format!("the Dockerfile ({name}) is not UTF-8 text")).with_source(error))
}

/// A regular file's bytes, `None` where there is none.
fn read_file(root: &RootDir, path: &str) -> Result<Option<Vec<u8>>, BuildError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let Ok(fd) = root.open_at(path, flags, Mode::empty()) else {
        return Ok(None);
    };
    if !rustix::fs::fstat(&fd).is_ok_and(|stat| is_regular(&stat)) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let failed = |error| BuildError::internal(format!("reading {path}"), error);
    File::from(fd)
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(BuildError::invalid(format!(
            "{path} is larger than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(Some(bytes))
}

/// The client sends the Dockerfile and `.dockerignore` even when the latter leaves them out; then
/// no COPY sees them. COMPAT: the oracle case images/dockerignore.
fn hidden_files(root: &RootDir, dockerfile: &str) -> Result<Vec<PathBuf>, BuildError> {
    let own = format!("{dockerfile}.dockerignore");
    let text = match read_file(root, &own)? {
        Some(text) => Some(text),
        None => read_file(root, ".dockerignore")?,
    };
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let patterns = Patterns::parse_file(&String::from_utf8_lossy(&text))?;
    Ok([dockerfile, ".dockerignore", &own]
        .into_iter()
        .filter(|path| patterns.excludes(path))
        .map(PathBuf::from)
        .collect())
}
