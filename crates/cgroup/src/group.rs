//! One control group.

#![allow(clippy::todo, unused_variables)]

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::CgroupError;
use crate::hierarchy::{Hierarchy, Version};
use crate::resources::Resources;
use crate::stats::Stats;

/// A control group: one directory on version 2, one per controller in use on version 1.
///
/// Holds the directories open; dropping it leaves the group in place (see [`Cgroup::delete`]).
#[derive(Debug)]
pub struct Cgroup {}

impl Cgroup {
    /// Makes the group's directories (parents too). Succeeds if they exist already.
    pub fn create(hierarchy: &Hierarchy, path: &str) -> Result<Self, CgroupError> {
        todo!()
    }

    /// Opens a group made earlier; on version 1 controllers without its directory are skipped.
    ///
    /// # Errors
    /// [`CgroupError::Open`] if no directory of it exists.
    pub fn open(hierarchy: &Hierarchy, path: &str) -> Result<Self, CgroupError> {
        todo!()
    }

    /// The group a process is in.
    pub fn of_process(hierarchy: &Hierarchy, pid: u32) -> Result<Self, CgroupError> {
        todo!()
    }

    /// Path below the hierarchy, beginning with `/`.
    pub fn path(&self) -> &str {
        todo!()
    }

    /// Interface of the hierarchy.
    pub fn version(&self) -> Version {
        todo!()
    }

    /// Directory per controller name (v1), or the one directory under the empty name (v2), as the
    /// OCI runtime state and the container's own cgroup mount need them.
    pub fn directories(&self) -> BTreeMap<String, std::path::PathBuf> {
        todo!()
    }

    /// The directory for CLONE_INTO_CGROUP; `None` on version 1.
    pub fn open_dir(&self) -> Option<BorrowedFd<'_>> {
        todo!()
    }

    /// Writes limits to a new, empty group, device rules included.
    pub fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        todo!()
    }

    /// Changes limits of a group in use; memory and swap are written in the order that keeps each
    /// step valid. Device rules are only touched when given.
    pub fn update(&self, resources: &Resources) -> Result<(), CgroupError> {
        todo!()
    }

    /// Moves a process (all its threads) into the group.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        todo!()
    }

    /// Stops every task; returns when the kernel says all are stopped.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        todo!()
    }

    /// Lets the tasks go on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        todo!()
    }

    /// Whether the group is frozen.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        todo!()
    }

    /// Kills every process in the group and below it, frozen ones too.
    pub fn kill(&self) -> Result<(), CgroupError> {
        todo!()
    }

    /// Sends a signal to every process in the group and below it.
    pub fn signal(&self, signal: i32) -> Result<(), CgroupError> {
        todo!()
    }

    /// Process ids in the group and below it, sorted.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        todo!()
    }

    /// Measures everything the mounted controllers offer.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        todo!()
    }

    /// Tasks killed so far because the group was out of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        todo!()
    }

    /// A descriptor that becomes readable when the group runs out of memory.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        todo!()
    }

    /// Removes the group and its children, retrying while dying processes still hold it.
    /// Succeeds if it is already gone.
    pub fn delete(self, deadline: Duration) -> Result<(), CgroupError> {
        todo!()
    }

    /// Kills and removes everything below (and including) a path such as `/NAME`, in every
    /// mounted hierarchy. Goes on past failures and reports the first.
    pub fn delete_tree(hierarchy: &Hierarchy, path: &str, deadline: Duration) -> Result<(), CgroupError> {
        todo!()
    }
}

/// Out-of-memory notices of one group; poll its descriptor for input.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl OomWatch {
    /// Takes pending notices; call when the descriptor is readable.
    pub fn drain(&self) {
        todo!()
    }
}

impl std::os::fd::AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
