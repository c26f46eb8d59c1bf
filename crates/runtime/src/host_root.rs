//! The root of a container without a mount namespace: it is attached where
//! the whole host sees it, and has to be taken away with the container.

use crate::RuntimeError;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where such a root is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoot {
    place: PathBuf,
    /// The mount that was seen there before; none where the kernel has no
    /// numbers for them (KERNEL(5.8)).
    covered: Option<u64>,
}

impl HostRoot {
    /// Remembers what is at `place` now.
    pub(crate) fn note(place: &Path) -> Result<Self, RuntimeError> {
        let covered = seen_at(place)
            .map_err(|errno| RuntimeError::system("rootfs", format!("look at {}", place.display()), errno))?;
        Ok(Self {
            place: place.to_owned(),
            covered,
        })
    }

    /// Takes the root away with everything below it. What was there before
    /// stays, so that it may be called again.
    ///
    /// # Errors
    /// When the kernel refuses to unmount.
    pub fn detach(&self) -> Result<(), RuntimeError> {
        let now = match seen_at(&self.place) {
            Ok(now) => now,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(self.failed(errno)),
        };
        if now.is_some() && now == self.covered {
            return Ok(());
        }
        match unmount(&self.place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Nothing is mounted there.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn failed(&self, errno: Errno) -> RuntimeError {
        RuntimeError::system("rootfs", format!("unmount {}", self.place.display()), errno)
    }
}

/// The mount that a path leads to.
fn seen_at(place: &Path) -> Result<Option<u64>, Errno> {
    let seen = statx(
        CWD,
        place,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        StatxFlags::MNT_ID,
    )?;
    let known = StatxFlags::from_bits_retain(seen.stx_mask).contains(StatxFlags::MNT_ID);
    Ok(known.then_some(seen.stx_mnt_id))
}

/// Detached again unless it is kept.
#[derive(Debug)]
pub(crate) struct HostRootGuard(Option<HostRoot>);

impl HostRootGuard {
    pub(crate) fn new(root: Option<HostRoot>) -> Self {
        Self(root)
    }

    pub(crate) fn root(&self) -> Option<&HostRoot> {
        self.0.as_ref()
    }

    pub(crate) fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for HostRootGuard {
    fn drop(&mut self) {
        if let Some(root) = self.0.take() {
            // Already on the way of a failure, which is what gets reported.
            let _ = root.detach();
        }
    }
}
