//! Mount namespaces with nothing of the host in them but what they are given.

use crate::Result;
use crate::namespace::{self, CLONE_NEWNS};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Gives the calling thread a mount namespace of its own and returns it. Its root is a tmpfs that only the host's root
/// may enter, with what `furnish` puts there. Nothing of it spreads, and no file system of the host is kept busy by it.
///
/// `place` is any directory: the tmpfs lies on it until it becomes the root, so that `furnish` can take things from the
/// host. The thread should end afterwards: others would not expect what it sees.
///
/// # Errors
/// As unshare(2), mount(2), pivot_root(2); those of `furnish`.
pub fn leave_host(place: &Path, furnish: impl FnOnce(&Path) -> Result<()>) -> Result<OwnedFd> {
    namespace::unshare(CLONE_NEWNS)?;
    let made = namespace::open(Path::new("/proc/thread-self/ns/mnt"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(c"mode=0700"))?;
    furnish(place)?;
    rustix::process::chdir(place)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(made)
}
