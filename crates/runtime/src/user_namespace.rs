//! User namespaces: id maps, and namespaces that only carry a map.

use crate::RuntimeError;
use crate::spec::IdMapping;
use rustix::io::Errno;
use rustix::process::WaitIdOptions;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_sys::clone::{CloneOptions, clone3};
use wharf_sys::namespace::{self, CLONE_NEWUSER};

/// Writes the id maps of a process's new user namespace.
pub(crate) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<(), RuntimeError> {
    write_map(pid, "uid_map", "linux.uidMappings", uids)?;
    write_map(pid, "gid_map", "linux.gidMappings", gids)
}

fn write_map(pid: i32, file: &str, field: &str, map: &[IdMapping]) -> Result<(), RuntimeError> {
    let path = format!("/proc/{pid}/{file}");
    wharf_sys::path::write_proc(&path, map_text(map).as_bytes())
        .map_err(|errno| RuntimeError::system(field, format!("{field}: write {path}"), errno))
}

fn map_text(map: &[IdMapping]) -> String {
    map.iter().fold(String::new(), |mut text, entry| {
        let _ = writeln!(text, "{} {} {}", entry.container_id, entry.host_id, entry.size);
        text
    })
}

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
