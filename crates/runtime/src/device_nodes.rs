//! Device nodes for containers with a user namespace of their own, which may
//! make none: they are made outside, in a file system of nobody's, and handed
//! in as mounts of one file each.
//!
//! KERNEL(6.15): copies a mount out of one that is attached nowhere. Where
//! that fails, init binds the host's node of the same path instead, as ever.

use crate::spec::{Device, IdMapping, Linux};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_sys::mount::{Depth, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, clone_tree, new_filesystem};

/// A node for each device, in their order, as far as one could be made.
pub(crate) fn make_all(linux: &Linux, devices: &[crate::init::devices::Node]) -> Vec<Option<OwnedFd>> {
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    let Ok(place) = new_filesystem("tmpfs", &[], attributes) else {
        return Vec::new();
    };
    let owners = linux.devices.iter().map(|device| host_owner(linux, device));
    let make = |(index, (node, owner)): (usize, (&_, Option<_>))| {
        owner.and_then(|owner| make_one(place.as_fd(), index, node, owner).ok())
    };
    devices.iter().zip(owners).enumerate().map(make).collect()
}

fn make_one(
    place: BorrowedFd<'_>,
    index: usize,
    node: &crate::init::devices::Node,
    (uid, gid): (u32, u32),
) -> Result<OwnedFd, Errno> {
    let name = crate::init::c_text(&index.to_string());
    let mode = Mode::from_raw_mode(node.mode);
    rustix::fs::mknodat(place, name.as_c_str(), node.kind, mode, node.number())?;
    // The umask of the caller has been at work.
    rustix::fs::chmodat(place, name.as_c_str(), mode, rustix::fs::AtFlags::empty())?;
    rustix::fs::chownat(
        place,
        name.as_c_str(),
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?;
    clone_tree(place, &name, Depth::Top)
}

/// The ids on the host; none of one that is not mapped.
fn host_owner(linux: &Linux, device: &Device) -> Option<(u32, u32)> {
    Some((
        IdMapping::host_of(&linux.uid_mappings, device.uid.unwrap_or(0))?,
        IdMapping::host_of(&linux.gid_mappings, device.gid.unwrap_or(0))?,
    ))
}
