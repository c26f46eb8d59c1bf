//! Where hooks write: nowhere, or to files that annotations name.
//!
//! COMPAT: `run.oci.hooks.stdout` and `run.oci.hooks.stderr` are crun's. What
//! goes to a file is not part of the error of a hook that fails.

use crate::RuntimeError;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const STDOUT: &str = "run.oci.hooks.stdout";
const STDERR: &str = "run.oci.hooks.stderr";

/// The opened files.
#[derive(Debug, Default)]
pub(crate) struct HookOutput {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

impl HookOutput {
    /// Opens the files for appending, made if need be.
    pub(crate) fn open(annotations: &BTreeMap<String, String>) -> Result<Self, RuntimeError> {
        let open = |key: &str| {
            let Some(path) = annotations.get(key).filter(|path| !path.is_empty()) else {
                return Ok(None);
            };
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
            rustix::fs::open(path.as_str(), flags, Mode::from_raw_mode(0o600))
                .map(Some)
                .map_err(|errno| RuntimeError::system("hooks", format!("annotations.{key}: open {path}"), errno))
        };
        Ok(Self {
            stdout: open(STDOUT)?,
            stderr: open(STDERR)?,
        })
    }

    /// The descriptors, to be kept open for hooks that run later.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.stdout.iter().chain(&self.stderr).map(AsFd::as_fd)
    }
}
