//! What a foreign runtime is given: a bundle with everything resolved that only our own does by itself.

use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Gid, Uid};
use serde_json::{Value, json};
use wharf_sys::overlay::Writable;

use super::container::{fault, fault_of, system};
use super::foreign::write_json;
use crate::plan::{ExecPlan, LaunchPlan, RootfsPlan};
use crate::protocol::{Fault, FaultKind};

/// A bundle for the runtime.
pub(super) struct Prepared {
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
}

/// Writes the bundle below `place`. An overlay is mounted in a mount namespace of the shim's own,
/// which the runtime inherits and the host never sees; it ends with the shim.
pub(super) fn prepare(plan: &LaunchPlan, place: &Path) -> Result<Prepared, Fault> {
    let source = plan.bundle.join("config.json");
    let text = std::fs::read(&source).map_err(|error| fault(&format!("read {}", source.display()), &error))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|error| Fault {
        kind: FaultKind::Invalid,
        message: format!("invalid {}: {error}", source.display()),
        ..Fault::default()
    })?;
    let bundle = place.join("bundle");
    let rootfs = rootfs_of(plan, &config, &bundle)?;
    std::fs::create_dir_all(&bundle).map_err(|error| fault("make the bundle", &error))?;
    if let RootfsPlan::Overlay { lower, upper, work, .. } = &plan.rootfs {
        mount_overlay(lower, (upper, work), &rootfs)?;
    }
    // COMPAT: runtimes refuse versions newer than they know, although what is new is optional.
    config["ociVersion"] = "1.0.2".into();
    config["root"]["path"] = json!(rootfs);
    config["process"]["terminal"] = plan.stdio.terminal.into();
    // The shim's own score must not be inherited, by an exec neither.
    if config["process"]["oomScoreAdj"].is_null() {
        config["process"]["oomScoreAdj"] = 0.into();
    }
    if let Some(size) = plan.stdio.console_size.filter(|_| plan.stdio.terminal) {
        config["process"]["consoleSize"] = json!({"height": size.rows, "width": size.cols});
    }
    set_user(&mut config["process"], &rootfs, plan.user.as_deref(), &plan.group_add)?;
    write_json(&bundle.join("config.json"), &config)?;
    Ok(Prepared { bundle, rootfs })
}

fn rootfs_of(plan: &LaunchPlan, config: &Value, bundle: &Path) -> Result<PathBuf, Fault> {
    match (&plan.rootfs, config["root"]["path"].as_str()) {
        (RootfsPlan::Directory { path }, _) => Ok(path.clone()),
        (RootfsPlan::Overlay { .. }, _) => Ok(bundle.join("rootfs")),
        (RootfsPlan::FromSpec, Some(path)) => Ok(plan.bundle.join(path)),
        (RootfsPlan::FromSpec, None) => Err(Fault {
            kind: FaultKind::Invalid,
            message: "config.json names no root".into(),
            ..Fault::default()
        }),
    }
}

fn mount_overlay(lower: &[PathBuf], (upper, work): (&Path, &Path), target: &Path) -> Result<(), Fault> {
    let failed = |errno| system(&format!("mount the overlay at {}", target.display()), errno);
    std::fs::create_dir_all(target).map_err(|error| fault("make the root's directory", &error))?;
    wharf_sys::namespace::unshare(wharf_sys::namespace::CLONE_NEWNS).map_err(failed)?;
    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(failed)?;
    wharf_sys::overlay::mount_overlay(lower, Writable { upper, work }, target).map_err(failed)
}

/// Removes what [`prepare`] made, as far as it goes: directories are removed only when empty, so a
/// root that is still mounted loses nothing.
pub(super) fn remove(place: &Path) {
    let bundle = place.join("bundle");
    let rootfs = bundle.join("rootfs");
    let _ = rustix::mount::unmount(&rootfs, rustix::mount::UnmountFlags::DETACH);
    let _ = std::fs::remove_dir(&rootfs);
    let _ = std::fs::remove_file(bundle.join("config.json"));
    let _ = std::fs::remove_dir(&bundle);
}

/// What our own runtime gives to a further process by itself: the rights of the first one where the plan is silent, and
/// the size of its terminal from the beginning.
pub(super) fn complete_process(process: &mut Value, plan: &ExecPlan, place: &Path) -> Result<(), Fault> {
    let path = place.join("bundle/config.json");
    let text = std::fs::read(&path).map_err(|error| fault(&format!("read {}", path.display()), &error))?;
    let config: Value = serde_json::from_slice(&text)
        .map_err(|error| fault("read the container's process", &std::io::Error::other(error)))?;
    for key in [
        "capabilities",
        "rlimits",
        "oomScoreAdj",
        "apparmorProfile",
        "selinuxLabel",
    ] {
        if process[key].is_null() && !config["process"][key].is_null() {
            process[key] = config["process"][key].clone();
        }
    }
    if plan.privileged {
        let all = own_capabilities()?;
        process["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    }
    if let Some(size) = plan.stdio.console_size.filter(|_| plan.stdio.terminal) {
        process["consoleSize"] = json!({"height": size.rows, "width": size.cols});
    }
    Ok(())
}

/// The names of all that this process may hand on.
fn own_capabilities() -> Result<Vec<String>, Fault> {
    let (_, permitted, _) = wharf_sys::caps::current().map_err(|errno| system("read the capabilities", errno))?;
    let held = (0u32..).zip(wharf_sys::caps::NAMES);
    let held = held.filter(|(number, _)| permitted & wharf_sys::caps::bit(*number) != 0);
    Ok(held.map(|(_, name)| format!("CAP_{name}")).collect())
}

/// Replaces the ids of a process by those of a Docker user string, looked up in the root.
pub(super) fn set_user(
    process: &mut Value,
    rootfs: &Path,
    user: Option<&str>,
    group_add: &[String],
) -> Result<(), Fault> {
    if user.is_none() && group_add.is_empty() {
        return Ok(());
    }
    let (uid, gid) = (Uid::ROOT.as_raw(), Gid::ROOT.as_raw());
    let own = format!(
        "{}:{}",
        process["user"]["uid"].as_u64().unwrap_or(uid.into()),
        process["user"]["gid"].as_u64().unwrap_or(gid.into())
    );
    let found = wharf_runtime::lookup::resolve_user(rootfs, user.unwrap_or(&own), group_add);
    let found = found.map_err(|error| fault_of(&error))?;
    process["user"]["uid"] = found.uid.into();
    process["user"]["gid"] = found.gid.into();
    process["user"]["additionalGids"] = found.groups.into();
    Ok(())
}
