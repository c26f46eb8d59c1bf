//! Containers as units of systemd: a transient scope that holds the cgroup.

use crate::cgroups::chain_of;
use crate::spec::Spec;
use crate::{ErrorKind, RuntimeError};
use rustix::io::Errno;
use rustix::process::{Signal, WaitIdOptions, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use wharf_cgroup::systemd::{
    Instance, Property, Systemd, SystemdError, UnitPlan, Value, delegation, parse_annotation, plan_properties,
};
use wharf_cgroup::{Hierarchy, Resources};
use wharf_sys::clone::{Child, CloneOptions, clone3};

/// Annotations whose rest is the name of a property of the unit.
const PROPERTY: &str = "org.systemd.property.";
/// COMPAT: crun's annotation for a group below the scope's, which the container then is in.
const SUBGROUP: &str = "run.oci.systemd.subgroup";

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Whose systemd has it.
    pub instance: Instance,
    /// Name of the unit.
    pub unit: String,
    /// Group below the unit's that the container is in; empty for the unit's own.
    #[serde(default)]
    pub subgroup: String,
}

/// A unit that was started, with nothing of the container in it yet.
pub(crate) struct Started {
    pub(crate) scope: Scope,
    /// Path of its cgroup.
    pub(crate) path: String,
    pub(crate) holder: Holder,
}

/// An error of the conversation, with its causes.
fn failed(step: &str, error: &SystemdError) -> RuntimeError {
    let kind = match error {
        SystemdError::Invalid { .. } => ErrorKind::Invalid,
        _ => ErrorKind::System,
    };
    RuntimeError {
        kind,
        step: step.to_owned(),
        chain: chain_of(error),
        errno: None,
    }
}

/// Starts the unit that `linux.cgroupsPath` names, with the limits.
pub(crate) fn start(
    id: &str,
    spec: &Spec,
    instance: Instance,
    hierarchy: &Hierarchy,
    limits: &Resources,
) -> Result<Started, RuntimeError> {
    let failed = |error: SystemdError| failed("systemd", &error);
    let (unit, scope) = plan(id, spec, instance)?;
    let mut systemd = Systemd::connect(instance).map_err(failed)?;
    let version = systemd.version().map_err(failed)?;
    let holder = Holder::spawn()?;
    let mut properties = identity(id, &unit, &holder);
    properties.extend(delegation(unit.is_slice()));
    properties.extend(plan_properties(hierarchy.version(), limits, version).map_err(failed)?);
    for (key, text) in &spec.annotations {
        if let Some(name) = key.strip_prefix(PROPERTY) {
            properties.push(parse_annotation(name, text).map_err(failed)?);
        }
    }
    let path = systemd.start_unit(&unit, &properties).map_err(failed)?;
    Ok(Started { scope, path, holder })
}

/// Decides the unit that `linux.cgroupsPath` names.
fn plan(id: &str, spec: &Spec, instance: Instance) -> Result<(UnitPlan, Scope), RuntimeError> {
    let unit = UnitPlan::parse(spec.linux().cgroups_path.as_deref(), id, instance)
        .map_err(|error| failed("systemd", &error))?;
    let scope = Scope {
        instance,
        unit: unit.name.clone(),
        subgroup: plan_subgroup(spec)?,
    };
    Ok((unit, scope))
}

/// What the unit is called, where it is, and its first process.
fn identity(id: &str, unit: &UnitPlan, holder: &Holder) -> Vec<Property> {
    let mut all = vec![("Description".to_owned(), Value::text(format!("wharf container {id}")))];
    if unit.is_slice() {
        all.push((
            "Wants".to_owned(),
            Value::Array("s".into(), vec![Value::text(&unit.slice)]),
        ));
    } else {
        all.push(("Slice".to_owned(), Value::text(&unit.slice)));
        all.push((
            "PIDs".to_owned(),
            Value::Array("u".into(), vec![Value::Uint32(holder.pid())]),
        ));
    }
    all
}

/// SECURITY: the name becomes a directory; it must stay below the unit's.
fn plan_subgroup(spec: &Spec) -> Result<String, RuntimeError> {
    let Some(name) = spec.annotations.get(SUBGROUP) else {
        return Ok(String::new());
    };
    let climbs = name.split('/').any(|part| part == ".." || part == ".");
    if climbs || name.contains('\0') {
        let text = format!("annotations[{SUBGROUP:?}]: {name:?} is no name of a group");
        return Err(RuntimeError::invalid("annotations", text));
    }
    Ok(name.trim_matches('/').to_owned())
}

impl Scope {
    /// The unit that a container will be.
    pub(crate) fn of(id: &str, spec: &Spec, instance: Instance) -> Result<Self, RuntimeError> {
        plan(id, spec, instance).map(|(_, scope)| scope)
    }

    /// Tells systemd of changed limits, which it would otherwise undo.
    pub(crate) fn update(&self, hierarchy: &Hierarchy, limits: &Resources) -> Result<(), RuntimeError> {
        let failed = |error: SystemdError| failed("systemd", &error);
        let mut systemd = Systemd::connect(self.instance).map_err(failed)?;
        let version = systemd.version().map_err(failed)?;
        let properties = plan_properties(hierarchy.version(), limits, version).map_err(failed)?;
        systemd.set_properties(&self.unit, &properties).map_err(failed)
    }

    /// Ends the unit with what is left in it.
    pub(crate) fn stop(&self) -> Result<(), RuntimeError> {
        Systemd::connect(self.instance)
            .and_then(|mut systemd| systemd.stop_unit(&self.unit))
            .map_err(|error| failed("systemd", &error))
    }

    /// Moves a process into the container's group, or the one with the path `below` it, where only
    /// systemd may.
    pub(crate) fn attach(&self, pid: u32, below: &str) -> Result<(), RuntimeError> {
        let parts = [self.subgroup.as_str(), below]
            .into_iter()
            .filter(|part| !part.is_empty());
        let group = format!("/{}", parts.collect::<Vec<_>>().join("/"));
        Systemd::connect(self.instance)
            .and_then(|mut systemd| systemd.attach(&self.unit, &group, &[pid]))
            .map_err(|error| failed("systemd", &error))
    }
}

/// A process that keeps the unit from ending before init is in it; a scope cannot be empty.
#[derive(Debug)]
pub(crate) struct Holder(Child);

impl Holder {
    fn spawn() -> Result<Self, RuntimeError> {
        let runtime = rustix::process::getpid();
        let child = clone3(CloneOptions::default(), |_| {
            // It goes with the runtime, however that ends.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            if getppid() != Some(runtime) {
                return 0;
            }
            loop {
                let _ = rustix::event::poll(&mut [], None);
            }
        });
        child
            .map(Self)
            .map_err(|errno: Errno| RuntimeError::system("systemd", "make a process for the scope", errno))
    }

    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.0.pid.as_raw_nonzero().get()).unwrap_or_default()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = wharf_sys::signal::send(&self.0.pidfd, 9);
        let _ = wharf_sys::handle::wait(&self.0.pidfd, WaitIdOptions::EXITED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subgroup_stays_below_its_unit() {
        let plan = |name: &str| {
            let mut spec = Spec::default();
            spec.annotations.insert(SUBGROUP.to_owned(), name.to_owned());
            plan_subgroup(&spec).map_err(|error| error.message())
        };
        assert_eq!(plan(""), Ok(String::new()));
        assert_eq!(plan("/container"), Ok("container".to_owned()));
        assert_eq!(plan_subgroup(&Spec::default()).ok().as_deref(), Some(""));
        let expected = "annotations[\"run.oci.systemd.subgroup\"]: \"../x\" is no name of a group";
        assert_eq!(plan("../x"), Err(expected.to_owned()));
    }

    #[test]
    fn a_holder_ends_when_it_is_let_go() {
        let holder = Holder::spawn().expect("a process");
        let path = format!("/proc/{}", holder.pid());
        assert!(std::path::Path::new(&path).exists());
        drop(holder);
        assert!(!std::path::Path::new(&path).exists());
    }
}
