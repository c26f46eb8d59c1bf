//! Work on files below an opened directory, by descriptors and single names, so that no symbolic link leads out.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
pub(crate) use wharf_sys::path::Escape;
use wharf_sys::path::open_below;

/// Opens `path` below `root`; an empty path is `root` itself.
pub(crate) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, escape: Escape) -> Result<OwnedFd, Errno> {
    open_below(root, OsStr::from_bytes(path), flags, escape)
}

/// Opens a directory below `root` for reading.
pub(crate) fn open_dir(root: BorrowedFd<'_>, path: &[u8], escape: Escape) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY, escape)
}

/// The attributes of `name` in `dir`, not following a link; `None` if there is nothing.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The type of a file.
pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The names in an opened directory without `.` and `..`, sorted by bytes.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens the directory `name` in `dir`, refusing a symbolic link.
pub(crate) fn enter(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

/// Removes `name` in `dir` with everything below it; nothing there is fine. Links are removed, not followed.
pub(crate) fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let path = OsStr::from_bytes(name);
    match rustix::fs::unlinkat(dir, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let child = match enter(dir, name) {
        Ok(child) => child,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e),
    };
    for inner in names(child.as_fd())? {
        remove_tree(child.as_fd(), &inner)?;
    }
    match rustix::fs::unlinkat(dir, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes a path of our own (not of an image) with everything below it; nothing there is fine.
pub(crate) fn remove_path(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let dir = match rustix::fs::open(
        parent,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    remove_tree(dir.as_fd(), name.as_bytes())?;
    Ok(())
}

/// Opens a directory of our own.
pub(crate) fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
