//! Paths that nobody in the container may read, or write.

use crate::RuntimeError;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use wharf_sys::mount::{Depth, MOUNT_ATTR_RDONLY, Parameter, attach, new_filesystem};
use wharf_sys::path::RootDir;

/// Covers each path: files by /dev/null, directories by one empty read-only
/// tmpfs that all of them share. What does not exist is passed over.
pub(crate) fn mask_paths(root: &RootDir, paths: &[String]) -> Result<(), RuntimeError> {
    let mut covers = Covers::default();
    for path in paths {
        covers
            .mask(root, path)
            .map_err(|errno| RuntimeError::system("linux.maskedPaths", format!("mask {path}"), errno))?;
    }
    Ok(())
}

#[derive(Default)]
struct Covers {
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
        // SECURITY: the host's own /dev/null, not what the image calls so.
        if self.null.is_none() {
            self.null = Some(rustix::fs::open(
                c"/dev/null",
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
            )?);
        }
        let null = self.null.as_ref().ok_or(Errno::NOENT)?;
        super::attach::cover(null.as_fd(), target.as_fd(), Depth::Top, 0)
    }

    fn mask_directory(&mut self, target: &OwnedFd) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            return super::attach::cover(empty.as_fd(), target.as_fd(), Depth::Top, MOUNT_ATTR_RDONLY);
        }
        let parameters = [
            Parameter::Text("source", c"tmpfs"),
            Parameter::Text("nr_blocks", c"1"),
            Parameter::Flag("ro"),
        ];
        match new_filesystem("tmpfs", &parameters, MOUNT_ATTR_RDONLY) {
            Ok(empty) => {
                attach(&empty, target)?;
                self.empty = Some(empty);
                Ok(())
            }
            Err(Errno::NOSYS) => {
                let flags = rustix::mount::MountFlags::RDONLY;
                let place = wharf_sys::fd::proc_path(target);
                rustix::mount::mount(c"tmpfs", place, c"tmpfs", flags, Some(c"nr_blocks=1"))
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Makes each path (with the mounts below it) read-only. What does not exist
/// is passed over.
pub(crate) fn make_paths_read_only(root: &RootDir, paths: &[String]) -> Result<(), RuntimeError> {
    for path in paths {
        let failed = |errno| RuntimeError::system("linux.readonlyPaths", format!("make {path} read-only"), errno);
        let target = match root.locate(path) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        match super::attach::cover(target.as_fd(), target.as_fd(), Depth::Recursive, MOUNT_ATTR_RDONLY) {
            Err(Errno::NOSYS) => read_only_classic(root, path).map_err(failed)?,
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}

/// KERNEL(before 5.12): a bind that is then remounted.
fn read_only_classic(root: &RootDir, path: &str) -> Result<(), Errno> {
    let target = wharf_sys::fd::proc_path(&root.locate(path)?);
    rustix::mount::mount_bind_recursive(&target, &target)?;
    let made = root.locate(path)?;
    super::attach::remount_bind(&wharf_sys::fd::proc_path(&made), rustix::mount::MountFlags::RDONLY)
}
