//! What only the host knows: CPUs, devices, capabilities, processes of other containers.
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use wharf_cgroup::{Controller, Hierarchy, Version};

use crate::containers::create::limits::{HostLimits, parse_list};
use crate::error::{Error, Result};
use crate::model::{HostConfig, Resources};
use crate::spec::{DeviceFact, names_of_mask};

/// CPUs, memory nodes and swap accounting of this host.
pub(crate) fn host_limits(hierarchy: &Hierarchy) -> HostLimits {
    let list = |path: &str| {
        std::fs::read_to_string(path)
            .ok()
            .and_then(|t| parse_list(&t))
            .unwrap_or_else(|| vec![0])
    };
    let has_on_v1 = |controller, file: &str| {
        let mount = hierarchy.mount_of(controller);
        hierarchy.version() == Version::V1 && mount.is_some_and(|mount| mount.join(file).exists())
    };
    HostLimits {
        cpus: list("/sys/devices/system/cpu/online"),
        memory_nodes: list("/sys/devices/system/node/online"),
        swap: hierarchy.can_limit_swap(),
        swappiness: has_on_v1(Controller::Memory, "memory.swappiness"),
        oom_kill_disable: has_on_v1(Controller::Memory, "memory.oom_control"),
        realtime: has_on_v1(Controller::Cpu, "cpu.rt_runtime_us"),
    }
}

/// Names of the capabilities that this engine may hand on.
pub(crate) fn capabilities_known() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    names_of_mask(mask.unwrap_or(0))
}

/// The devices that were asked for, with their numbers; directories are walked.
pub(super) fn wanted_devices(host: &HostConfig) -> Result<Vec<DeviceFact>> {
    let mut facts = Vec::new();
    for mapping in host.resources.devices.iter().flatten() {
        let source = Path::new(&mapping.path_on_host);
        let target = match mapping.path_in_container.as_str() {
            "" => source,
            path => Path::new(path),
        };
        let access = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            given if given.bytes().all(|b| b"rwm".contains(&b)) => given,
            wrong => return Err(Error::invalid(format!("invalid device mode: {wrong}"))),
        };
        let missing = |e: std::io::Error| {
            Error::invalid(format!(
                "error gathering device information while adding custom device {:?}: {}",
                mapping.path_on_host,
                if e.kind() == std::io::ErrorKind::NotFound {
                    "no such file or directory".into()
                } else {
                    e.to_string()
                }
            ))
        };
        let meta = std::fs::metadata(source).map_err(missing)?;
        if meta.is_dir() {
            walk(source, target, access, &mut facts, 0);
        } else {
            let fact = fact_of(&meta, target, access).ok_or_else(|| {
                Error::invalid(format!(
                    "error gathering device information while adding custom device {:?}: not a device node",
                    mapping.path_on_host
                ))
            })?;
            facts.push(fact);
        }
    }
    Ok(facts)
}

/// Every device of the host below /dev, for privileged containers.
pub(super) fn all_devices() -> Vec<DeviceFact> {
    let mut facts = Vec::new();
    walk(Path::new("/dev"), Path::new("/dev"), "rwm", &mut facts, 0);
    facts
}

/// Names of /dev that are file systems or links of their own, or that every container gets anyway.
const SKIPPED: [&str; 16] = [
    "pts",
    "shm",
    "fd",
    "mqueue",
    ".lxc",
    ".lxd-mounts",
    ".udev",
    "console",
    "ptmx",
    "tty",
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "core",
];

fn walk(source: &Path, target: &Path, access: &str, facts: &mut Vec<DeviceFact>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(source) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if (depth == 0 && SKIPPED.iter().any(|s| name == *s)) || depth > 8 {
            continue;
        }
        let Ok(meta) = entry.path().symlink_metadata() else {
            continue;
        };
        if meta.is_dir() {
            walk(&entry.path(), &target.join(&name), access, facts, depth + 1);
        } else if let Some(fact) = fact_of(&meta, &target.join(&name), access) {
            facts.push(fact);
        }
    }
}

fn fact_of(meta: &std::fs::Metadata, path: &Path, access: &str) -> Option<DeviceFact> {
    let kind = match meta.file_type() {
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        _ => return None,
    };
    Some(DeviceFact {
        path: path.to_owned(),
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    })
}

/// Numbers of the block devices that limits name; unknown ones are left out.
pub(super) fn block_devices(asked: &Resources) -> BTreeMap<String, (u32, u32)> {
    let throttles = [
        &asked.blkio_device_read_bps,
        &asked.blkio_device_write_bps,
        &asked.blkio_device_read_iops,
        &asked.blkio_device_write_iops,
    ];
    let paths = throttles
        .into_iter()
        .flatten()
        .flatten()
        .map(|d| &d.path)
        .chain(asked.blkio_weight_device.iter().flatten().map(|d| &d.path));
    paths
        .filter_map(|path| {
            let meta = std::fs::metadata(PathBuf::from(path)).ok()?;
            let numbers = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
            meta.file_type().is_block_device().then(|| (path.clone(), numbers))
        })
        .collect()
}
