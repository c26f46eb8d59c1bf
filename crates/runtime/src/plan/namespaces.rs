//! Namespaces: which are made with init, which are joined, and where.

use crate::RuntimeError;
use crate::spec::{Linux, NamespaceKind};
use std::os::fd::OwnedFd;
use wharf_sys::namespace::{
    self, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER,
    CLONE_NEWUTS,
};

/// The decided set.
#[derive(Debug, Default)]
pub(crate) struct NamespacePlan {
    /// `CLONE_NEW...` of those made.
    pub(crate) new: u32,
    /// Those joined, opened and checked.
    pub(crate) join: Vec<(u32, OwnedFd)>,
}

/// `CLONE_NEW...` of a kind.
pub(crate) fn flag(kind: NamespaceKind) -> u32 {
    match kind {
        NamespaceKind::Pid => CLONE_NEWPID,
        NamespaceKind::Network => CLONE_NEWNET,
        NamespaceKind::Mount => CLONE_NEWNS,
        NamespaceKind::Ipc => CLONE_NEWIPC,
        NamespaceKind::Uts => CLONE_NEWUTS,
        NamespaceKind::User => CLONE_NEWUSER,
        NamespaceKind::Cgroup => CLONE_NEWCGROUP,
        NamespaceKind::Time => CLONE_NEWTIME,
    }
}

/// Name of the file in `/proc/<pid>/ns` of a `CLONE_NEW...`.
pub(crate) fn file_name(flag: u32) -> &'static str {
    match flag {
        CLONE_NEWPID => "pid",
        CLONE_NEWNET => "net",
        CLONE_NEWNS => "mnt",
        CLONE_NEWIPC => "ipc",
        CLONE_NEWUTS => "uts",
        CLONE_NEWUSER => "user",
        CLONE_NEWCGROUP => "cgroup",
        _ => "time",
    }
}

impl NamespacePlan {
    /// Whether init gets a new namespace of this kind.
    pub(crate) fn makes(&self, flag: u32) -> bool {
        self.new & flag != 0
    }

    /// Whether init joins a namespace of this kind.
    pub(crate) fn joins(&self, flag: u32) -> bool {
        self.join.iter().any(|(joined, _)| *joined == flag)
    }

    /// The namespaces to join, opened once more.
    pub(crate) fn open_again(&self) -> Result<Vec<(u32, OwnedFd)>, RuntimeError> {
        let again = |(kind, fd): &(u32, OwnedFd)| {
            let copied = rustix::io::fcntl_dupfd_cloexec(fd, 0);
            copied
                .map(|fd| (*kind, fd))
                .map_err(|errno| RuntimeError::system("join namespaces", "copy a descriptor", errno))
        };
        self.join.iter().map(again).collect()
    }

    /// Whether init does not stay in the caller's namespace of this kind.
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.makes(flag) || self.joins(flag)
    }
}

/// Decides the namespaces and opens those to join.
pub(crate) fn plan_namespaces(linux: &Linux) -> Result<NamespacePlan, RuntimeError> {
    let mut plan = NamespacePlan::default();
    for (index, wanted) in linux.namespaces.iter().enumerate() {
        let flag = flag(wanted.kind);
        let field = format!("linux.namespaces[{index}]");
        if plan.has(flag) {
            return Err(RuntimeError::invalid(
                &field,
                format!("{field}: {} is listed twice", file_name(flag)),
            ));
        }
        let Some(path) = wanted.path.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
            plan.new |= flag;
            continue;
        };
        let open = namespace::open(path).map_err(|errno| {
            RuntimeError::system(
                "join namespaces",
                format!("{field}.path: open {}", path.display()),
                errno,
            )
        })?;
        match namespace::kind_of(&open) {
            Ok(kind) if kind == flag => plan.join.push((flag, open)),
            Ok(kind) => {
                let (is, wanted) = (file_name(kind), file_name(flag));
                let text = format!("{field}.path: {} is a {is} namespace, not {wanted}", path.display());
                return Err(RuntimeError::invalid(field, text));
            }
            Err(_) => {
                let text = format!("{field}.path: {} is not a namespace", path.display());
                return Err(RuntimeError::invalid(field, text));
            }
        }
    }
    check_combinations(linux, &plan)?;
    Ok(plan)
}

fn check_combinations(linux: &Linux, plan: &NamespacePlan) -> Result<(), RuntimeError> {
    let invalid = |field: &str, why: &str| Err(RuntimeError::invalid(field, format!("{field}: {why}")));
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    // Beside a user namespace to join they only say what it maps.
    if mapped && !plan.has(CLONE_NEWUSER) {
        return invalid("linux.uidMappings", "needs a user namespace");
    }
    if plan.makes(CLONE_NEWUSER) && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
        return invalid(
            "linux.uidMappings",
            "a new user namespace needs uidMappings and gidMappings",
        );
    }
    if !linux.time_offsets.is_empty() && !plan.makes(CLONE_NEWTIME) {
        return invalid("linux.timeOffsets", "needs a new time namespace");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Namespace;

    fn plan(list: &[(NamespaceKind, Option<&str>)]) -> Result<NamespacePlan, String> {
        let namespaces = list
            .iter()
            .map(|(kind, path)| Namespace {
                kind: *kind,
                path: path.map(std::path::PathBuf::from),
            })
            .collect();
        plan_namespaces(&Linux {
            namespaces,
            ..Linux::default()
        })
        .map_err(|error| error.message())
    }

    #[test]
    fn listed_kinds_are_made_or_joined() {
        let plan = plan(&[
            (NamespaceKind::Mount, None),
            (NamespaceKind::Pid, Some("")),
            (NamespaceKind::Network, Some("/proc/self/ns/net")),
        ])
        .expect("valid");
        assert_eq!(plan.new, CLONE_NEWNS | CLONE_NEWPID);
        assert!(plan.joins(CLONE_NEWNET));
    }

    #[test]
    fn wrong_lists_are_errors_that_name_the_field() {
        let check = |list: &[(NamespaceKind, Option<&str>)], expected: &str| {
            assert_eq!(plan(list).map(|_| ()), Err(expected.to_owned()));
        };
        let mount = (NamespaceKind::Mount, None);
        check(&[mount, mount], "linux.namespaces[1]: mnt is listed twice");
        check(
            &[mount, (NamespaceKind::Pid, Some("/proc/self/ns/net"))],
            "linux.namespaces[1].path: /proc/self/ns/net is a net namespace, not pid",
        );
        check(
            &[mount, (NamespaceKind::Pid, Some("/dev/null"))],
            "linux.namespaces[1].path: /dev/null is not a namespace",
        );
    }
}
