//! `spec`: a default config.json.

use super::{Call, argument, failed, usage};
use crate::RuntimeError;
use crate::spec::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit, Root,
    Spec, VERSION,
};
use lexopt::Arg::{Long, Short};
use std::path::PathBuf;

/// `spec [--bundle DIR] [--rootless]`.
pub(super) fn spec(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut bundle, mut rootless) = (PathBuf::from("."), false);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("bundle") | Short('b') => bundle = call.parser.value().map_err(argument)?.into(),
            Long("rootless") => rootless = true,
            other => return Err(argument(other.unexpected())),
        }
    }
    let path = bundle.join("config.json");
    let mut text = serde_json::to_string_pretty(&default_spec(rootless))
        .map_err(|error| usage(format!("write {}: {error}", path.display())))?;
    text.push('\n');
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(&path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| failed(format!("write {}", path.display()), &error))?;
    Ok(0)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}

fn default_spec(rootless: bool) -> Spec {
    let caps = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Spec {
        oci_version: VERSION.to_owned(),
        process: Some(Process {
            terminal: true,
            args: strings(&["sh"]),
            env: strings(&[
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ]),
            cwd: "/".into(),
            capabilities: Some(Capabilities {
                bounding: caps.clone(),
                effective: caps.clone(),
                permitted: caps,
                ..Capabilities::default()
            }),
            rlimits: vec![Rlimit {
                kind: "RLIMIT_NOFILE".into(),
                soft: 1024,
                hard: 1024,
            }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: true,
        }),
        hostname: Some("wharf".into()),
        mounts: default_mounts(rootless),
        linux: Some(default_linux(rootless)),
        ..Spec::default()
    }
}

fn default_mounts(rootless: bool) -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: strings(options),
        ..Mount::default()
    };
    let hardened = ["nosuid", "noexec", "nodev"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", if rootless { &pts[..5] } else { &pts }),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &hardened),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    if rootless {
        mounts.pop();
        mounts.push(mount(
            "/sys",
            "none",
            "/sys",
            &["rbind", "nosuid", "noexec", "nodev", "ro"],
        ));
    } else {
        mounts.push(mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ));
    }
    mounts
}

fn default_linux(rootless: bool) -> Linux {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let mut kinds = vec![Pid, Network, Ipc, Uts, Mount, Cgroup];
    let mut linux = Linux {
        masked_paths: strings(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ]),
        readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        // What every container gets anyway; here it is a place to add limits.
        resources: (!rootless).then(|| Resources {
            devices: vec![DeviceRule {
                access: Some("rwm".to_owned()),
                ..DeviceRule::default()
            }],
            ..Resources::default()
        }),
        ..Linux::default()
    };
    if rootless {
        kinds = vec![Pid, Ipc, Uts, Mount, Cgroup, User];
        let own = |host_id| {
            vec![IdMapping {
                container_id: 0,
                host_id,
                size: 1,
            }]
        };
        linux.uid_mappings = own(rustix::process::geteuid().as_raw());
        linux.gid_mappings = own(rustix::process::getegid().as_raw());
    }
    // COMPAT: as runc, which gives the hierarchies of version 1 to nobody.
    let is_unified = wharf_cgroup::Hierarchy::probe().is_ok_and(|found| found.version() == wharf_cgroup::Version::V2);
    if !is_unified {
        kinds.retain(|kind| *kind != Cgroup);
    }
    linux.namespaces = kinds.into_iter().map(|kind| Namespace { kind, path: None }).collect();
    linux
}
