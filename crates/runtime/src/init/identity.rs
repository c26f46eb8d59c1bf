//! Becoming the user: groups, ids, capability sets.

use crate::RuntimeError;
use crate::init::settle::ProcessPlan;
use crate::init::user::{Accounts, Identity};
use crate::plan::rights::CapabilityBits;
use rustix::io::Errno;
use rustix::thread::{Gid, Uid};
use std::collections::BTreeMap;
use wharf_sys::caps;
use wharf_sys::path::RootDir;

/// Which supplementary groups the process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Those of its configuration.
    #[default]
    Own,
    /// Those of the runtime's caller. COMPAT: crun's annotation
    /// `run.oci.keep_original_groups`, with which a rootless container can
    /// reach files that a group of the user may read.
    Kept,
}

impl Groups {
    /// What the annotations ask for.
    pub(crate) fn of(annotations: &BTreeMap<String, String>) -> Self {
        match annotations.get("run.oci.keep_original_groups").map(String::as_str) {
            Some("1") => Self::Kept,
            _ => Self::Own,
        }
    }
}

/// Who the process is to be, by its plan and the container's own files.
pub(crate) fn resolve(plan: &ProcessPlan, root: &RootDir) -> Result<Identity, RuntimeError> {
    let user = &plan.process.user;
    // Of several the last counts, and an empty one is none.
    let home = plan
        .process
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("HOME="));
    let needs_home = home.is_none_or(str::is_empty);
    let needs_names = plan.user.is_some() || plan.group_add.iter().any(|group| group.parse::<u32>().is_err());
    let accounts = if needs_home || needs_names {
        Accounts::read(root)?
    } else {
        Accounts::default()
    };
    let mut identity = match &plan.user {
        Some(text) => {
            let mut identity = accounts.resolve(text)?;
            // COMPAT: Docker makes the primary group a supplementary one too.
            identity.groups.insert(0, identity.gid);
            identity
        }
        None => Identity {
            uid: user.uid,
            gid: user.gid,
            groups: user.additional_gids.clone(),
            home: if needs_home {
                accounts.home_of(user.uid)
            } else {
                "/".to_owned()
            },
        },
    };
    for group in &plan.group_add {
        identity.groups.push(accounts.group_id(group)?);
    }
    Ok(identity)
}

/// Drops to the identity. The permitted capabilities stay until
/// [`limit_capabilities`], so that a filter can still be loaded.
pub(crate) fn adopt(identity: &Identity, plan: &ProcessPlan) -> Result<(), RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("process.user", what, errno);
    caps::limit_bounding(plan.capabilities.bounding).map_err(failed("drop capabilities from the bounding set"))?;
    rustix::thread::set_keep_capabilities(true).map_err(failed("keep capabilities"))?;
    if plan.groups == Groups::Own {
        set_groups(identity)?;
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|errno| unmapped("gid", identity.gid, errno))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|errno| unmapped("uid", identity.uid, errno))?;
    let (effective, permitted, inheritable) = caps::current().map_err(failed("read the capabilities"))?;
    if effective != permitted {
        caps::set(permitted, permitted, inheritable).map_err(failed("keep capabilities in force"))?;
    }
    Ok(())
}

fn unmapped(kind: &str, id: u32, errno: Errno) -> RuntimeError {
    let why = if errno == Errno::INVAL {
        " (not mapped in the user namespace)"
    } else {
        ""
    };
    RuntimeError::system("process.user", format!("become {kind} {id}{why}"), errno)
}

fn set_groups(identity: &Identity) -> Result<(), RuntimeError> {
    let gids: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    // The primary group is there without being listed.
    let asks_more = identity.groups.iter().any(|gid| *gid != identity.gid);
    match rustix::thread::set_thread_groups(&gids) {
        Err(Errno::PERM) if !asks_more => Ok(()),
        Err(errno) if is_setgroups_denied() => {
            let text = "process.user.additionalGids: the user namespace, made without privileges, allows none";
            Err(RuntimeError::system("process.user", text, errno))
        }
        other => other.map_err(|errno| RuntimeError::system("process.user", "set the supplementary groups", errno)),
    }
}

fn is_setgroups_denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Puts the final sets in force. What is beyond the permitted set of the
/// runtime itself is left out.
pub(crate) fn limit_capabilities(wanted: CapabilityBits) -> Result<(), RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("process.capabilities", what, errno);
    let (_, have, _) = caps::current().map_err(failed("read the sets"))?;
    let permitted = wanted.permitted & have;
    let effective = wanted.effective & permitted;
    let inheritable = wanted.inheritable & have;
    caps::set(effective, permitted, inheritable).map_err(failed("set process.capabilities"))?;
    match caps::clear_ambient() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(failed("clear the ambient set")(errno)),
    }
    let ambient = wanted.ambient & permitted & inheritable;
    for number in (0..64).filter(|number| ambient & caps::bit(*number) != 0) {
        caps::raise_ambient(number).map_err(failed("raise the ambient set"))?;
    }
    Ok(())
}
