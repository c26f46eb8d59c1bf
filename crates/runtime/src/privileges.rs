//! Whether we have the host's privileges, or only those of a user.

use crate::RuntimeError;
use crate::spec::{Linux, NamespaceKind};
use rustix::fs::Mode;
use rustix::process::geteuid;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Whether this is no root, or the root of a user namespace only.
///
/// Asked for once: whoever enters another user namespace goes on as a child that does not ask.
pub(crate) fn is_rootless() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    let probe =
        || !geteuid().is_root() || !is_initial(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
    *ANSWER.get_or_init(probe)
}

/// Where runtimes keep what lasts until the next boot, or until the user has logged out.
pub(crate) fn runtime_dir() -> PathBuf {
    let set = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
    let usual = PathBuf::from(format!("/run/user/{}", geteuid().as_raw()));
    match (is_rootless(), set) {
        (true, Some(directory)) => directory.into(),
        (true, None) if usual.is_dir() => usual,
        _ => "/run".into(),
    }
}

/// Keeps a directory below the user's from being cleaned away for its age: the sticky bit says so
/// (XDG base directory specification).
pub(crate) fn keep_directory(directory: &Path) {
    if is_rootless() && directory.starts_with(runtime_dir()) {
        // A directory of somebody else stays as it is.
        let _ = rustix::fs::chmod(directory, Mode::from_raw_mode(0o1700));
    }
}

/// Whether mounts of the caller's own mount namespace may be copied and made.
pub(crate) fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    wharf_sys::caps::current().is_ok_and(|(effective, _, _)| effective & wharf_sys::caps::bit(CAP_SYS_ADMIN) != 0)
}

/// Refuses what needs privileges that there are none of.
pub(crate) fn check(linux: &Linux) -> Result<(), RuntimeError> {
    let has_own_ids = linux
        .namespaces
        .iter()
        .any(|namespace| namespace.kind == NamespaceKind::User);
    if has_own_ids || may_mount() {
        return Ok(());
    }
    let text = "linux.namespaces: without privileges a container needs a user namespace";
    Err(RuntimeError::invalid("linux.namespaces", text))
}

/// Whether a map of ids is that of the initial user namespace, or of one that maps root to root.
fn is_initial(map: &str) -> bool {
    let mut fields = map.split_ascii_whitespace();
    match (fields.next(), fields.next()) {
        (Some(inside), Some(outside)) => inside == "0" && outside == "0",
        // No user namespaces in this kernel.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_initial;

    #[test]
    fn root_is_told_by_the_first_line_of_the_map() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(is_initial("0 0 65536\n"));
        assert!(is_initial(""));
        assert!(!is_initial("0 1000 1\n1 100000 65536\n"));
    }
}
