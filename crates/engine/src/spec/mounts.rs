//! The mount table of a container, in the order in which it is made.
use std::collections::BTreeMap;
use std::path::Path;

use wharf_runtime::spec::Mount;

use super::{DEFAULT_SHM_BYTES, HostFacts, INIT_PATH, SecurityOptions};
use crate::error::Result;
use crate::model::mounts::ReadOnlyReach;
use crate::model::{ContainerRecord, IpcMode, MountKind, MountPoint, NetworkMode, PidMode};

/// All mounts: the kernel's file systems, generated files, then the user's, parents first.
pub(super) fn plan_mounts(
    record: &ContainerRecord,
    facts: &HostFacts,
    security: &SecurityOptions,
) -> Result<Vec<Mount>> {
    let mut table: BTreeMap<String, Mount> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let all = kernel_mounts(record, facts, security)
        .into_iter()
        .chain(generated_files(record, facts))
        .chain(init_mount(record, facts))
        .chain(record.mounts.iter().map(|point| user_mount(point, facts)))
        .chain(short_tmpfs(record));
    for mount in all {
        let key = mount.destination.to_string_lossy().trim_end_matches('/').to_owned();
        // A later mount replaces an earlier one of the same path: the user's win.
        if table.insert(key.clone(), mount).is_none() {
            order.push(key);
        }
    }
    let user_dev = record
        .mounts
        .iter()
        .any(|m| m.destination.trim_end_matches('/') == "/dev");
    let mut mounts: Vec<Mount> = order
        .iter()
        .filter(|key| !(user_dev && key.starts_with("/dev/") && !is_user_mount(record, key)))
        .filter_map(|key| table.remove(key))
        .collect();
    // ORDER: stable, so that parents come before what lies in them.
    mounts.sort_by_key(|m| m.destination.components().count());
    Ok(mounts)
}

fn is_user_mount(record: &ContainerRecord, destination: &str) -> bool {
    record
        .mounts
        .iter()
        .any(|m| m.destination.trim_end_matches('/') == destination)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

fn kernel_mounts(record: &ContainerRecord, facts: &HostFacts, security: &SecurityOptions) -> Vec<Mount> {
    let word = |writable| if writable { "rw" } else { "ro" };
    let access = word(record.host.privileged);
    let cgroup_access = word(security.writable_cgroups.unwrap_or(record.host.privileged));
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[cgroup_access, "nosuid", "noexec", "nodev"],
        ),
    ];
    let host_pid = PidMode::parse(&record.host.pid_mode) == Ok(PidMode::Host);
    if host_pid && record.host.privileged {
        mounts[0] = mount("/proc", "bind", "/proc", &["rbind", "rprivate"]);
    }
    mounts.extend(ipc_mounts(record, facts));
    mounts
}

fn ipc_mounts(record: &ContainerRecord, facts: &HostFacts) -> Vec<Mount> {
    let queue = mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let bind = |from: &str, to: &str| mount(to, "bind", from, &["rbind", "rprivate"]);
    if let Some(shared) = &facts.shared_shm {
        return vec![queue, bind(&shared.to_string_lossy(), "/dev/shm")];
    }
    match IpcMode::parse(&record.host.ipc_mode) {
        Ok(IpcMode::None) => vec![queue],
        Ok(IpcMode::Host) => vec![bind("/dev/mqueue", "/dev/mqueue"), bind("/dev/shm", "/dev/shm")],
        _ => {
            let bytes = match record.host.shm_size {
                0 => DEFAULT_SHM_BYTES,
                n => n,
            };
            let size = format!("size={bytes}");
            vec![
                queue,
                mount(
                    "/dev/shm",
                    "tmpfs",
                    "shm",
                    &["nosuid", "noexec", "nodev", "mode=1777", &size],
                ),
            ]
        }
    }
}

/// hosts, hostname and resolv.conf, unless the user mounts their own over them.
fn generated_files(record: &ContainerRecord, facts: &HostFacts) -> Vec<Mount> {
    if facts.files_dir.as_os_str().is_empty() {
        return Vec::new();
    }
    let host_network = matches!(record.host.network(), NetworkMode::Host) && facts.files_dir == Path::new("/etc");
    if host_network {
        return Vec::new();
    }
    ["resolv.conf", "hostname", "hosts"]
        .map(|name| {
            let source = facts.files_dir.join(name);
            let mut file = mount(&format!("/etc/{name}"), "bind", "", &["rbind", "rprivate"]);
            file.source = Some(source);
            if record.host.readonly_rootfs {
                file.options.push("ro".into());
            }
            file
        })
        .to_vec()
}

fn init_mount(record: &ContainerRecord, facts: &HostFacts) -> Option<Mount> {
    (record.host.resources.init == Some(true)).then(|| {
        let mut init = mount(INIT_PATH, "bind", "", &["bind", "ro"]);
        init.source = Some(facts.init_binary.clone());
        init
    })
}

fn user_mount(point: &MountPoint, facts: &HostFacts) -> Mount {
    match point.kind {
        MountKind::Tmpfs => tmpfs_mount(&point.destination, &point.options, point.rw),
        MountKind::Bind | MountKind::Volume | MountKind::Image => bind_mount(point, facts),
    }
}

fn bind_mount(point: &MountPoint, facts: &HostFacts) -> Mount {
    let mut options = vec![if point.non_recursive {
        "bind".to_owned()
    } else {
        "rbind".to_owned()
    }];
    if !point.rw {
        options.push("ro".to_owned());
        match point.read_only_reach {
            ReadOnlyReach::TopOnly => {}
            ReadOnlyReach::BestEffort | ReadOnlyReach::Force if point.non_recursive => {}
            ReadOnlyReach::BestEffort if !facts.recursive_read_only => {}
            ReadOnlyReach::BestEffort | ReadOnlyReach::Force => options.push("rro".to_owned()),
        }
    }
    let propagation = match point.propagation.as_str() {
        "" => "rprivate",
        other => other,
    };
    options.push(propagation.to_owned());
    let mut bind = mount(&point.destination, "bind", &point.source, &[]);
    bind.options = options;
    bind
}

fn tmpfs_mount(destination: &str, wanted: &[String], rw: bool) -> Mount {
    let mut options: Vec<String> = Vec::new();
    for flag in ["noexec", "nosuid", "nodev"] {
        let opposite = flag.trim_start_matches("no");
        if !wanted.iter().any(|o| o == opposite || o == flag) {
            options.push(flag.to_owned());
        }
    }
    options.extend(wanted.iter().filter(|o| !o.is_empty()).cloned());
    if !rw && !options.iter().any(|o| o == "ro") {
        options.push("ro".to_owned());
    }
    let mut tmpfs = mount(destination, "tmpfs", "tmpfs", &[]);
    tmpfs.options = options;
    tmpfs
}

/// `--tmpfs path:options`.
fn short_tmpfs(record: &ContainerRecord) -> Vec<Mount> {
    let list = record.host.tmpfs.iter().flatten();
    list.map(|(path, options)| {
        let options: Vec<String> = options.split(',').map(str::to_owned).collect();
        tmpfs_mount(path, &options, true)
    })
    .collect()
}

/// A shared or slave bind needs a root that takes part in propagation.
pub(super) fn root_propagation(record: &ContainerRecord) -> Option<String> {
    let has = |words: [&str; 2]| {
        record
            .mounts
            .iter()
            .any(|m| m.kind == MountKind::Bind && words.contains(&m.propagation.as_str()))
    };
    if has(["shared", "rshared"]) {
        Some("shared".to_owned())
    } else if has(["slave", "rslave"]) {
        Some("slave".to_owned())
    } else {
        None
    }
}
