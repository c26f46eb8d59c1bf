//! Everything about a configuration that can be decided without touching
//! anything: what a fuzzer drives, and what a caller may ask beforehand.

use crate::init::settle::{ProcessRequest, plan_process};
use crate::spec::{Spec, validate};
use crate::{RuntimeError, Stdio, cgroups, init, plan, seccomp};
use std::path::Path;

/// Checks and plans as [`crate::create`] would, and makes nothing. Paths of
/// the host, such as those of namespaces to join, are not looked at.
///
/// # Errors
/// The first wrong field, by name.
pub fn check(bundle: &Path, spec: &Spec) -> Result<(), RuntimeError> {
    validate::validate(spec)?;
    seccomp::check_names(spec)?;
    let linux = spec.linux();
    plan_process(ProcessRequest {
        process: spec.process.clone().unwrap_or_default(),
        user: None,
        group_add: Vec::new(),
        stdio: Stdio::Inherit,
        preserve_fds: 0,
        groups: init::identity::Groups::of(&spec.annotations),
        linux,
        seccomp: linux.seccomp.as_ref(),
    })?;
    let mut mounts = plan::mounts::plan_mounts(bundle, &spec.mounts)?;
    plan::id_maps::complete_id_maps(&mut mounts, linux)?;
    init::devices::check_devices(&linux.devices)?;
    cgroups::plan_limits(linux.resources.as_ref())?;
    if let Some(profile) = &linux.seccomp {
        seccomp::compile(profile)?;
    }
    Ok(())
}
