//! Which files an instruction means, and a digest of what they hold.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use wharf_store::{Algorithm, Digester};
use wharf_sys::Errno;
use wharf_sys::path::RootDir;

use crate::dockerfile::glob;
use crate::ignore::{Patterns, clean_path};
use crate::{BuildError, ErrorKind};

/// Directories deeper than this are refused.
pub(crate) const MAX_DEPTH: usize = 1000;

/// Where files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client's files: owners mean nothing here.
    Context,
    /// A stage or an image: owners are kept.
    Layers,
}

/// A tree that files are taken from.
pub(crate) struct Source {
    pub(crate) root: RootDir,
    pub(crate) origin: Origin,
    hidden: Vec<PathBuf>,
}

/// One thing to copy.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Relative to the root, no `.` or `..` in it; empty for the root itself.
    pub(crate) path: PathBuf,
    /// Whether it is a directory, so that its content is meant.
    pub(crate) is_dir: bool,
    /// Where `/./` split the path as written: what is before it is no parent to keep.
    pub(crate) pivot: PathBuf,
}

impl Source {
    /// A tree in which `hidden` paths do not exist.
    pub(crate) fn new(root: RootDir, origin: Origin, hidden: Vec<PathBuf>) -> Self {
        Self { root, origin, hidden }
    }

    /// The items that a path or pattern means, sorted.
    pub(crate) fn resolve(&self, written: &str, keyword: &str) -> Result<Vec<Item>, BuildError> {
        let clean = clean_path(written);
        if self.origin == Origin::Context && (clean == ".." || clean.starts_with("../")) {
            return Err(BuildError::invalid(format!(
                "{keyword} failed: forbidden path outside the build context: {written} ()"
            )));
        }
        let pivot = match written.split_once("/./") {
            Some((before, _)) => PathBuf::from(clean_path(before)),
            None => PathBuf::new(),
        };
        let paths = match glob::has_meta(&clean) {
            true => self.expand(&clean)?,
            false => vec![PathBuf::from(&clean)],
        };
        let mut items = Vec::new();
        for path in paths {
            let stat = self.stat(&path).map_err(|errno| self.missing(&path, keyword, errno))?;
            items.push(Item {
                is_dir: is_type(&stat, FileType::Directory),
                path,
                pivot: pivot.clone(),
            });
        }
        if items.is_empty() {
            return Err(BuildError::new(
                ErrorKind::NotFound,
                format!("{keyword} failed: no source files were specified"),
            ));
        }
        Ok(items)
    }

    /// Metadata of a path, a last link followed inside the root.
    pub(crate) fn stat(&self, path: &Path) -> Result<Stat, Errno> {
        if self.is_hidden(path) {
            return Err(Errno::NOENT);
        }
        rustix::fs::fstat(self.root.locate(path)?)
    }

    /// Metadata of an open entry. The context's own top is nobody's: its mode is the default.
    pub(crate) fn open_stat(&self, fd: BorrowedFd<'_>, path: &Path) -> Result<Stat, BuildError> {
        let mut stat = rustix::fs::fstat(fd).map_err(|errno| failed("reading", path, errno))?;
        if self.origin == Origin::Context && path.as_os_str().is_empty() {
            stat.st_mode = (stat.st_mode & !0o7777) | 0o755;
        }
        Ok(stat)
    }

    /// Whether the path was taken out of the context.
    pub(crate) fn is_hidden(&self, path: &Path) -> bool {
        self.hidden.iter().any(|hidden| hidden == path)
    }

    fn missing(&self, path: &Path, keyword: &str, errno: Errno) -> BuildError {
        let path = path.display();
        match (errno, self.origin) {
            (Errno::NOENT | Errno::NOTDIR, Origin::Context) => BuildError::new(
                ErrorKind::NotFound,
                format!(
                    "{keyword} failed: file not found in build context or excluded by .dockerignore: stat {path}: file does not exist"
                ),
            ),
            (Errno::NOENT | Errno::NOTDIR, Origin::Layers) => BuildError::new(
                ErrorKind::NotFound,
                format!("{keyword} failed: stat {path}: file does not exist"),
            ),
            _ => BuildError::internal(format!("{keyword} failed: stat {path}"), errno),
        }
    }

    /// Every path that a pattern matches, name by name.
    fn expand(&self, pattern: &str) -> Result<Vec<PathBuf>, BuildError> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.split('/') {
            let mut next = Vec::new();
            for base in found {
                if !glob::has_meta(part) {
                    next.push(base.join(part));
                    continue;
                }
                let Ok(dir) = self.open_dir(&base) else {
                    continue;
                };
                for name in list(&dir, &base)? {
                    let path = base.join(&name);
                    let fits = glob::matches(part, &name.to_string_lossy())
                        .map_err(|error| BuildError::invalid(format!("{error}: {pattern}")))?;
                    if fits && !self.is_hidden(&path) {
                        next.push(path);
                    }
                }
            }
            found = next;
        }
        found.retain(|path| self.stat(path).is_ok());
        Ok(found)
    }

    fn open_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.root.open_at(path, flags, Mode::empty())
    }

    /// A digest of an item: names, kinds, modes, owners (of layers), contents; no times.
    pub(crate) fn digest(&self, item: &Item, excludes: &Patterns) -> Result<String, BuildError> {
        let mut hash = Digester::new(Algorithm::Sha256);
        let flags = match item.is_dir {
            true => OFlags::RDONLY | OFlags::DIRECTORY,
            false => OFlags::PATH,
        };
        let fd = self
            .root
            .open_at(&item.path, flags, Mode::empty())
            .map_err(|errno| failed("opening", &item.path, errno))?;
        let walk = DigestWalk {
            source: self,
            excludes,
            top: &item.path,
        };
        walk.entry(fd.as_fd(), &item.path, 0, &mut hash)?;
        Ok(hash.finish().hex().to_string())
    }
}

/// One pass over a tree for its digest.
struct DigestWalk<'a> {
    source: &'a Source,
    excludes: &'a Patterns,
    top: &'a Path,
}

impl DigestWalk<'_> {
    /// Adds an open entry. `fd` is readable for directories and a mere location otherwise.
    fn entry(&self, fd: BorrowedFd<'_>, path: &Path, depth: usize, hash: &mut Digester) -> Result<(), BuildError> {
        let stat = self.source.open_stat(fd, path)?;
        let relative = path.strip_prefix(self.top).unwrap_or(path);
        let owner = match self.source.origin {
            Origin::Context => (0, 0),
            Origin::Layers => (stat.st_uid, stat.st_gid),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        field(hash, relative.as_os_str().as_bytes());
        field(hash, format!("{:o} {owner:?}", stat.st_mode).as_bytes());
        match kind {
            FileType::RegularFile => self.file(fd, path, hash),
            FileType::Directory => self.directory(fd, path, depth, hash),
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(fd, c"", Vec::new()).map_err(|errno| failed("reading link", path, errno))?;
                field(hash, target.as_bytes());
                Ok(())
            }
            _ => {
                field(hash, format!("{}", stat.st_rdev).as_bytes());
                Ok(())
            }
        }
    }

    fn directory(&self, fd: BorrowedFd<'_>, path: &Path, depth: usize, hash: &mut Digester) -> Result<(), BuildError> {
        if depth > MAX_DEPTH {
            return Err(BuildError::invalid(format!(
                "directory {} is nested too deeply",
                path.display()
            )));
        }
        for name in list(&fd, path)? {
            let inner = path.join(&name);
            if self.source.is_hidden(&inner) || is_excluded(self.excludes, &inner, self.top) {
                continue;
            }
            let entry = open_entry(fd, &name).map_err(|errno| failed("opening", &inner, errno))?;
            self.entry(entry.as_fd(), &inner, depth + 1, hash)?;
        }
        // Ends the directory, so that moving a file out of it changes the digest.
        field(hash, b"");
        Ok(())
    }

    fn file(&self, fd: BorrowedFd<'_>, path: &Path, hash: &mut Digester) -> Result<(), BuildError> {
        let io = |error| BuildError::internal(format!("reading {}", path.display()), error);
        let mut file = reopen(fd).map_err(|errno| failed("opening", path, errno))?;
        let mut content = Digester::new(Algorithm::Sha256);
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                n => content.update(&buffer[..n]),
            }
        }
        field(hash, content.finish().hex().as_bytes());
        for (name, value) in xattrs(file.as_fd(), path)? {
            field(hash, &name);
            field(hash, &value);
        }
        Ok(())
    }
}

/// Whether `--exclude` leaves the path out, seen from the root or from the copied directory.
pub(crate) fn is_excluded(excludes: &Patterns, path: &Path, top: &Path) -> bool {
    let from_top = path.strip_prefix(top).unwrap_or(path);
    !excludes.is_empty()
        && (excludes.excludes(&path.to_string_lossy()) || excludes.excludes(&from_top.to_string_lossy()))
}

/// Opens an entry of a directory without following it: readable if a directory, else a location.
pub(crate) fn open_entry(dir: BorrowedFd<'_>, name: &OsString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir_flags = flags | OFlags::RDONLY | OFlags::DIRECTORY;
    match rustix::fs::openat(dir, name, dir_flags, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => rustix::fs::openat(dir, name, flags | OFlags::PATH, Mode::empty()),
        other => other,
    }
}

/// A readable file from its location, which must be a regular file.
pub(crate) fn reopen(location: BorrowedFd<'_>) -> Result<File, Errno> {
    let path = wharf_sys::fd::proc_path(location);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// The names in a directory, sorted.
pub(crate) fn list(dir: &impl AsFd, path: &Path) -> Result<Vec<OsString>, BuildError> {
    let entries = Dir::read_from(dir).map_err(|errno| failed("listing", path, errno))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|errno| failed("listing", path, errno))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

/// Name and value of an extended attribute.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// Extended attributes worth keeping: those of users and file capabilities.
pub(crate) fn xattrs(file: BorrowedFd<'_>, path: &Path) -> Result<Vec<Xattr>, BuildError> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(errno) => return Err(failed("listing attributes of", path, errno)),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let kept = name.starts_with(b"user.") || name == b"security.capability";
        if !kept || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let os_name = std::ffi::OsStr::from_bytes(name);
        let length = rustix::fs::fgetxattr(file, os_name, &mut value[..])
            .map_err(|errno| failed("reading attributes of", path, errno))?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Whether the metadata is of this type.
pub(crate) fn is_type(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Whether the metadata is of a regular file.
pub(crate) fn is_regular(stat: &Stat) -> bool {
    is_type(stat, FileType::RegularFile)
}

/// Metadata of a directory's entry, not followed.
pub(crate) fn stat_entry(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Adds a length-prefixed field, so that no two lists of fields look alike.
fn field(hash: &mut Digester, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// A failed system call on a path.
pub(crate) fn failed(action: &str, path: &Path, errno: Errno) -> BuildError {
    BuildError::internal(format!("{action} {}: {errno}", path.display()), errno)
}
