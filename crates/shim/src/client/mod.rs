//! The engine's side: start a shim, talk to it, hear from it.
//!
//! Calls may be made concurrently on one client (it is cheap to clone); each has a deadline. Events
//! end when the connection does: the shim is gone, or it must be reconnected to.
//!
//! ```text
//! ShimLauncher::launch(dir, plan, clients) -> Launched    a new shim, its container created
//! connect(dir) -> (ShimClient, EventStream)               a shim that an earlier engine started
//! read_exit(dir)                                          what a shim that has gone left behind
//! ```

mod call;
mod error;
mod follow;
mod launch;
mod link;

use std::path::Path;

pub use call::{ShimClient, Started};
pub use error::{CallError, LaunchError};
pub use follow::LogFollower;
pub use launch::{Launched, ShimLauncher, Spawned};
pub use link::{EventStream, connect};

use crate::identity;
use crate::protocol::ExitRecord;

/// The exit record a shim left in `dir`, whether it still lives or not.
pub fn read_exit(dir: &Path) -> Option<ExitRecord> {
    serde_json::from_slice(&std::fs::read(dir.join(identity::EXIT)).ok()?).ok()
}

/// Process id of the shim that keeps `dir`, if that very process still lives.
pub fn shim_pid(dir: &Path) -> Option<u32> {
    identity::shim_pid(dir)
}

/// Whether a shim keeps `dir`, even one that has only just been started and cannot be talked to yet, or a process that
/// it is about to start.
pub fn is_kept(dir: &Path) -> bool {
    let Ok(dir) = launch::open_directory(dir) else {
        return false;
    };
    let lock = rustix::fs::flock(&dir, rustix::fs::FlockOperation::NonBlockingLockShared);
    lock == Err(rustix::io::Errno::WOULDBLOCK)
}
