//! Mounts: what rustix lacks of the new interface, and shapes that both the
//! new and the classic interface share.

use crate::raw::{fd_arg, syscall};
use crate::{Errno, Result, is_unavailable};
use linux_raw_sys::general::{
    __NR_fsconfig, __NR_fsmount, __NR_fsopen, __NR_mount_setattr, __NR_move_mount, __NR_open_tree, AT_EMPTY_PATH,
    AT_RECURSIVE, MOUNT_ATTR_IDMAP, mount_attr,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use linux_raw_sys::general::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};

/// A change of mount attributes (mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default)]
pub struct AttrChange<'a> {
    /// `MOUNT_ATTR_...` to set.
    pub set: u64,
    /// `MOUNT_ATTR_...` to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`; 0 leaves it.
    pub propagation: u64,
    /// Map ids as this user namespace does.
    pub id_map: Option<BorrowedFd<'a>>,
}

/// How far an attribute change or a copied tree reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount only.
    Top,
    /// All mounts below it too.
    Recursive,
}

/// Changes attributes of the mount that `mount` refers to. KERNEL(5.12).
///
/// # Errors
/// As mount_setattr(2); ENOSYS on older kernels.
pub fn set_attr(mount: impl AsFd, depth: Depth, change: AttrChange<'_>) -> Result<()> {
    let mut attr = mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    if let Some(userns) = change.id_map {
        attr.attr_set |= u64::from(MOUNT_ATTR_IDMAP);
        attr.userns_fd = fd_arg(userns.as_raw_fd()) as u64;
    }
    let flags = match depth {
        Depth::Top => AT_EMPTY_PATH,
        Depth::Recursive => AT_EMPTY_PATH | AT_RECURSIVE,
    };
    let args = [
        fd_arg(mount.as_fd().as_raw_fd()),
        c"".as_ptr() as usize,
        flags as usize,
        std::ptr::from_mut(&mut attr) as usize,
        size_of::<mount_attr>(),
        0,
    ];
    // SAFETY: the empty path is a static C string and `attr` is passed with
    // its own size.
    unsafe { syscall(__NR_mount_setattr, args) }.map(drop)
}

/// One parameter of a new file system.
#[derive(Debug, Clone, Copy)]
pub enum Parameter<'a> {
    /// `key`.
    Flag(&'a str),
    /// `key=value`.
    Text(&'a str, &'a CStr),
}

/// Makes a file system and a mount of it that is attached nowhere; it goes
/// away with the last descriptor unless it is attached. KERNEL(5.2).
///
/// `attributes` are `MOUNT_ATTR_...`.
///
/// # Errors
/// As fsopen(2), fsconfig(2), fsmount(2); ENOSYS on older kernels.
pub fn new_filesystem(kind: &str, parameters: &[Parameter<'_>], attributes: u32) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for parameter in parameters {
        match parameter {
            Parameter::Flag(key) => fsconfig_set_flag(&context, *key)?,
            Parameter::Text(key, value) => fsconfig_set_string(&context, *key, *value)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::from_bits_retain(attributes),
    )
}

/// The kernel's explanation of a failed step of a file system context: its
/// last message, without the severity letter.
#[must_use]
pub fn context_message(context: impl AsFd) -> Option<String> {
    let mut bytes = [0u8; 512];
    let mut last = None;
    while let Ok(length) = rustix::io::read(&context, &mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..length]);
        let text = text.trim_end();
        last = Some(text.get(2..).unwrap_or(text).to_owned());
    }
    last
}

/// Copies a mount (or tree of mounts) as a detached one, as bind does. KERNEL(5.2).
///
/// # Errors
/// As open_tree(2).
pub fn clone_tree(source: impl AsFd, path: &CStr, depth: Depth) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(source, path, flags)
}

/// Attaches a detached mount on what `target` refers to. KERNEL(5.2).
///
/// # Errors
/// As move_mount(2).
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Whether the new mount interface can be used as a whole: open_tree(2),
/// move_mount(2), fsopen(2) and fsmount(2) of KERNEL(5.2), and
/// mount_setattr(2) of KERNEL(5.12). Parts of it are of little use: what one
/// call makes, mount(2) cannot change.
#[must_use]
pub fn is_new_interface_available() -> bool {
    let ask = |number: u32| {
        // SAFETY: a descriptor that is none and null pointers with a size of
        // nothing: every one of these calls fails before it does anything.
        unsafe { syscall(number, [usize::MAX, 0, 0, 0, 0, 0]) }.err()
    };
    // These two ask for no right before they look at what is wrong.
    let is_open = |number| !ask(number).is_some_and(is_unavailable);
    // The others answer EPERM to who may not mount.
    let is_known = |number| ask(number) != Some(Errno::NOSYS);
    is_open(__NR_mount_setattr)
        && is_open(__NR_open_tree)
        && [__NR_move_mount, __NR_fsopen, __NR_fsconfig, __NR_fsmount]
            .into_iter()
            .all(is_known)
}
