//! Files of /proc, opened so that they are what they seem.
//!
//! SECURITY: what is written to a file such as `/proc/self/attr/exec` decides
//! about confinement. Where somebody else has a say in the mounts, another
//! file of procfs may lie over it, so that the write goes nowhere, or to a
//! file that stops the machine; that it is on procfs proves nothing
//! (CVE-2019-16884, CVE-2025-31133, CVE-2025-52881). Paths here start at the
//! root of a procfs, by its inode number, and cross no mount.

use crate::mount::new_filesystem;
use crate::path::is_procfs;
use crate::{Errno, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Inode number of the root of every procfs (linux/proc_fs.h).
const PROC_ROOT_INO: u64 = 1;

/// Opens a file by its path below /proc, such as `self/attr/exec`.
///
/// Where a mount lies over it, or /proc is something else or not there, the
/// file of a procfs that nobody else sees is opened instead.
///
/// # Errors
/// EXDEV or ENODEV when no such procfs can be made; as openat2(2).
pub fn open(path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
    let path = path.as_ref();
    match root().and_then(|root| open_below(&root, path, flags)) {
        Err(errno @ (Errno::XDEV | Errno::NODEV)) => {
            let private = new_filesystem("proc", &[], 0).map_err(|_| errno)?;
            open_below(&private, path, flags)
        }
        other => other,
    }
}

/// Writes to a file by its path below /proc, such as `self/oom_score_adj`.
///
/// # Errors
/// As [`open`] and write(2).
pub fn write(path: impl AsRef<Path>, text: &[u8]) -> Result<()> {
    let file = open(path, OFlags::WRONLY)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&file, text)).map(drop)
}

/// As [`write()`], to a file below `root`, which is to be the root of a procfs.
///
/// Files that exist once per namespace, such as those below `sys/net`, have one name in the
/// kernel's cache of a procfs for each namespace that was looked at through it, and a search walks
/// all of them. A procfs of the caller's own pid namespace knows its own only.
///
/// # Errors
/// ENODEV when `root` is something else; EXDEV when something is mounted over the file; as
/// openat2(2) and write(2).
pub fn write_below(root: impl AsFd, path: impl AsRef<Path>, text: &[u8]) -> Result<()> {
    check_root(&root)?;
    let file = open_below(&root, path.as_ref(), OFlags::WRONLY)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&file, text)).map(drop)
}

fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, c"/proc", flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Errno::NODEV,
        other => other,
    })?;
    check_root(&root).map(|()| root)
}

fn check_root(root: impl AsFd) -> Result<()> {
    let is_root = is_procfs(&root) && rustix::fs::fstat(&root)?.st_ino == PROC_ROOT_INO;
    is_root.then_some(()).ok_or(Errno::NODEV)
}

fn open_below(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    match openat2(&root, path, flags, Mode::empty(), resolve) {
        // KERNEL(5.6): mounts over it are not seen, other file systems are.
        Err(Errno::NOSYS) => {
            let file = openat(&root, path, flags | OFlags::NOFOLLOW, Mode::empty())?;
            if is_procfs(&file) { Ok(file) } else { Err(Errno::NODEV) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_below_the_root_of_a_procfs_is_written() {
        let open = |path: &str| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
        let write = |root: &str| write_below(open(root), "self/oom_score_adj", b"0");
        assert_ne!(write("/proc").err(), Some(Errno::NODEV));
        assert_eq!(write("/proc/self").err(), Some(Errno::NODEV));
        assert_eq!(write("/tmp").err(), Some(Errno::NODEV));
        assert_eq!(write_below(open("/proc"), "self/root/x", b"0").err(), Some(Errno::LOOP));
    }

    #[test]
    fn files_of_the_process_are_found_and_links_out_are_not() {
        assert!(open("self/stat", OFlags::RDONLY).is_ok());
        assert_eq!(open("self/nothing", OFlags::RDONLY).err(), Some(Errno::NOENT));
        assert_eq!(open("self/root/etc", OFlags::RDONLY).err(), Some(Errno::LOOP));
        assert_eq!(open("self/exe", OFlags::RDONLY).err(), Some(Errno::LOOP));
        assert!(matches!(
            open("../etc/passwd", OFlags::RDONLY),
            Err(Errno::XDEV | Errno::NOENT)
        ));
    }
}
