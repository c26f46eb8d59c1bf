//! The container's cgroup around create: made by us or by systemd, limited, handed over, and
//! removed again unless the container lives.

use crate::cgroups::{failed, plan_limits};
use crate::scope::{self, Holder, Scope};
use crate::spec::{self, Spec};
use crate::{Cgroup, ErrorKind, RuntimeError};
use rustix::io::Errno;
use std::path::Path;
use std::time::Duration;
use wharf_cgroup::systemd::Instance;
use wharf_cgroup::{CgroupError, Hierarchy, Resources, Version};

/// How long a group may be busy with dying processes when it is removed.
const DELETE_DEADLINE: Duration = Duration::from_secs(5);

/// How the container's cgroup comes about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupChoice {
    /// This systemd makes it; otherwise we do.
    pub systemd: Option<Instance>,
    /// Without permission to make one, and without limits, there is none.
    pub is_optional: bool,
}

/// A group that is removed again unless it is kept.
#[derive(Debug, Default)]
pub(crate) struct CgroupGuard {
    group: Option<Cgroup>,
    scope: Option<Scope>,
    holder: Option<Holder>,
}

impl CgroupGuard {
    pub(crate) fn group(&self) -> Option<&Cgroup> {
        self.group.as_ref()
    }

    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Whether a process may not be born in the group: one of a user's systemd may have to be
    /// attached by it.
    pub(crate) fn needs_late_entry(&self) -> bool {
        let is_v2 = self.group.as_ref().is_some_and(|group| group.version() == Version::V2);
        is_v2 && self.scope.is_some()
    }

    /// Init is in the group, so that nothing else needs to hold it.
    pub(crate) fn release_holder(&mut self) {
        self.holder.take();
    }

    pub(crate) fn keep(mut self) -> Option<Cgroup> {
        self.scope.take();
        self.group.take()
    }

    /// Moves a process that was not born there into the group.
    pub(crate) fn add(&self, pid: i32) -> Result<(), RuntimeError> {
        let Some(group) = &self.group else { return Ok(()) };
        let pid = u32::try_from(pid).unwrap_or_default();
        match (group.add(pid), &self.scope) {
            (Ok(()), _) => Ok(()),
            // A user's systemd may ask the system's for what the user may not do.
            (Err(error), Some(scope)) if is_forbidden(&error) => scope.attach(pid, ""),
            (Err(error), _) => Err(failed("cgroup", &error)),
        }
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        self.holder.take();
        // Already on the way of a failure, which is what gets reported.
        if let Some(scope) = self.scope.take() {
            let _ = scope.stop();
        }
        if let Some(group) = self.group.take() {
            let _ = group.delete(DELETE_DEADLINE);
        }
    }
}

/// Makes the group of the configuration and limits it.
pub(crate) fn create_group(id: &str, spec: &Spec, choice: CgroupChoice) -> Result<CgroupGuard, RuntimeError> {
    let path = spec.linux().cgroups_path.as_deref().filter(|path| !path.is_empty());
    if path.is_none() && choice.systemd.is_none() {
        return Ok(CgroupGuard::default());
    }
    let limits = plan_limits(spec.linux().resources.as_ref())?;
    let hierarchy = match Hierarchy::probe() {
        Err(CgroupError::NoHierarchy) if choice.is_optional => return without_group(spec, "no hierarchy is mounted"),
        other => other.map_err(|error| failed("cgroup", &error))?,
    };
    let mut guard = match choice.systemd {
        Some(instance) => start_scope(id, spec, instance, &hierarchy, &limits)?,
        None => match make_group(path.unwrap_or_default(), &hierarchy) {
            Err(error) if choice.is_optional && is_forbidden(&error) => {
                return without_group(spec, &crate::cgroups::chain_of(&error).join(": "));
            }
            other => guard_unused(other.map_err(|error| failed("cgroup", &error))?)?,
        },
    };
    if let Some(group) = &mut guard.group {
        // It limits nothing, so that who may not take part in it does without.
        let _ = group.join_unified();
    }
    if let Some(group) = guard.group() {
        if needs_tracking(spec) && choice.systemd.is_none() {
            group.join_tracking().map_err(|error| failed("cgroup", &error))?;
        }
        apply_limits(group, spec, &limits, choice)?;
        delegate(group, spec)?;
    }
    Ok(guard)
}

fn make_group(path: &str, hierarchy: &Hierarchy) -> Result<Cgroup, CgroupError> {
    Cgroup::create(hierarchy, &format!("/{}", path.trim_start_matches('/')))
}

/// ORDER: one of somebody else's is refused before there is a guard that would remove it.
fn guard_unused(group: Cgroup) -> Result<CgroupGuard, RuntimeError> {
    if !group.is_new() {
        refuse_used(&group)?;
    }
    Ok(CgroupGuard {
        group: Some(group),
        scope: None,
        holder: None,
    })
}

/// A group that was there before must be of no use to anybody: init would
/// stand still in a frozen one, and would share the limits of another
/// container and die with it.
fn refuse_used(group: &Cgroup) -> Result<(), RuntimeError> {
    let refuse = |why: &str| {
        let text = format!("linux.cgroupsPath: container's cgroup {why}: {}", group.path());
        Err(RuntimeError::new(ErrorKind::Conflict, "cgroup", text))
    };
    if group.is_frozen().map_err(|error| failed("cgroup", &error))? {
        return refuse("unexpectedly frozen");
    }
    if !group.pids().map_err(|error| failed("cgroup", &error))?.is_empty() {
        return refuse("is not empty");
    }
    Ok(())
}

/// Whether the kernel says that this caller may not.
pub(crate) fn is_forbidden(error: &CgroupError) -> bool {
    let errnos = [Errno::PERM, Errno::ACCESS, Errno::ROFS];
    errnos.iter().any(|errno| error.errno() == Some(errno.raw_os_error()))
}

/// Goes on without a group, unless it is there to limit something.
fn without_group(spec: &Spec, why: &str) -> Result<CgroupGuard, RuntimeError> {
    match spec.linux().resources.as_ref().and_then(asked_limit) {
        None => Ok(CgroupGuard::default()),
        Some(field) => {
            let text = format!("{field}: cannot be set, as no cgroup can be made without privileges here: {why}");
            Err(RuntimeError::new(ErrorKind::System, field, text))
        }
    }
}

/// The first limit that is asked for. Device rules are no limit to one who can make no device.
fn asked_limit(resources: &spec::Resources) -> Option<&'static str> {
    let nothing = spec::Resources {
        devices: resources.devices.clone(),
        ..spec::Resources::default()
    };
    if *resources == nothing {
        return None;
    }
    let is_set = |value: bool, field| value.then_some(field);
    is_set(resources.memory.is_some(), "linux.resources.memory")
        .or_else(|| is_set(resources.cpu.is_some(), "linux.resources.cpu"))
        .or_else(|| is_set(resources.pids.is_some(), "linux.resources.pids"))
        .or_else(|| is_set(resources.block_io.is_some(), "linux.resources.blockIO"))
        .or_else(|| is_set(!resources.unified.is_empty(), "linux.resources.unified"))
        .or(Some("linux.resources"))
}

/// Writes the limits. Where the group is optional, device rules that may not be set are left out:
/// the user namespace allows no device anyway.
fn apply_limits(group: &Cgroup, spec: &Spec, limits: &Resources, choice: CgroupChoice) -> Result<(), RuntimeError> {
    if !choice.is_optional {
        return group.apply(limits).map_err(|error| failed("cgroup", &error));
    }
    let devices = Resources {
        devices: limits.devices.clone(),
        ..Resources::default()
    };
    let others = Resources {
        devices: Vec::new(),
        ..limits.clone()
    };
    if spec.linux().resources.as_ref().and_then(asked_limit).is_some() {
        group.apply(&others).map_err(|error| failed("cgroup", &error))?;
    }
    match group.apply(&devices) {
        Err(error) if is_forbidden(&error) => Ok(()),
        other => other.map_err(|error| failed("cgroup", &error)),
    }
}

/// Has systemd make the group, and takes part in what it leaves out.
fn start_scope(
    id: &str,
    spec: &Spec,
    instance: Instance,
    hierarchy: &Hierarchy,
    limits: &Resources,
) -> Result<CgroupGuard, RuntimeError> {
    let scope::Started { scope, path, holder } = scope::start(id, spec, instance, hierarchy, limits)?;
    let mut guard = CgroupGuard {
        group: None,
        scope: Some(scope),
        holder: Some(holder),
    };
    let failed = |error: CgroupError| failed("cgroup", &error);
    let mut group = Cgroup::adopt(hierarchy, &path).map_err(failed)?;
    let subgroup = guard
        .scope
        .as_ref()
        .map(|scope| scope.subgroup.clone())
        .unwrap_or_default();
    if !subgroup.is_empty() {
        group = enter_subgroup(hierarchy, &format!("{path}/{subgroup}"), guard.holder.as_ref()).map_err(failed)?;
    }
    guard.group = Some(group);
    Ok(guard)
}

/// ORDER: on version 2 a group hands down its controllers only when no process is in it, so the
/// holder moves before.
fn enter_subgroup(hierarchy: &Hierarchy, path: &str, holder: Option<&Holder>) -> Result<Cgroup, CgroupError> {
    let group = Cgroup::create(hierarchy, path)?;
    group.join_tracking()?;
    if let Some(holder) = holder {
        group.add(holder.pid())?;
    }
    Cgroup::create(hierarchy, path)
}

/// Gives the group to the container's user if it can see no other
/// (config-linux.md#cgroup-ownership).
fn delegate(group: &Cgroup, spec: &Spec) -> Result<(), RuntimeError> {
    let linux = spec.linux();
    let is_new = |namespace: &spec::Namespace| {
        namespace.kind == spec::NamespaceKind::Cgroup
            && namespace.path.as_ref().is_none_or(|path| path.as_os_str().is_empty())
    };
    if !linux.namespaces.iter().any(is_new) || !is_cgroup_mount_writable(spec) {
        return Ok(());
    }
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    let uid = if linux.uid_mappings.is_empty() {
        Some(uid)
    } else {
        spec::IdMapping::host_of(&linux.uid_mappings, uid)
    };
    let own = rustix::process::geteuid().as_raw();
    match uid {
        // Not mapped: the process will say so.
        None => Ok(()),
        Some(uid) if uid == own => Ok(()),
        // An unprivileged caller cannot give anything away.
        Some(_) if own != 0 => Ok(()),
        Some(uid) => group.delegate(uid).map_err(|error| failed("cgroup", &error)),
    }
}

/// Whether the container needs a place in the hierarchies of version 1 that
/// only keep track of processes: for a systemd inside, which may write to its
/// cgroups, or against the one outside, which would end the container with
/// the service that made it.
fn needs_tracking(spec: &Spec) -> bool {
    is_cgroup_mount_writable(spec) || Path::new("/run/systemd/system").exists()
}

/// Whether the container has a cgroup mount that is not read-only.
pub(crate) fn is_cgroup_mount_writable(spec: &Spec) -> bool {
    let is_cgroup = |mount: &&spec::Mount| matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"));
    let last = spec.mounts.iter().rfind(is_cgroup);
    last.is_some_and(|mount| {
        let word = mount
            .options
            .iter()
            .rfind(|word| matches!(word.as_str(), "ro" | "rro" | "rw"));
        word.is_none_or(|word| word == "rw")
    })
}

/// Where the group of a container without `linux.cgroupsPath` is: at the top, or beside the group
/// of a caller who owns no more than what it was delegated.
pub(crate) fn default_path(id: &str, is_rootless: bool) -> String {
    let top = format!("/{id}");
    let is_v2 = Hierarchy::probe().is_ok_and(|hierarchy| hierarchy.version() == Version::V2);
    if !is_rootless || !is_v2 {
        return top;
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    beside_own(&own, id).unwrap_or(top)
}

/// The caller's own group holds the caller, and can have no groups with controllers below it.
fn beside_own(table: &str, id: &str) -> Option<String> {
    let own = table.lines().find_map(|line| line.strip_prefix("0::"))?;
    let parent = Path::new(own).parent().unwrap_or(Path::new("/"));
    Some(parent.join(id).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_group_is_beside_the_callers() {
        let check = |table: &str, expected: Option<&str>| assert_eq!(beside_own(table, "box").as_deref(), expected);
        check(
            "0::/user.slice/user@5.service/a.scope\n",
            Some("/user.slice/user@5.service/box"),
        );
        check("0::/\n", Some("/box"));
        check("9:name=systemd:/x\n", None);
    }

    #[test]
    fn limits_without_a_group_are_errors_that_name_the_field() {
        let check = |text: &str, expected: Option<&str>| {
            let resources: spec::Resources = serde_json::from_str(text).expect("resources");
            assert_eq!(asked_limit(&resources), expected, "{text}");
        };
        check("{}", None);
        check(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#, None);
        check(r#"{"memory":{"limit":5}}"#, Some("linux.resources.memory"));
        check(r#"{"unified":{"pids.max":"5"}}"#, Some("linux.resources.unified"));
        check(r#"{"rdma":{"mlx":{"hcaHandles":1}}}"#, Some("linux.resources"));
    }
}
