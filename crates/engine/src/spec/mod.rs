//! From a container's record to the `config.json` of its bundle: a pure function.
//!
//! What only the host knows (device numbers, processes to join, the pinned network
//! namespace) is looked up before and comes in as [`HostFacts`].
mod capabilities;
mod devices;
mod mounts;
mod namespaces;
mod resources;
mod security;

use std::path::{Path, PathBuf};

use wharf_runtime::spec::{ConsoleSize, Linux, Process, Rlimit, Root, Spec, User, VERSION};

pub use capabilities::{capability_names, check_capability, names_of_mask};
pub(crate) use devices::parse_rule;
pub use resources::cgroup_resources;
pub use security::{SeccompChoice, SecurityOptions, default_masked_paths, default_readonly_paths};

use crate::error::Result;
use crate::model::{ContainerRecord, UtsMode};

/// Where `--init` puts our init inside the container.
pub const INIT_PATH: &str = "/sbin/docker-init";

/// Default search path of a container whose image sets none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of /dev/shm when none were asked for.
pub const DEFAULT_SHM_BYTES: i64 = 64 << 20;

/// What only the host knows.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Cgroup of the container, such as `/wharf/<id>`.
    pub cgroup_path: String,
    /// The host has cgroup v2 only.
    pub cgroup_v2: bool,
    /// Network namespace to join; `None` is the host's.
    pub netns: Option<PathBuf>,
    /// Process whose pid namespace is joined.
    pub pid_of_pid_container: Option<i32>,
    /// Process whose IPC namespace is joined.
    pub pid_of_ipc_container: Option<i32>,
    /// Host directory that is /dev/shm of this container and those that join it.
    pub shared_shm: Option<PathBuf>,
    /// Files generated for it: hosts, hostname, resolv.conf.
    pub files_dir: PathBuf,
    /// Devices asked for, with their numbers.
    pub devices: Vec<DeviceFact>,
    /// Every device of the host, for privileged containers.
    pub host_devices: Vec<DeviceFact>,
    /// Numbers of the block devices that limits name, by path.
    pub block_devices: std::collections::BTreeMap<String, (u32, u32)>,
    /// The static shim binary, mounted as init with `--init`.
    pub init_binary: PathBuf,
    /// Capabilities the kernel knows and the engine has.
    pub known_capabilities: Vec<String>,
    /// The host enforces AppArmor profiles.
    pub apparmor: bool,
    /// Process limit of containers that ask for none; -1 is unlimited.
    pub default_pids_limit: i64,
    /// The kernel makes a mount read-only with all below it. KERNEL(5.12).
    pub recursive_read_only: bool,
}

/// One device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFact {
    /// Path inside the container.
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    /// Number.
    pub major: u32,
    /// Number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of `rwm`.
    pub access: String,
}

/// Generates the bundle's configuration.
pub fn generate(record: &ContainerRecord, facts: &HostFacts) -> Result<Spec> {
    let security = SecurityOptions::parse(&record.host)?;
    let capabilities = capability_names(&record.host, &facts.known_capabilities)?;
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process_of(record, facts, &security, &capabilities)),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: record.host.readonly_rootfs,
        }),
        hostname: private_uts(record).then(|| record.config.hostname.clone()),
        domainname: (private_uts(record) && !record.config.domainname.is_empty())
            .then(|| record.config.domainname.clone()),
        mounts: mounts::plan_mounts(record, facts, &security)?,
        hooks: None,
        annotations: record.host.annotations.clone().unwrap_or_default(),
        linux: Some(Linux {
            sysctl: security::sysctls(&record.host),
            resources: Some(resources::plan_resources(record, facts)?),
            cgroups_path: Some(facts.cgroup_path.clone()),
            namespaces: namespaces::plan_namespaces(&record.host, facts),
            devices: devices::plan_devices(&record.host, facts),
            seccomp: security::plan_seccomp(&record.host, &security, &capabilities)?,
            rootfs_propagation: mounts::root_propagation(record),
            masked_paths: security::masked_paths(&record.host, &security),
            readonly_paths: security::readonly_paths(&record.host, &security),
            ..Linux::default()
        }),
    })
}

fn private_uts(record: &ContainerRecord) -> bool {
    UtsMode::parse(&record.host.uts_mode) != Ok(UtsMode::Host)
}

fn process_of(
    record: &ContainerRecord,
    facts: &HostFacts,
    security: &SecurityOptions,
    capabilities: &[String],
) -> Process {
    let [height, width] = record.host.console_size;
    Process {
        terminal: record.config.tty,
        console_size: (record.config.tty && height > 0 && width > 0).then(|| ConsoleSize {
            height: u16::try_from(height).unwrap_or(u16::MAX),
            width: u16::try_from(width).unwrap_or(u16::MAX),
        }),
        user: User::default(), // the launch plan carries the user's name
        args: arguments(record, facts),
        env: environment(record),
        cwd: working_dir(&record.config.working_dir),
        capabilities: Some(capabilities::sets_of(capabilities)),
        rlimits: rlimits(record),
        no_new_privileges: security.no_new_privileges,
        // COMPAT: a profile is not looked at where the kernel has no AppArmor.
        apparmor_profile: security.apparmor.clone().filter(|_| facts.apparmor),
        oom_score_adj: (record.host.oom_score_adj != 0).then(|| i32::try_from(record.host.oom_score_adj).unwrap_or(0)),
        ..Process::default()
    }
}

fn arguments(record: &ContainerRecord, facts: &HostFacts) -> Vec<String> {
    let mut args = Vec::with_capacity(record.args.len() + 3);
    if record.host.resources.init == Some(true) && facts.pid_of_pid_container.is_none() {
        args.extend([INIT_PATH.to_owned(), "--".to_owned()]);
    }
    args.push(record.path.clone());
    args.extend(record.args.iter().cloned());
    args
}

/// The environment of a container's processes: defaults, then the container's own.
pub fn environment(record: &ContainerRecord) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", record.config.hostname)];
    if record.config.tty {
        env.push("TERM=xterm".to_owned());
    }
    merge_environment(env, record.config.env.iter().flatten())
}

/// Adds variables; one that is there is replaced in place, one without `=` is removed.
pub fn merge_environment<'a>(mut env: Vec<String>, more: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    for entry in more {
        let (name, has_value) = match entry.split_once('=') {
            Some((name, _)) => (name, true),
            None => (entry.as_str(), false),
        };
        let same = |e: &String| e.split_once('=').is_some_and(|(n, _)| n == name);
        match (env.iter().position(same), has_value) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    env
}

fn working_dir(text: &str) -> PathBuf {
    if text.is_empty() {
        PathBuf::from("/")
    } else {
        Path::new("/").join(text)
    }
}

fn rlimits(record: &ContainerRecord) -> Vec<Rlimit> {
    let unlimited = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    record
        .host
        .resources
        .ulimits
        .iter()
        .flatten()
        .map(|u| Rlimit {
            kind: format!("RLIMIT_{}", u.name.to_uppercase()),
            soft: unlimited(u.soft),
            hard: unlimited(u.hard),
        })
        .collect()
}

#[cfg(test)]
mod tests;
