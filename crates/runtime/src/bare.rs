//! Where init's mounts begin.
//!
//! Init may copy the mount namespace of its caller, put the root somewhere in it and pivot to it. pivot_root(2) looks at
//! every task of the machine, and umount(2) of the copy waits until no processor is in the middle of something long: both
//! take longer the more containers there are. Where nothing of the host's mounts is needed, init enters a namespace
//! instead that was made once, copies that one, and puts the container's root over its own in the end: as on a machine,
//! whose root lies over the initramfs.
//!
//! ```text
//! /           an overlay without a writable layer: nothing makes it writable
//! /root       where the container's root lies until all in it is mounted
//! ```

use crate::RuntimeError;
use crate::init::classic::MountApi;
use crate::init::{InitPlan, masks};
use crate::plan::mounts::{Kind, MS_PRIVATE, MountPlan};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_sys::bare::leave_host;
use wharf_sys::fd::proc_path;
use wharf_sys::mount::{AttrChange, Depth, attach, clone_tree, set_attr};
use wharf_sys::namespace::{self, CLONE_NEWNS, CLONE_NEWUSER};
use wharf_sys::path::{RootDir, is_namespace};

/// Where the container's root is built.
pub(crate) const PLACE: &str = "/root";

/// File systems that take nothing from the host's files.
const OWN: [&str; 6] = ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue"];

/// Makes such a namespace on the calling thread, which should end afterwards; `place` is any directory.
///
/// # Errors
/// As unshare(2), mount(2), pivot_root(2), setns(2); EPERM where no device node may be made, as init would bind the
/// host's then.
pub fn make(place: &Path) -> Result<OwnedFd, Errno> {
    let made = leave_host(place, furnish)?;
    namespace::enter(&made, CLONE_NEWNS)?;
    namespace::unshare(CLONE_NEWNS)?;
    Ok(made)
}

/// SECURITY: all containers have it below their root, out of sight. Whoever may take the root away could make a tmpfs
/// writable again, and leave something there for the others.
fn furnish(place: &Path) -> Result<(), Errno> {
    let (layer, empty, trial) = (place.join("layer"), place.join("empty"), place.join("trial"));
    rustix::fs::mkdir(&layer, Mode::RWXU)?;
    rustix::fs::mkdir(layer.join("root"), Mode::RWXU)?;
    rustix::fs::mkdir(&empty, Mode::RWXU)?;
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, &trial, FileType::CharacterDevice, Mode::RUSR, null)?;
    rustix::fs::unlink(&trial)?;
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (layer, empty) = (open(&layer)?, open(&empty)?);
    // By descriptor: a path may hold what the option's syntax does not take.
    let data = format!("lowerdir={}:{}", proc_path(&layer), proc_path(&empty));
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"overlay", place, c"overlay", flags, Some(data.as_c_str()))
}

/// A bare mount namespace, and what is needed of the host's files there.
#[derive(Debug)]
pub(crate) struct Bare {
    namespace: OwnedFd,
    /// The host's /dev/null as a detached mount, for the masks of files.
    pub(crate) null: Option<OwnedFd>,
}

/// Decides whether init begins in `namespace`, once everything that lies outside the container is opened.
pub(crate) fn choose(namespace: Option<OwnedFd>, plan: &InitPlan) -> Option<Bare> {
    let namespace = namespace.filter(|_| needs_no_host(plan))?;
    if plan.spec.linux().masked_paths.is_empty() {
        return Some(Bare { namespace, null: None });
    }
    // Without it init says what is wrong with the host's, if it needs it.
    let null = detach_null().ok()?;
    Some(Bare {
        namespace,
        null: Some(null),
    })
}

fn detach_null() -> Result<OwnedFd, Errno> {
    let null = clone_tree(masks::open_null()?, c"", Depth::Top)?;
    let private = AttrChange {
        propagation: u64::from(MS_PRIVATE),
        ..AttrChange::default()
    };
    set_attr(&null, Depth::Top, private)?;
    Ok(null)
}

/// Whether init finds all it mounts opened. A user namespace may not enter the one that the host made, nor mount proc
/// where none is in sight; hooks expect the host's files.
fn needs_no_host(plan: &InitPlan) -> bool {
    let is_there = |(mount, source): (&MountPlan, &Option<OwnedFd>)| match &mount.kind {
        Kind::Bind { .. } => source.is_some(),
        Kind::Filesystem(name) => OWN.contains(&name.as_str()),
        Kind::Cgroup => true,
    };
    !crate::privileges::is_rootless()
        && plan.api == MountApi::New
        && plan.rootfs_mount.is_some()
        && plan.namespaces.makes(CLONE_NEWNS)
        && !plan.namespaces.has(CLONE_NEWUSER)
        && !plan.no_pivot
        && plan.spec.hooks.is_none()
        && plan.mounts.iter().zip(&plan.sources).all(is_there)
        && !takes_pins_along(plan)
}

/// Whether a bind takes a pinned mount namespace along, which is refused (ELOOP) and then made of init's own copy of the
/// host's mounts.
fn takes_pins_along(plan: &InitPlan) -> bool {
    let binds = || {
        plan.mounts
            .iter()
            .zip(&plan.sources)
            .filter(|(mount, _)| mount.kind == Kind::Bind { recursive: true })
    };
    if binds().any(|(_, source)| source.as_ref().is_some_and(is_namespace)) {
        return true;
    }
    let trees = binds().filter(|(_, source)| source.as_ref().is_some_and(is_directory));
    let mut tops = trees.filter_map(|(mount, _)| mount.source.as_ref()).peekable();
    if tops.peek().is_none() {
        return false;
    }
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return true;
    };
    let pins = pinned_namespaces(&table);
    // One that cannot be resolved fails, or is the root of all.
    let resolved = |top: &PathBuf| std::fs::canonicalize(top).unwrap_or_else(|_| PathBuf::from("/"));
    !pins.is_empty()
        && tops
            .map(resolved)
            .any(|top| pins.iter().any(|pin| may_be_below(pin, &top)))
}

/// A place that the kernel writes with escapes may be anywhere.
fn may_be_below(pin: &str, top: &Path) -> bool {
    pin.contains('\\') || Path::new(pin).starts_with(top)
}

fn is_directory(source: &OwnedFd) -> bool {
    rustix::fs::fstat(source).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Where mount namespaces are pinned (proc_pid_mountinfo(5)), save below mounts that no bind takes along.
fn pinned_namespaces(table: &str) -> Vec<&str> {
    let lines: Vec<_> = table.lines().filter_map(Line::parse).collect();
    let travels = |pin: &Line<'_>| {
        let above = |line: &&Line<'_>| {
            lines
                .iter()
                .find(|other| other.id == line.parent && other.id != line.id)
        };
        let mut chain = std::iter::successors(Some(pin), above).take(lines.len());
        !chain.any(|line| line.is_unbindable)
    };
    let pins = lines.iter().filter(|line| line.is_pin).filter(|line| travels(line));
    pins.map(|pin| pin.point).collect()
}

/// What counts of a line of a mount table.
struct Line<'a> {
    id: &'a str,
    parent: &'a str,
    point: &'a str,
    /// It pins a mount namespace.
    is_pin: bool,
    is_unbindable: bool,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut words = front.split(' ');
        let (id, parent, root, point) = (words.next()?, words.next()?, words.nth(1)?, words.next()?);
        Some(Self {
            id,
            parent,
            point,
            is_pin: back.starts_with("nsfs ") && root.starts_with("mnt:["),
            is_unbindable: words.any(|tag| tag == "unbindable"),
        })
    }
}

impl Bare {
    /// In init: makes a copy of the namespace its own.
    pub(crate) fn enter(&self) -> Result<(), RuntimeError> {
        namespace::enter(&self.namespace, CLONE_NEWNS)
            .and_then(|()| namespace::unshare(CLONE_NEWNS))
            .map_err(|errno| RuntimeError::system("mounts", "copy the bare mount namespace", errno))
    }
}

/// In init: puts the root over all that was there, and goes up to it.
pub(crate) fn leave(root: &RootDir) -> Result<(), RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("chroot", what, errno);
    let below = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open what the root goes over"))?;
    attach(root.as_fd(), &below).map_err(failed("put the root over all else"))?;
    rustix::process::fchdir(root.as_fd()).map_err(failed("enter the root"))?;
    rustix::process::chroot(c".").map_err(failed("change the root"))?;
    rustix::process::chdir(c"/").map_err(failed("enter the new root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pins_of_mount_namespaces_that_binds_take_along_count() {
        let table = "\
20 1 8:1 / / rw shared:1 - ext4 /dev/a rw
30 20 0:20 / /run rw - tmpfs tmpfs rw
31 30 0:4 mnt:[4026532210] /run/snapd/ns/a\\040b.mnt rw shared:7 - nsfs nsfs rw
32 30 0:4 net:[4026532211] /run/netns/a rw - nsfs nsfs rw
33 30 0:20 /pins /run/pins rw unbindable - tmpfs tmpfs rw
34 33 0:4 mnt:[4026532212] /run/pins/namespace rw - nsfs nsfs rw
35 30 0:4 mnt:[4026532213] /run/own rw unbindable - nsfs nsfs rw
36 36 0:4 / /mnt:[1 rw - tmpfs tmpfs rw
";
        assert_eq!(pinned_namespaces(table), ["/run/snapd/ns/a\\040b.mnt"]);
        assert_eq!(pinned_namespaces(""), [""; 0]);
        let below = |pin, top: &str| may_be_below(pin, Path::new(top));
        assert!(below("/run/a", "/run") && below("/run/a", "/") && below("/a\\040b", "/run"));
        assert!(!below("/run/a", "/ru") && !below("/run/a", "/run/a/b"));
    }
}
