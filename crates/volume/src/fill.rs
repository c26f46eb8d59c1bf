//! Copying a directory of an image into a volume.
//!
//! SECURITY: the image is hostile. Its path is resolved inside its root file system; below that only descriptors and
//! single names are used and no link is followed, so neither a link nor a race leads out. Device nodes are left out.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use wharf_sys::path::RootDir;

/// Names of files that are not complete yet.
const PARTIAL_PREFIX: &[u8] = b".wharf-fill-";

/// Opens the directory to copy; `None` if the image has none there.
pub(crate) fn open_source(rootfs: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    let root = RootDir::from_fd(rootfs.try_clone_to_owned()?);
    match root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Copies everything below `source` to `target` and gives `target` the attributes of `source`. What is there already
/// stays as it is.
pub(crate) fn copy_tree(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut copy = Copy { links: HashMap::new() };
    copy.children(source, target, &mut Vec::new())
}

/// Bytes of the files below a directory.
pub(crate) fn size_of(dir: BorrowedFd<'_>) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    add_size(dir, &mut seen, &mut total)?;
    Ok(total)
}

fn add_size(dir: BorrowedFd<'_>, seen: &mut HashSet<(u64, u64)>, total: &mut u64) -> io::Result<()> {
    for name in names(dir)? {
        let Some(stat) = stat(dir, &name)? else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match enter(dir, &name) {
                Ok(inner) => add_size(inner.as_fd(), seen, total)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e.into()),
            },
            FileType::RegularFile if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) => {
                *total += stat.st_size as u64;
            }
            _ => {}
        }
    }
    Ok(())
}

struct Copy {
    /// Where the first name of a file with several names was copied to: components below the target.
    links: HashMap<(u64, u64), CopiedName>,
}

struct CopiedName {
    dir: OwnedFd,
    name: Vec<u8>,
}

impl Copy {
    fn children(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, path: &mut Vec<u8>) -> io::Result<()> {
        remove_partials(target)?;
        for name in names(source)? {
            let Some(found) = stat(source, &name)? else { continue };
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(&name);
            self.entry(source, target, &name, &found, path)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", String::from_utf8_lossy(path))))?;
            path.truncate(length);
        }
        // ORDER: after the children, whose making changes the times.
        let attributes = rustix::fs::fstat(source)?;
        copy_attributes(source, target, &attributes)
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &[u8],
        found: &Stat,
        path: &mut Vec<u8>,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(found.st_mode);
        let existing = stat(target, name)?;
        if kind == FileType::Directory {
            let inner = enter(source, name)?;
            if existing.is_none() {
                rustix::fs::mkdirat(target, OsStr::from_bytes(name), Mode::from_raw_mode(0o700))?;
            }
            return match enter(target, name) {
                Ok(made) => self.children(inner.as_fd(), made.as_fd(), path),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(e) => Err(e.into()),
            };
        }
        if existing.is_some() {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(source, target, name, found),
            FileType::Symlink => symlink(source, target, name, found),
            FileType::Fifo => fifo(target, name, found),
            _ => Ok(()),
        }
    }

    fn file(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &[u8], found: &Stat) -> io::Result<()> {
        let key = (found.st_dev, found.st_ino);
        let os_name = OsStr::from_bytes(name);
        if let Some(first) = self.links.get(&key) {
            let flags = AtFlags::empty();
            return Ok(rustix::fs::linkat(
                &first.dir,
                OsStr::from_bytes(&first.name),
                target,
                os_name,
                flags,
            )?);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = rustix::fs::openat(source, os_name, flags, Mode::empty())?;
        let found = rustix::fs::fstat(&from)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let partial = [PARTIAL_PREFIX, found.st_ino.to_string().as_bytes()].concat();
        let partial = OsStr::from_bytes(&partial);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(target, partial, flags, Mode::from_raw_mode(0o600))?;
        let (mut from, mut to) = (File::from(from), File::from(to));
        // io::copy uses copy_file_range where both file systems can.
        io::copy(&mut from, &mut to)?;
        copy_attributes(from.as_fd(), to.as_fd(), &found)?;
        rustix::fs::renameat(target, partial, target, os_name)?;
        if found.st_nlink > 1 {
            self.links.insert(
                key,
                CopiedName {
                    dir: target.try_clone_to_owned()?,
                    name: name.to_vec(),
                },
            );
        }
        Ok(())
    }
}

/// Left by a fill that was killed.
fn remove_partials(target: BorrowedFd<'_>) -> io::Result<()> {
    for name in names(target)?.iter().filter(|n| n.starts_with(PARTIAL_PREFIX)) {
        rustix::fs::unlinkat(target, OsStr::from_bytes(name), AtFlags::empty())?;
    }
    Ok(())
}

fn symlink(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &[u8], found: &Stat) -> io::Result<()> {
    let os_name = OsStr::from_bytes(name);
    let link = rustix::fs::readlinkat(source, os_name, Vec::new())?;
    rustix::fs::symlinkat(link.as_c_str(), target, os_name)?;
    copy_owner_and_times(target, name, found)
}

fn fifo(target: BorrowedFd<'_>, name: &[u8], found: &Stat) -> io::Result<()> {
    rustix::fs::mkfifoat(target, OsStr::from_bytes(name), Mode::from_raw_mode(found.st_mode))?;
    copy_owner_and_times(target, name, found)
}

fn owner(found: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))
}

fn times(found: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos as i64,
    };
    Timestamps {
        last_access: time(found.st_atime, found.st_atime_nsec),
        last_modification: time(found.st_mtime, found.st_mtime_nsec),
    }
}

fn copy_owner_and_times(target: BorrowedFd<'_>, name: &[u8], found: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(found);
    let name = OsStr::from_bytes(name);
    rustix::fs::chownat(target, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(
        target,
        name,
        &times(found),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// ORDER: owner (which clears set-id bits), mode, attributes, times.
fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>, found: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(found);
    rustix::fs::fchown(target, uid, gid)?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    copy_xattrs(source, target)?;
    Ok(rustix::fs::futimens(target, &times(found))?)
}

fn copy_xattrs(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let list = match sized(|buffer| rustix::fs::flistxattr(source, buffer)) {
        Ok(list) => list,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    for name in list.split(|&b| b == 0).filter(|n| is_portable(n)) {
        let name = CString::new(name).map_err(io::Error::other)?;
        let value = match sized(|buffer| rustix::fs::fgetxattr(source, &name, buffer)) {
            Ok(value) => value,
            Err(Errno::NODATA) => continue,
            Err(e) => return Err(e.into()),
        };
        match rustix::fs::fsetxattr(target, &name, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Calls with larger buffers until the result fits.
fn sized(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; 512];
    loop {
        match call(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(e) => return Err(e),
        }
    }
}

fn is_portable(name: &[u8]) -> bool {
    let carried =
        name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability";
    carried && !name.starts_with(b"user.overlay.")
}

fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn enter(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())
}

fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
