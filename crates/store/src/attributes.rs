//! Extended attributes that images carry.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Names and values.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The names of the attributes of an opened file; none where the file system has no attributes.
pub(crate) fn list(file: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = vec![0u8; 1024];
    loop {
        match rustix::fs::flistxattr(file, &mut buffer[..]) {
            Ok(n) => {
                let names = buffer[..n].split(|&b| b == 0).filter(|name| !name.is_empty());
                return Ok(names.map(<[u8]>::to_vec).collect());
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        }
    }
}

/// The value of one attribute; `None` if it is gone.
pub(crate) fn read(file: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0u8; 256];
    loop {
        match rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut buffer[..]) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 16, 0),
            Err(Errno::NODATA) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Whether an attribute of this name is kept in layers. SECURITY: overlay's own attributes in an image would let it
/// redirect lookups in other layers; `trusted.` and the host's labels are not an image's to set.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    let carried: [&[u8]; 2] = [b"security.capability", b"security.ima"];
    let acl = name == b"system.posix_acl_access" || name == b"system.posix_acl_default";
    (carried.contains(&name) || acl || name.starts_with(b"user.")) && !crate::overlay::is_private_xattr(name)
}

/// Sets an attribute; where the file system cannot hold it, or this user may not set it, it is left out, as Docker does.
pub(crate) fn write(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The portable attributes of an opened file, sorted by name.
pub(crate) fn portable(file: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut found = Vec::new();
    for name in list(file)? {
        if is_portable(&name)
            && let Some(value) = read(file, &name)?
        {
            found.push((name, value));
        }
    }
    found.sort();
    Ok(found)
}
