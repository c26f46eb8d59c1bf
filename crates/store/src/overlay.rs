//! Overlay's own marks on disk: whiteouts and opaque directories.
//!
//! Root uses the `trusted.overlay.` attributes; an engine in a user namespace may not set those and uses
//! `user.overlay.` (mounted with `userxattr`). Both are read. See the kernel's `filesystems/overlayfs.rst`.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, Stat, XattrFlags};
use rustix::io::Errno;

const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
const PREFIXES: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Whether the file is a whiteout: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout.
pub(crate) fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mknodat(
        dir,
        OsStr::from_bytes(name),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )
}

/// Whether the opened directory hides everything below it in lower layers.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0u8; 4];
        rustix::fs::fgetxattr(dir, *name, &mut value).is_ok_and(|n| n == 1 && value[0] == b'y')
    })
}

/// Makes the opened directory opaque.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fsetxattr(dir, OPAQUE[0], b"y", XattrFlags::empty()) {
        Err(Errno::PERM) => rustix::fs::fsetxattr(dir, OPAQUE[1], b"y", XattrFlags::empty()),
        other => other,
    }
}

/// Whether an attribute belongs to overlay itself.
pub(crate) fn is_private_xattr(name: &[u8]) -> bool {
    PREFIXES.iter().any(|p| name.starts_with(p))
}

/// Removes overlay's bookkeeping (origin, impure, uuid and so on) except the opaque mark.
pub(crate) fn strip_private(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in crate::attributes::list(dir)? {
        let keep = OPAQUE.iter().any(|o| o.as_bytes() == name);
        if is_private_xattr(&name) && !keep {
            match rustix::fs::fremovexattr(dir, OsStr::from_bytes(&name)) {
                Ok(()) | Err(Errno::NODATA | Errno::PERM) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
