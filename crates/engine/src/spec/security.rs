//! Security options, seccomp, masked paths, kernel parameters.
use std::collections::BTreeMap;

use wharf_runtime::seccomp::{default_profile, resolve_profile};
use wharf_runtime::spec::Seccomp;

use crate::error::{Error, Result};
use crate::model::{HostConfig, NetworkMode};

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
];

const MASKED_FIRMWARE: &str = "/sys/firmware";

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Parsed `security_opt`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecurityOptions {
    /// No process may gain rights by execve.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// No masked and no read-only paths.
    pub unconfined_paths: bool,
    /// Whether the container may write to its cgroups; as it is privileged if absent.
    pub writable_cgroups: Option<bool>,
    /// SELinux label options, as given.
    pub labels: Vec<String>,
}

/// Which system call filter.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SeccompChoice {
    /// The built-in policy.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// The user's own, as JSON in Docker's form.
    Profile(String),
}

impl SecurityOptions {
    /// Reads the options of a container; unknown ones are refused.
    pub fn parse(host: &HostConfig) -> Result<Self> {
        let mut options = Self::default();
        for text in host.security_opt.iter().flatten() {
            options.apply(text)?;
        }
        Ok(options)
    }

    fn apply(&mut self, text: &str) -> Result<()> {
        // `key=value`, and since long ago `key:value`.
        let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((key, value)) => (key, value),
            None => (text, ""),
        };
        match (key, value) {
            ("no-new-privileges", "" | "true") => self.no_new_privileges = true,
            ("no-new-privileges", "false") => self.no_new_privileges = false,
            ("seccomp", "unconfined") => self.seccomp = SeccompChoice::Unconfined,
            ("seccomp", "builtin") => self.seccomp = SeccompChoice::Default,
            ("seccomp", json) => {
                read_profile(json, &[])?;
                self.seccomp = SeccompChoice::Profile(json.to_owned());
            }
            ("apparmor", profile) => {
                self.apparmor = (profile != "unconfined").then(|| profile.to_owned());
            }
            ("label", label) => self.labels.push(label.to_owned()),
            ("systempaths", "unconfined") => self.unconfined_paths = true,
            ("writable-cgroups", "true") => self.writable_cgroups = Some(true),
            ("writable-cgroups", "false") => self.writable_cgroups = Some(false),
            _ => {
                return Err(Error::invalid(format!("invalid --security-opt 2: {text:?}"))
                    .with_hint("known are no-new-privileges, seccomp=, apparmor=, label=, systempaths=unconfined, writable-cgroups="));
            }
        }
        Ok(())
    }
}

/// Reads a profile for a container with these capabilities.
fn read_profile(text: &str, capabilities: &[String]) -> Result<Option<Seccomp>> {
    resolve_profile(text, capabilities).map_err(|e| Error::invalid(e.to_string()).with_source(e))
}

pub(super) fn plan_seccomp(
    host: &HostConfig,
    options: &SecurityOptions,
    capabilities: &[String],
) -> Result<Option<Seccomp>> {
    Ok(match &options.seccomp {
        SeccompChoice::Unconfined => None,
        SeccompChoice::Profile(text) => read_profile(text, capabilities)?,
        SeccompChoice::Default if host.privileged => None,
        SeccompChoice::Default => Some(default_profile(capabilities)),
    })
}

/// Paths nobody may read.
pub(super) fn masked_paths(host: &HostConfig, options: &SecurityOptions) -> Vec<String> {
    if host.privileged || options.unconfined_paths {
        return Vec::new();
    }
    host.masked_paths.clone().unwrap_or_else(default_masked_paths)
}

/// Paths nobody may write.
pub(super) fn readonly_paths(host: &HostConfig, options: &SecurityOptions) -> Vec<String> {
    if host.privileged || options.unconfined_paths {
        return Vec::new();
    }
    host.readonly_paths.clone().unwrap_or_else(default_readonly_paths)
}

/// Docker's list of masked paths.
pub fn default_masked_paths() -> Vec<String> {
    MASKED
        .iter()
        .copied()
        .chain([MASKED_FIRMWARE])
        .map(str::to_owned)
        .collect()
}

/// Docker's list of read-only paths.
pub fn default_readonly_paths() -> Vec<String> {
    READONLY.map(str::to_owned).to_vec()
}

/// Kernel parameters: the user's, and two that let a container's root use low ports and ping.
pub(super) fn sysctls(host: &HostConfig) -> BTreeMap<String, String> {
    let mut all = host.sysctls.clone().unwrap_or_default();
    if matches!(
        host.network(),
        NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_)
    ) {
        all.entry("net.ipv4.ip_unprivileged_port_start".into())
            .or_insert_with(|| "0".into());
        all.entry("net.ipv4.ping_group_range".into())
            .or_insert_with(|| "0 2147483647".into());
    }
    all
}
