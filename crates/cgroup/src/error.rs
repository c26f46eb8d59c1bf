//! What can fail with a control group.

use std::io;
use std::path::PathBuf;

/// A failed operation on a control group. Every variant names the file or controller it failed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// The mount table could not be read.
    #[error("cannot read {path}")]
    Probe {
        /// The file that describes the mounts.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No hierarchy is mounted at all.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A limit was asked for whose controller this kernel or mount table does not offer.
    #[error("cgroup controller {controller} is not available, but {setting} was asked for")]
    MissingController {
        /// The controller's kernel name.
        controller: String,
        /// The setting that needs it.
        setting: String,
    },
    /// A version 2 group may hand down controllers or hold processes, not both.
    #[error("cgroup {path} holds processes, so it cannot hand down the {controller} controller")]
    Populated {
        /// The controller, by the kernel's name.
        controller: String,
        /// The group above, which holds processes.
        path: PathBuf,
    },
    /// The path is empty, the hierarchy's root, or tries to climb.
    #[error("invalid cgroup path {path:?}: {reason}")]
    InvalidPath {
        /// The path as given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value cannot be expressed.
    #[error("invalid value for {setting}: {reason}")]
    InvalidValue {
        /// The setting.
        setting: String,
        /// What is wrong.
        reason: String,
    },
    /// A directory could not be made.
    #[error("cannot create cgroup {path}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory could not be opened.
    #[error("cannot open cgroup {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A control file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value was refused by the kernel.
    #[error("cannot write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The text that was written.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The device filter could not be loaded or attached.
    #[error("cannot {action} the device filter of cgroup {path}")]
    DeviceFilter {
        /// What was done.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The group could not be given to a user.
    #[error("cannot give {path} to user {uid}")]
    Delegate {
        /// The directory or file.
        path: PathBuf,
        /// The user.
        uid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A deadline passed.
    #[error("cgroup {path} did not become {state} within {waited_ms} ms")]
    Deadline {
        /// The directory.
        path: PathBuf,
        /// The state waited for.
        state: &'static str,
        /// How long was waited.
        waited_ms: u64,
    },
    /// A directory could not be removed.
    #[error("cannot remove cgroup {path}")]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CgroupError {
    /// The kernel's error number behind this error, if it came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        use std::error::Error as _;
        self.source()
            .and_then(|cause| cause.downcast_ref::<io::Error>())
            .and_then(io::Error::raw_os_error)
    }
}
