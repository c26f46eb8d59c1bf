//! Mounts by mount(2) alone, where the new interface is not there as a whole.
//!
//! It takes paths, so places are named through /proc/self/fd, and what was
//! mounted is found by resolving its place again. It makes and changes a
//! mount in two steps, and has neither id maps nor recursive attributes.

use super::attach::{ensure_target, filesystem_target, inherited_mode, refuse_proc};
use crate::RuntimeError;
use crate::plan::mounts::{Attributes, Kind, MountPlan, Propagation};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};
use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_sys::fd::proc_path;
use wharf_sys::mount::{
    Depth, MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};
use wharf_sys::path::{RootDir, is_procfs};

const MS_NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);

/// Which interface makes the mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountApi {
    /// fsopen(2), open_tree(2), move_mount(2), mount_setattr(2).
    New,
    /// mount(2). KERNEL(before 5.12), or where a filter refuses the others.
    Classic,
}

impl MountApi {
    pub(crate) fn probe() -> Self {
        if wharf_sys::mount::is_new_interface_available() {
            Self::New
        } else {
            Self::Classic
        }
    }

    /// What of it the caller of the runtime may use itself: without privileges, nothing. Init then
    /// opens what it mounts, in its own namespaces.
    ///
    /// # Errors
    /// A mount that only the caller could prepare.
    pub(crate) fn outside(self, plans: &[MountPlan]) -> Result<Self, RuntimeError> {
        if crate::privileges::may_mount() {
            return Ok(self);
        }
        match plans.iter().find(|plan| plan.id_map.is_some()) {
            None => Ok(Self::Classic),
            Some(plan) => {
                let text = format!("mounts: {}: an id map needs privileges", plan.destination.display());
                Err(RuntimeError::invalid("mounts", text))
            }
        }
    }

    /// Refuses what only the new interface can do.
    pub(crate) fn check(self, plans: &[MountPlan]) -> Result<(), RuntimeError> {
        if self == Self::New {
            return Ok(());
        }
        for plan in plans {
            let what = match (plan.id_map.is_some(), plan.tree.is_empty()) {
                (true, _) => "an id map",
                (false, false) => "a recursive attribute",
                (false, true) => continue,
            };
            let destination = plan.destination.display();
            let text = format!("mounts: {destination}: {what} needs mount_setattr(2) of Linux 5.12");
            return Err(RuntimeError::invalid("mounts", text));
        }
        Ok(())
    }
}

/// Mounts a file system of its own.
pub(crate) fn mount_filesystem(root: &RootDir, plan: &MountPlan, name: &str) -> Result<(), Errno> {
    let mode = inherited_mode(root, plan, name);
    let target = filesystem_target(root, plan, name)?;
    let source = plan.source.as_deref().unwrap_or(Path::new(name));
    let (flags, data) = parameters(plan);
    let data = data
        .iter()
        .map(|item| quote(item))
        .chain(mode.map(|mode| format!("mode={mode}")));
    let data = data.collect::<Vec<_>>().join(",");
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    // ORDER: what is copied up must be written before the mount is read-only.
    let late = if plan.copy_up {
        flags & MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    mount(
        source,
        proc_path(&target),
        name,
        flags.difference(late),
        Some(data.as_c_str()),
    )?;
    let made = root.locate(&plan.destination)?;
    if plan.copy_up {
        super::copy_up::copy_tree(&target, &made)?;
    }
    if !late.is_empty() {
        remount(&made, read_only())?;
    }
    propagate(&made, plan)
}

/// A label may hold the comma that ends an option.
fn quote(item: &str) -> String {
    match item.split_once('=') {
        Some((key, value)) if value.contains(',') => format!("{key}=\"{value}\""),
        _ => item.to_owned(),
    }
}

/// Superblock flags are among the words of the new interface's data.
fn parameters(plan: &MountPlan) -> (MountFlags, Vec<&str>) {
    let mut flags = flags_of(plan.top.set);
    let mut data = Vec::new();
    for item in &plan.data {
        match item.as_str() {
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "mand" => flags |= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            "silent" => flags |= MountFlags::SILENT,
            "ro" => flags |= MountFlags::RDONLY,
            other => data.push(other),
        }
    }
    (flags, data)
}

/// The sources of binds that lie below the place of the root, which an overlay mounted there hides; None for all
/// others, which are bound by their paths.
pub(crate) fn open_hidden(plans: &[MountPlan], place: &Path) -> Vec<Option<OwnedFd>> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let place = real(place);
    let open = |plan: &MountPlan| {
        let source = plan
            .source
            .as_deref()
            .filter(|_| matches!(plan.kind, Kind::Bind { .. }))?;
        real(source).filter(|source| place.as_ref().is_some_and(|place| source.starts_with(place)))?;
        open_source(source).ok() // told when it is bound
    };
    plans.iter().map(open).collect()
}

fn open_source(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Binds the source, `hidden` or by its path, which is the runtime's and not the image's.
pub(crate) fn mount_source(
    root: &RootDir,
    plan: &MountPlan,
    recursive: bool,
    hidden: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let opened = match hidden {
        Some(_) => None,
        None => Some(open_source(plan.source.as_deref().ok_or(Errno::INVAL)?)?),
    };
    let from = hidden.or(opened.as_ref()).ok_or(Errno::INVAL)?;
    let stat = rustix::fs::fstat(from)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let target = ensure_target(root, &plan.destination, is_directory)?;
    if !is_procfs(from) {
        refuse_proc(root, &target)?;
    }
    let depth = if recursive { Depth::Recursive } else { Depth::Top };
    bind(Path::new(&proc_path(from)), &target, depth)?;
    let made = root.locate(&plan.destination)?;
    // SECURITY: a second container on the same root may have put a link in
    // the place meanwhile; attributes must not land on another mount.
    let found = rustix::fs::fstat(&made)?;
    if (found.st_dev, found.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Errno::XDEV);
    }
    let attributes = plan.top.of_bind(plan.is_locked);
    if !attributes.is_empty() {
        remount(&made, attributes)?;
    }
    propagate(&made, plan)
}

/// Binds a path of the host on an open place.
pub(crate) fn bind(source: &Path, target: &OwnedFd, depth: Depth) -> Result<(), Errno> {
    match depth {
        Depth::Recursive => mount_bind_recursive(source, proc_path(target)),
        Depth::Top => mount_bind(source, proc_path(target)),
    }
}

/// Covers `target` with what `from` refers to.
pub(crate) fn cover(from: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    mount_bind(proc_path(from), proc_path(target))
}

/// Makes a path of the container read-only; mounts below it keep theirs.
pub(crate) fn make_read_only(root: &RootDir, path: &str) -> Result<(), Errno> {
    let target = root.locate(path)?;
    let place = proc_path(&target);
    mount_bind_recursive(&place, &place)?;
    remount(&root.locate(path)?, read_only())
}

/// A new cgroup view: a tmpfs for the hierarchies of version 1.
pub(crate) fn mount_tmpfs(target: &OwnedFd, set: u32, data: &str) -> Result<(), Errno> {
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let flags = flags_of(set);
    mount(c"tmpfs", proc_path(target), c"tmpfs", flags, Some(data.as_c_str()))
}

/// The attribute that makes a mount read-only.
pub(crate) fn read_only() -> Attributes {
    Attributes {
        set: MOUNT_ATTR_RDONLY,
        clear: 0,
    }
}

fn propagate(made: &OwnedFd, plan: &MountPlan) -> Result<(), Errno> {
    for Propagation { flag, recursive } in &plan.propagation {
        let mut flags = MountPropagationFlags::from_bits_retain(*flag);
        if *recursive {
            flags |= MountPropagationFlags::REC;
        }
        mount_change(proc_path(made), flags)?;
    }
    Ok(())
}

/// Changes the attributes of a mount. mount(2) takes them as a whole, so
/// those that are not meant are asked for again as they are.
pub(crate) fn remount(mount: impl std::os::fd::AsFd, change: Attributes) -> Result<(), Errno> {
    let path = proc_path(&mount);
    let now = present_flags(&path)?;
    mount_remount(&path, MountFlags::BIND | changed_flags(now, change), c"")
}

/// The flags of a mount as mount(2) spells them (statvfs(3)).
fn present_flags(path: &str) -> Result<MountFlags, Errno> {
    const PAIRS: [(u64, MountFlags); 8] = [
        (1, MountFlags::RDONLY),
        (2, MountFlags::NOSUID),
        (4, MountFlags::NODEV),
        (8, MountFlags::NOEXEC),
        (1024, MountFlags::NOATIME),
        (2048, MountFlags::NODIRATIME),
        (4096, MountFlags::RELATIME),
        (8192, MS_NOSYMFOLLOW),
    ];
    let now = rustix::fs::statvfs(path)?.f_flag.bits();
    let set = PAIRS.iter().filter(|(bit, _)| now & bit != 0);
    Ok(set.fold(MountFlags::empty(), |all, (_, flag)| all | *flag))
}

fn changed_flags(now: MountFlags, change: Attributes) -> MountFlags {
    const TIMES: MountFlags = MountFlags::NOATIME
        .union(MountFlags::RELATIME)
        .union(MountFlags::STRICTATIME);
    let mut flags = now.difference(flags_of(change.clear & !MOUNT_ATTR__ATIME));
    if change.clear & MOUNT_ATTR__ATIME != 0 {
        flags = flags.difference(TIMES);
        if change.set & MOUNT_ATTR__ATIME == 0 {
            flags |= MountFlags::RELATIME;
        }
    }
    flags | flags_of(change.set)
}

fn flags_of(attributes: u32) -> MountFlags {
    const PAIRS: [(u32, MountFlags); 8] = [
        (MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW),
    ];
    let set = PAIRS.iter().filter(|(attribute, _)| attributes & attribute != 0);
    set.fold(MountFlags::empty(), |all, (_, flag)| all | *flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remount_keeps_what_it_does_not_change() {
        let now = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RELATIME;
        let check = |set, clear, expected| assert_eq!(changed_flags(now, Attributes { set, clear }), expected);
        check(MOUNT_ATTR_RDONLY, 0, now | MountFlags::RDONLY);
        check(0, MOUNT_ATTR_NODEV, MountFlags::NOSUID | MountFlags::RELATIME);
        check(
            MOUNT_ATTR_NOATIME,
            MOUNT_ATTR__ATIME,
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME,
        );
        check(0, MOUNT_ATTR__ATIME, now);
    }
}
