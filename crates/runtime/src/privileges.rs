//! Whether we have the host's privileges, or only those of a user.

use rustix::process::geteuid;

/// Whether this is no root, or the root of a user namespace only.
pub(crate) fn is_rootless() -> bool {
    !geteuid().is_root() || !is_initial(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
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
