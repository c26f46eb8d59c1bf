//! Starting a further process in a running container.

use crate::{ExecRequest, ExecTarget, RuntimeError};
use std::os::fd::OwnedFd;

/// A running exec, child of the caller (which reaps it).
#[derive(Debug)]
pub struct ExecProcess {
    /// Its process id, as the caller sees it.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
    /// What went wrong without harm.
    pub warnings: Vec<String>,
}

/// Starts a process in the container and returns once execve succeeded.
///
/// # Errors
/// [`RuntimeError`] with the failed step; then the process is gone and reaped.
pub fn exec(target: &ExecTarget<'_>, request: ExecRequest) -> Result<ExecProcess, RuntimeError> {
    let _ = (target, request);
    todo!()
}
