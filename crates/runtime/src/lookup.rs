//! Looking a user up in a root file system, for callers who hand it to
//! another runtime.

use crate::RuntimeError;
use crate::init::user::Accounts;
use std::path::Path;
use wharf_sys::path::RootDir;

/// The numbers behind a Docker user string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Resolves `name|uid[:group|gid]` and more groups in the passwd and group
/// files below `rootfs`, which may be hostile.
///
/// # Errors
/// [`RuntimeError`] with Docker's wording for a name that is not there.
pub fn resolve_user(rootfs: &Path, user: &str, group_add: &[String]) -> Result<ResolvedUser, RuntimeError> {
    let root = RootDir::open(rootfs)
        .map_err(|errno| RuntimeError::system("process.user", format!("open {}", rootfs.display()), errno))?;
    let accounts = Accounts::read(&root)?;
    let identity = accounts.resolve(user)?;
    let mut groups = identity.groups;
    for group in group_add {
        groups.push(accounts.group_id(group)?);
    }
    Ok(ResolvedUser {
        uid: identity.uid,
        gid: identity.gid,
        groups,
    })
}
