//! Paths that nobody in the container may read, or write.

use super::attach::cover;
use super::classic::{self, MountApi};
use crate::RuntimeError;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use wharf_sys::mount::{Depth, MOUNT_ATTR_RDONLY, Parameter, attach, new_filesystem};
use wharf_sys::path::RootDir;

/// Covers each path: files by /dev/null, given as a detached mount where the host's is out of sight, directories by one
/// empty read-only tmpfs that all of them share. What does not exist is passed over.
pub(crate) fn mask_paths(
    root: &RootDir,
    paths: &[String],
    (api, detached_null): (MountApi, Option<OwnedFd>),
) -> Result<(), RuntimeError> {
    let mut covers = Covers {
        api,
        detached_null,
        null: None,
        empty: None,
    };
    let mut seen = std::collections::BTreeSet::new();
    for path in paths.iter().filter(|path| seen.insert(path.as_str())) {
        covers
            .mask(root, path)
            .map_err(|errno| RuntimeError::system("linux.maskedPaths", format!("mask {path}"), errno))?;
    }
    Ok(())
}

struct Covers {
    api: MountApi,
    detached_null: Option<OwnedFd>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Covers {
    fn mask(&mut self, root: &RootDir, path: &str) -> Result<(), Errno> {
        let target = match root.locate(path) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode) == FileType::Directory {
            return self.mask_directory(&target);
        }
        if let Some(null) = self.detached_null.take() {
            attach(&null, &target)?;
            self.null = Some(null);
            return Ok(());
        }
        if self.null.is_none() {
            self.null = Some(open_null()?);
        }
        let null = self.null.as_ref().ok_or(Errno::NOENT)?;
        match self.api {
            MountApi::New => cover(null.as_fd(), target.as_fd(), Depth::Top, 0),
            MountApi::Classic => classic::cover(null.as_fd(), target.as_fd()),
        }
    }

    fn mask_directory(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            return cover(empty.as_fd(), target.as_fd(), Depth::Top, MOUNT_ATTR_RDONLY);
        }
        if self.api == MountApi::Classic {
            return classic::mount_tmpfs(target, MOUNT_ATTR_RDONLY, "nr_blocks=1");
        }
        let parameters = [
            Parameter::Text("source", c"tmpfs"),
            Parameter::Text("nr_blocks", c"1"),
            Parameter::Flag("ro"),
        ];
        let empty = new_filesystem("tmpfs", &parameters, MOUNT_ATTR_RDONLY)?;
        attach(&empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// SECURITY: the host's own /dev/null, not what the image calls so, and by
/// its number: whatever else stood there would be laid over the path
/// (CVE-2025-31133).
pub(crate) fn open_null() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&null)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && stat.st_rdev == rustix::fs::makedev(1, 3) {
        Ok(null)
    } else {
        Err(Errno::NODEV)
    }
}

/// Makes each path (with the mounts below it) read-only. What does not exist
/// is passed over.
pub(crate) fn make_paths_read_only(root: &RootDir, paths: &[String], api: MountApi) -> Result<(), RuntimeError> {
    for path in paths {
        let failed = |errno| RuntimeError::system("linux.readonlyPaths", format!("make {path} read-only"), errno);
        let target = match root.locate(path) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        let made = match api {
            MountApi::New => cover(target.as_fd(), target.as_fd(), Depth::Recursive, MOUNT_ATTR_RDONLY),
            MountApi::Classic => classic::make_read_only(root, path),
        };
        made.map_err(failed)?;
    }
    Ok(())
}
