//! Handing a group over to the user who manages what is below it.

use std::path::Path;

use rustix::fs::{AtFlags, Uid};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::CgroupError;

/// Where the kernel lists the files that may be handed over. KERNEL(4.15).
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";
const V2_FILES: [&str; 3] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
const V1_FILES: [&str; 2] = ["cgroup.procs", "tasks"];

/// Gives a version 2 directory and the files of the kernel's list to the user.
pub(crate) fn delegate_v2(dir: &Dir, uid: u32) -> Result<(), CgroupError> {
    let listed = std::fs::read_to_string(DELEGATE).unwrap_or_default();
    let listed: Vec<&str> = listed.lines().filter(|name| is_plain(name)).collect();
    give(dir, if listed.is_empty() { &V2_FILES } else { &listed }, uid)
}

/// Gives a directory of a version 1 hierarchy without controllers to the user.
pub(crate) fn delegate_v1(dir: &Dir, uid: u32) -> Result<(), CgroupError> {
    give(dir, &V1_FILES, uid)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

/// A file that this kernel or this group does not have is passed over.
fn give(dir: &Dir, files: &[&str], uid: u32) -> Result<(), CgroupError> {
    let failed = |path: &Path, errno: Errno| CgroupError::Delegate {
        path: path.to_path_buf(),
        uid,
        source: errno.into(),
    };
    let owner = Some(Uid::from_raw(uid));
    rustix::fs::fchown(dir.fd(), owner, None).map_err(|errno| failed(dir.path(), errno))?;
    for file in files {
        match rustix::fs::chownat(dir.fd(), *file, owner, None, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(&dir.path().join(file), errno)),
        }
    }
    Ok(())
}
