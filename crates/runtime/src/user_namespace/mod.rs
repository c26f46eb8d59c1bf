//! User namespaces: id maps, and namespaces that only carry a map.

mod maps;

use crate::RuntimeError;
use crate::spec::IdMapping;
use rustix::io::Errno;
use rustix::process::WaitIdOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_sys::clone::{CloneOptions, clone3};
use wharf_sys::namespace::{self, CLONE_NEWUSER};

pub(crate) use maps::write_maps;

/// A user namespace with these maps and no process in it, for idmapped mounts.
pub(crate) fn with_maps(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd, RuntimeError> {
    let failed = |errno: Errno| RuntimeError::system("idmap", "make a user namespace for the map", errno);
    let (hold, release) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
    let options = CloneOptions {
        flags: CLONE_NEWUSER,
        ..CloneOptions::default()
    };
    let child = clone3(options, |_| {
        // Ends by the signal below: this process holds the other end too.
        let _ = rustix::io::read(&hold, &mut [0u8; 1]);
        0
    })
    .map_err(failed)?;
    let pid = child.pid.as_raw_nonzero().get();
    let made = write_maps(pid, uids, gids)
        .and_then(|()| namespace::open(Path::new(&format!("/proc/{pid}/ns/user"))).map_err(failed));
    let _ = wharf_sys::signal::send(&child.pidfd, 9);
    let _ = wharf_sys::handle::wait(&child.pidfd, WaitIdOptions::EXITED);
    drop(release);
    made
}
