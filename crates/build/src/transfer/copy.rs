//! Writing files into the root that is built.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use wharf_sys::Errno;
use wharf_sys::path::RootDir;

use crate::BuildError;
use crate::ignore::Patterns;
use crate::transfer::source::{MAX_DEPTH, failed, is_excluded, is_type, list, open_entry, reopen, stat_entry, xattrs};
use crate::transfer::{Chmod, Source};

/// Whose the new files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Those of the source.
    Kept,
    /// Always these.
    Fixed(u32, u32),
}

/// How files are written.
#[derive(Clone, Debug)]
pub(crate) struct CopyOptions {
    pub(crate) ownership: Ownership,
    pub(crate) chmod: Option<Chmod>,
    pub(crate) excludes: Patterns,
}

/// Copies out of one source into one root.
pub(crate) struct Copier<'a> {
    source: &'a Source,
    root: &'a RootDir,
    options: &'a CopyOptions,
    /// Where a file with several names was written first.
    linked: HashMap<(u64, u64), PathBuf>,
    /// The directory whose content is copied, for `--exclude`.
    top: PathBuf,
}

impl<'a> Copier<'a> {
    /// A copier; files with several names keep them within one copier.
    pub(crate) fn new(source: &'a Source, root: &'a RootDir, options: &'a CopyOptions) -> Self {
        Self {
            source,
            root,
            options,
            linked: HashMap::new(),
            top: PathBuf::new(),
        }
    }

    /// Copies a file to `target`, whose directory exists. A last link of the source is followed.
    pub(crate) fn copy_file(&mut self, path: &Path, target: &Path) -> Result<(), BuildError> {
        let from = self
            .source
            .root
            .locate(path)
            .map_err(|errno| failed("opening", path, errno))?;
        self.top = path.parent().unwrap_or(Path::new("")).into();
        self.leaf(from.as_fd(), path, target)
    }

    /// Copies what is in a directory into `target`, which is made when missing.
    pub(crate) fn copy_content(&mut self, path: &Path, target: &Path) -> Result<(), BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let from = self
            .source
            .root
            .open_at(path, flags, Mode::empty())
            .map_err(|errno| failed("opening", path, errno))?;
        self.top = path.into();
        self.directory(from.as_fd(), path, target, 0)
    }

    fn directory(&mut self, from: BorrowedFd<'_>, path: &Path, target: &Path, depth: usize) -> Result<(), BuildError> {
        if depth > MAX_DEPTH {
            return Err(BuildError::invalid(format!(
                "directory {} is nested too deeply",
                path.display()
            )));
        }
        let stat = self.source.open_stat(from, path)?;
        let made = self.make_dir(target)?;
        for name in list(&from, path)? {
            let inner = path.join(&name);
            if self.source.is_hidden(&inner) || is_excluded(&self.options.excludes, &inner, &self.top) {
                continue;
            }
            let entry = open_entry(from, &name).map_err(|errno| failed("opening", &inner, errno))?;
            let stat = rustix::fs::fstat(&entry).map_err(|errno| failed("reading", &inner, errno))?;
            match is_type(&stat, FileType::Directory) {
                true => self.directory(entry.as_fd(), &inner, &target.join(&name), depth + 1)?,
                false => self.leaf(entry.as_fd(), &inner, &target.join(&name))?,
            }
        }
        // ORDER: after the content, which changes the directory's times.
        if made {
            let dir = open_dir(self.root, target)?;
            self.dress(dir.as_fd(), &stat, target)?;
            copy_xattrs(from, dir.as_fd(), path)?;
        }
        Ok(())
    }

    /// Makes a directory, or takes the one that is there, also behind a link. Says whether it is
    /// new.
    fn make_dir(&self, target: &Path) -> Result<bool, BuildError> {
        match open_dir(self.root, target) {
            Ok(_) => return Ok(false),
            Err(_) if target.as_os_str().is_empty() => return Ok(false),
            Err(_) => {}
        }
        let (parent, name) = self.parent(target)?;
        remove_leaf(parent.as_fd(), &name, target)?;
        rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755))
            .map_err(|errno| failed("making directory", target, errno))?;
        Ok(true)
    }

    /// Copies anything but a directory.
    fn leaf(&mut self, from: BorrowedFd<'_>, path: &Path, target: &Path) -> Result<(), BuildError> {
        let stat = rustix::fs::fstat(from).map_err(|errno| failed("reading", path, errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            return Ok(());
        }
        let (parent, name) = self.parent(target)?;
        remove_leaf(parent.as_fd(), &name, target)?;
        if self.link_again(&stat, parent.as_fd(), &name, target)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file(from, &stat, parent.as_fd(), &name, target),
            FileType::Symlink => self.symlink(from, &stat, parent.as_fd(), &name, target),
            _ => self.node(kind, &stat, parent.as_fd(), &name, target),
        }
    }

    /// Gives a file that was copied under another name this one too.
    fn link_again(
        &mut self,
        stat: &Stat,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        target: &Path,
    ) -> Result<bool, BuildError> {
        if stat.st_nlink < 2 || !is_type(stat, FileType::RegularFile) {
            return Ok(false);
        }
        let key = (stat.st_dev, stat.st_ino);
        let Some(first) = self.linked.get(&key) else {
            self.linked.insert(key, target.into());
            return Ok(false);
        };
        let (dir, old) = self.parent(first)?;
        rustix::fs::linkat(dir, old, parent, name, AtFlags::empty())
            .map_err(|errno| failed("linking", target, errno))?;
        Ok(true)
    }

    fn file(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        target: &Path,
    ) -> Result<(), BuildError> {
        let mut from = reopen(from).map_err(|errno| failed("opening", target, errno))?;
        let mut to = create_file(parent, name, target)?;
        std::io::copy(&mut from, &mut to)
            .map_err(|error| BuildError::internal(format!("writing {}: {error}", target.display()), error))?;
        self.dress(to.as_fd(), stat, target)?;
        copy_xattrs(from.as_fd(), to.as_fd(), target)
    }

    fn symlink(
        &self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        target: &Path,
    ) -> Result<(), BuildError> {
        let text =
            rustix::fs::readlinkat(from, c"", Vec::new()).map_err(|errno| failed("reading link", target, errno))?;
        rustix::fs::symlinkat(text, parent, name).map_err(|errno| failed("linking", target, errno))?;
        let (uid, gid) = self.owner(stat);
        let at = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), at)
            .and_then(|()| rustix::fs::utimensat(parent, name, &times(stat), at))
            .map_err(|errno| failed("setting the owner of", target, errno))
    }

    fn node(
        &self,
        kind: FileType,
        stat: &Stat,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        target: &Path,
    ) -> Result<(), BuildError> {
        let mode = Mode::from_raw_mode(self.mode(stat));
        let (uid, gid) = self.owner(stat);
        let at = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::mknodat(parent, name, kind, mode, stat.st_rdev)
            .and_then(|()| rustix::fs::chownat(parent, name, Some(uid), Some(gid), at))
            .and_then(|()| rustix::fs::chmodat(parent, name, mode, AtFlags::empty()))
            .and_then(|()| rustix::fs::utimensat(parent, name, &times(stat), at))
            .map_err(|errno| failed("making node", target, errno))
    }

    /// Owner, mode and time of an open file or directory.
    fn dress(&self, fd: BorrowedFd<'_>, stat: &Stat, target: &Path) -> Result<(), BuildError> {
        let (uid, gid) = self.owner(stat);
        // ORDER: chown clears set-id bits, so the mode comes after it.
        rustix::fs::fchown(fd, Some(uid), Some(gid))
            .and_then(|()| rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode(stat))))
            .and_then(|()| rustix::fs::futimens(fd, &times(stat)))
            .map_err(|errno| failed("setting owner and mode of", target, errno))
    }

    fn owner(&self, stat: &Stat) -> (Uid, Gid) {
        let (uid, gid) = match self.options.ownership {
            Ownership::Kept => (stat.st_uid, stat.st_gid),
            Ownership::Fixed(uid, gid) => (uid, gid),
        };
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }

    fn mode(&self, stat: &Stat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        match &self.options.chmod {
            Some(chmod) => chmod.apply(mode, is_type(stat, FileType::Directory)),
            None => mode,
        }
    }

    fn parent(&self, target: &Path) -> Result<(OwnedFd, std::ffi::OsString), BuildError> {
        self.root
            .parent_of(target)
            .map_err(|errno| failed("opening the directory of", target, errno))
    }
}

/// Makes a directory and those above it where they are missing; the new ones get this owner.
pub(crate) fn ensure_dirs(root: &RootDir, path: &Path, owner: (u32, u32)) -> Result<(), BuildError> {
    let mut prefix = PathBuf::new();
    for name in path.components() {
        prefix.push(name);
        match root.open_at(&prefix, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Ok(_) => continue,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("opening directory", &prefix, errno)),
        }
        root.ensure_dir(&prefix, Mode::from_raw_mode(0o755))
            .map_err(|errno| failed("making directory", &prefix, errno))?;
        let dir = open_dir(root, &prefix)?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&dir, Some(uid), Some(gid))
            .and_then(|()| rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)))
            .map_err(|errno| failed("setting the owner of", &prefix, errno))?;
    }
    Ok(())
}

/// Whether the path leads to a directory, also through a link.
pub(crate) fn is_dir(root: &RootDir, path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    root.open_at(path, flags, Mode::empty()).is_ok()
}

fn open_dir(root: &RootDir, path: &Path) -> Result<OwnedFd, BuildError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    root.open_at(path, flags, Mode::empty())
        .map_err(|errno| failed("opening directory", path, errno))
}

/// A new file that only root can read until it is complete.
pub(crate) fn create_file(parent: BorrowedFd<'_>, name: &OsStr, target: &Path) -> Result<File, BuildError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        .map(File::from)
        .map_err(|errno| failed("creating", target, errno))
}

/// Removes what is in the way of a new file. A directory is not: that would lose its content.
pub(crate) fn remove_leaf(parent: BorrowedFd<'_>, name: &OsStr, target: &Path) -> Result<(), BuildError> {
    match stat_entry(parent, name) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("reading", target, errno)),
        Ok(stat) if is_type(&stat, FileType::Directory) => Err(BuildError::invalid(format!(
            "cannot overwrite directory {} with a file",
            Path::new("/").join(target).display()
        ))),
        Ok(_) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(|errno| failed("removing", target, errno))
        }
    }
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> Result<(), BuildError> {
    for (name, value) in xattrs(from, path)? {
        let name = OsStr::from_bytes(&name);
        match rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()) {
            // A target without attributes, or a user without the right to set capabilities.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(failed("setting attributes of", path, errno)),
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    Timestamps {
        last_access: modified,
        last_modification: modified,
    }
}
