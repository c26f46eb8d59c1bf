//! Mounting and unmounting of volumes that are more than a directory.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::VolumeError;
use crate::error::FileContext;
use crate::options::{plan_mount, resolve_address};

/// Mounts what the options ask for at `data`, unless that is done already (by an earlier engine, perhaps).
pub(crate) fn ensure_mounted(data: &Path, options: &BTreeMap<String, String>) -> Result<(), VolumeError> {
    let Some(mut plan) = plan_mount(options) else {
        return Ok(());
    };
    if is_mountpoint(data)? {
        return Ok(());
    }
    let failed = |plan: &crate::options::MountPlan, source: std::io::Error| VolumeError::Mount {
        path: data.to_owned(),
        device: plan.device.clone(),
        data: plan.data.clone(),
        source,
    };
    resolve_address(&mut plan).map_err(|e| failed(&plan, e))?;
    let text = CString::new(plan.data.as_str()).map_err(|e| failed(&plan, e.into()))?;
    let mount = |flags| rustix::mount::mount(plan.device.as_str(), data, plan.kind.as_str(), flags, text.as_c_str());
    mount(plan.flags).map_err(|e| failed(&plan, e.into()))?;
    // A bind mount takes its other flags only by a second call.
    let rest = plan.flags - MountFlags::BIND - MountFlags::REC;
    if plan.flags.contains(MountFlags::BIND) && !rest.is_empty() {
        let remounted = rustix::mount::mount_remount(data, MountFlags::BIND | rest, text.as_c_str());
        if let Err(error) = remounted {
            unmount(data)?;
            return Err(failed(&plan, error.into()));
        }
    }
    Ok(())
}

/// Detaches whatever is mounted at `data`; containers that use it keep it.
pub(crate) fn unmount(data: &Path) -> Result<(), VolumeError> {
    while data.exists() && is_mountpoint(data)? {
        match rustix::mount::unmount(data, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e).at("unmounting", data),
        }
    }
    Ok(())
}

/// KERNEL(5.8): statx tells mount roots; before, the device number differs from the parent's (binds excepted).
pub(crate) fn is_mountpoint(path: &Path) -> Result<bool, VolumeError> {
    let stat = rustix::fs::statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        StatxFlags::BASIC_STATS,
    );
    let stat = stat.at("looking at", path)?;
    let attributes = StatxAttributes::from_bits_retain(stat.stx_attributes_mask.bits());
    if attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or(path);
    let here = fs::symlink_metadata(path).at("looking at", path)?.dev();
    Ok(here != fs::symlink_metadata(parent).at("looking at", parent)?.dev())
}
