//! Creating and starting a container.

use crate::{CreateRequest, RuntimeError};
use std::os::fd::{BorrowedFd, OwnedFd};
use wharf_cgroup::Cgroup;

/// A container whose init has set everything up and waits for [`Created::start`].
///
/// Dropping it without `start` or [`Created::leave`] kills init and removes
/// the cgroup.
#[derive(Debug)]
pub struct Created {
    pid: i32,
}

/// Creates the container: cgroup, namespaces, mounts, rights.
///
/// On return init waits before the program. On failure nothing is left.
///
/// # Errors
/// [`RuntimeError`] with the failed step.
pub fn create(request: CreateRequest) -> Result<Created, RuntimeError> {
    let _ = request;
    todo!()
}

impl Created {
    /// Init's process id, as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor of init.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Init's cgroup; none without `linux.cgroupsPath`.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        todo!()
    }

    /// The master side of the terminal, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        todo!()
    }

    /// What went wrong without harm, such as a limit that may not be raised.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        todo!()
    }

    /// Lets init execute the program and waits until execve succeeded or
    /// failed. After a failure init has ended with code 126 or 127 (to be
    /// reaped by the caller through [`Created::pid`]) or 1.
    ///
    /// # Errors
    /// The error of execve or of the last steps before it.
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Kills init, reaps it and removes the cgroup.
    pub fn abort(self) {
        todo!()
    }

    /// Takes the parts out and lets the container go on by itself: the
    /// process id, its descriptor, and the cgroup.
    #[must_use]
    pub fn leave(self) -> (i32, OwnedFd, Option<Cgroup>) {
        todo!()
    }
}
