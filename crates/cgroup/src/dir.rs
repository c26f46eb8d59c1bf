//! One directory of a hierarchy, held open; its files are reached relative to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::CgroupError;

/// Files of a cgroup are shorter than this, apart from lists of processes.
const TYPICAL_FILE: usize = 4096;

/// An open directory and its path, for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// What making a directory took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was there.
    Nothing,
    /// The directory itself.
    Leaf,
    /// The directory and at least one above it.
    Parents,
}

impl Dir {
    /// Opens a directory; `None` if it does not exist.
    pub(crate) fn open(path: PathBuf) -> Result<Option<Self>, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(CgroupError::Open {
                path,
                source: errno.into(),
            }),
        }
    }

    /// Makes a directory with its parents, and opens it. Tells what had to be made.
    pub(crate) fn create(mount: &Path, below: &str) -> Result<(Self, Made), CgroupError> {
        let path = mount.join(below.trim_start_matches('/'));
        let made = make_with_parents(&path, mount)?;
        match Self::open(path.clone())? {
            Some(dir) => Ok((dir, made)),
            None => Err(CgroupError::Open {
                path,
                source: Errno::NOENT.into(),
            }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the file exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        rustix::fs::accessat(&self.fd, name, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
    }

    /// Reads a whole file; `None` if this kernel has no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, CgroupError> {
        let failed = |errno: Errno| CgroupError::Read {
            path: self.path.join(name),
            source: errno.into(),
        };
        let fd = match rustix::fs::openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let mut bytes = Vec::with_capacity(TYPICAL_FILE);
        loop {
            if bytes.len() == bytes.capacity() {
                bytes.reserve(bytes.len());
            }
            match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                // The group went away, or the counter is not supported here.
                Err(Errno::NODEV | Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes a value; the error tells the kernel's reason.
    pub(crate) fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        self.try_write(name, value)
            .map_err(|errno| self.write_error(name, value, errno))
    }

    /// Opens one of the files for several writes.
    pub(crate) fn open_writable(&self, name: &str) -> Result<OwnedFd, CgroupError> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(|errno| CgroupError::Open {
            path: self.path.join(name),
            source: errno.into(),
        })
    }

    /// Writes a value and leaves the judgement of the failure to the caller.
    pub(crate) fn try_write(&self, name: &str, value: &str) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes())).map(drop)
    }

    pub(crate) fn write_error(&self, name: &str, value: &str, errno: Errno) -> CgroupError {
        CgroupError::Write {
            path: self.path.join(name),
            value: value.to_owned(),
            source: errno.into(),
        }
    }

    /// Opens one of the files for reading, for event registration.
    pub(crate) fn open_file(&self, name: &str) -> Result<OwnedFd, CgroupError> {
        rustix::fs::openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
            CgroupError::Open {
                path: self.path.join(name),
                source: errno.into(),
            }
        })
    }

    /// Child groups, opened.
    pub(crate) fn children(&self) -> Result<Vec<Self>, CgroupError> {
        let mut children = Vec::new();
        for name in child_names(&self.path)? {
            children.extend(Self::open(self.path.join(name))?);
        }
        Ok(children)
    }
}

/// Names of the directories in a directory; none if it is gone.
pub(crate) fn child_names(path: &Path) -> Result<Vec<std::ffi::OsString>, CgroupError> {
    let failed = |source: io::Error| CgroupError::Read {
        path: path.to_path_buf(),
        source,
    };
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => break,
            Err(error) => return Err(failed(error)),
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// Makes `path`, and its parents below `stop` if need be; tells what was missing.
fn make_with_parents(path: &Path, stop: &Path) -> Result<Made, CgroupError> {
    let failed = |errno: Errno| CgroupError::Create {
        path: path.to_path_buf(),
        source: errno.into(),
    };
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(Made::Leaf),
        Err(Errno::EXIST) => Ok(Made::Nothing),
        Err(Errno::NOENT) => {
            let parent = path
                .parent()
                .filter(|parent| parent.starts_with(stop) && *parent != path);
            make_with_parents(parent.ok_or_else(|| failed(Errno::NOENT))?, stop)?;
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => Ok(Made::Parents),
                Err(errno) => Err(failed(errno)),
            }
        }
        Err(errno) => Err(failed(errno)),
    }
}
