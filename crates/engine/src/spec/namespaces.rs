//! Which namespaces are made, joined or left to the host.
use std::path::PathBuf;

use wharf_runtime::spec::{Namespace, NamespaceKind};

use super::HostFacts;
use crate::model::{CgroupnsMode, HostConfig, IpcMode, NetworkMode, PidMode, UtsMode};

/// Namespaces of a container. Kinds that are left out are the host's.
pub(super) fn plan_namespaces(host: &HostConfig, facts: &HostFacts) -> Vec<Namespace> {
    let new = |kind| Some(Namespace { kind, path: None });
    let join = |kind, path: PathBuf| Some(Namespace { kind, path: Some(path) });
    let of_process = |pid: i32, name: &str| PathBuf::from(format!("/proc/{pid}/ns/{name}"));
    let network = match (host.network(), &facts.netns) {
        (NetworkMode::Host, _) | (_, None) => None,
        (_, Some(path)) => join(NamespaceKind::Network, path.clone()),
    };
    let ipc = match (IpcMode::parse(&host.ipc_mode), facts.pid_of_ipc_container) {
        (Ok(IpcMode::Host), _) => None,
        (_, Some(pid)) => join(NamespaceKind::Ipc, of_process(pid, "ipc")),
        _ => new(NamespaceKind::Ipc),
    };
    let pid = match (PidMode::parse(&host.pid_mode), facts.pid_of_pid_container) {
        (Ok(PidMode::Host), _) => None,
        (_, Some(pid)) => join(NamespaceKind::Pid, of_process(pid, "pid")),
        _ => new(NamespaceKind::Pid),
    };
    let uts = match UtsMode::parse(&host.uts_mode) {
        Ok(UtsMode::Host) => None,
        _ => new(NamespaceKind::Uts),
    };
    let cgroup = match private_cgroup(host, facts) {
        true => new(NamespaceKind::Cgroup),
        false => None,
    };
    [new(NamespaceKind::Mount), network, uts, pid, ipc, cgroup]
        .into_iter()
        .flatten()
        .collect()
}

/// Whether it gets its own cgroup namespace: asked for, or the default on v2.
fn private_cgroup(host: &HostConfig, facts: &HostFacts) -> bool {
    match CgroupnsMode::parse(&host.cgroupns_mode) {
        Ok(Some(mode)) => mode == CgroupnsMode::Private,
        _ => facts.cgroup_v2 && !host.privileged,
    }
}
