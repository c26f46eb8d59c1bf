//! The machine that the engine runs on.
use std::path::Path;

use wharf_cgroup::{Controller, Hierarchy, Version};

/// What the machine is and can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `6.1.0-18-amd64`
    pub kernel: String,
    /// `x86_64`
    pub machine: String,
    /// Host name.
    pub name: String,
    /// `Debian GNU/Linux 12 (bookworm)`
    pub system: String,
    /// `12`
    pub system_version: String,
    /// Usable processors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Which limits the kernel can enforce.
    pub limits: Limits,
    /// The machine forwards IPv4 packets.
    pub ipv4_forwarding: bool,
    /// Security mechanisms, in the form of `info`.
    pub security: Vec<String>,
    /// Proxies of the engine's environment: http, https, exceptions.
    pub proxies: [String; 3],
}

/// Which limits the kernel can enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, told one by one"
)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// CPU quota and period.
    pub cpu_quota: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// CPU sets.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Switching the OOM killer off.
    pub oom_kill_disable: bool,
}

impl HostFacts {
    /// Looks at the machine; what cannot be read stays empty.
    pub fn probe() -> Self {
        let names = rustix::system::uname();
        let text = |s: &std::ffi::CStr| s.to_string_lossy().into_owned();
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let (cgroup_version, limits) = probe_limits();
        Self {
            kernel: text(names.release()),
            machine: text(names.machine()),
            name: text(names.nodename()),
            system: release_field(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            system_version: release_field(&release, "VERSION_ID").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            cgroup_version,
            limits,
            ipv4_forwarding: reads_one("/proc/sys/net/ipv4/ip_forward"),
            security: security_options(),
            proxies: [proxy("http_proxy"), proxy("https_proxy"), proxy("no_proxy")],
        }
    }

    /// What the kernel cannot do and users may miss, in Docker's words.
    pub fn warnings(&self) -> Vec<String> {
        let limits = &self.limits;
        let all = [
            (limits.memory, "WARNING: No memory limit support"),
            (limits.swap, "WARNING: No swap limit support"),
            (limits.cpu_quota, "WARNING: No cpu cfs quota support"),
            (limits.cpu_shares, "WARNING: No cpu shares support"),
            (limits.cpuset, "WARNING: No cpuset support"),
            (limits.pids, "WARNING: No pids limit support"),
            (self.ipv4_forwarding, "WARNING: IPv4 forwarding is disabled"),
        ];
        all.iter()
            .filter(|(fine, _)| !fine)
            .map(|(_, text)| (*text).to_owned())
            .collect()
    }
}

/// One field of os-release, unquoted.
fn release_field(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn reads_one(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn proxy(name: &str) -> String {
    std::env::var(name)
        .or_else(|_| std::env::var(name.to_uppercase()))
        .unwrap_or_default()
}

/// Whether the kernel enforces AppArmor profiles.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

fn security_options() -> Vec<String> {
    let mut options = Vec::new();
    if has_apparmor() {
        options.push("name=apparmor".to_owned());
    }
    options.push("name=seccomp,profile=builtin".to_owned());
    if Path::new("/proc/self/ns/cgroup").exists() {
        options.push("name=cgroupns".to_owned());
    }
    options
}

/// Which cgroup version rules, and what it offers.
fn probe_limits() -> (u8, Limits) {
    let Ok(hierarchy) = Hierarchy::probe() else {
        return (1, Limits::default());
    };
    match hierarchy.version() {
        Version::V1 => (1, limits_v1(&hierarchy)),
        Version::V2 => (2, limits_v2(&hierarchy)),
    }
}

fn limits_v1(hierarchy: &Hierarchy) -> Limits {
    let has = |controller, file: &str| {
        hierarchy
            .mount_of(controller)
            .is_some_and(|path| path.join(file).exists())
    };
    Limits {
        memory: has(Controller::Memory, "memory.limit_in_bytes"),
        swap: has(Controller::Memory, "memory.memsw.limit_in_bytes"),
        cpu_quota: has(Controller::Cpu, "cpu.cfs_quota_us"),
        cpu_shares: has(Controller::Cpu, "cpu.shares"),
        cpuset: has(Controller::Cpuset, "cpuset.cpus"),
        pids: has(Controller::Pids, "cgroup.procs"),
        oom_kill_disable: has(Controller::Memory, "memory.oom_control"),
    }
}

fn limits_v2(hierarchy: &Hierarchy) -> Limits {
    let offered = hierarchy
        .unified()
        .and_then(|path| std::fs::read_to_string(path.join("cgroup.controllers")).ok());
    let offered = offered.unwrap_or_default();
    let has = |name: &str| offered.split_whitespace().any(|word| word == name);
    Limits {
        memory: has("memory"),
        swap: has("memory") && Path::new("/proc/swaps").exists(),
        cpu_quota: has("cpu"),
        cpu_shares: has("cpu"),
        cpuset: has("cpuset"),
        pids: has("pids"),
        oom_kill_disable: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_and_meminfo_are_read() {
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n";
        assert_eq!(
            release_field(release, "PRETTY_NAME").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(release_field(release, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(release_field(release, "NAME"), None);
        assert_eq!(memory_total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2048 * 1024);
        assert_eq!(memory_total(""), 0);
    }

    #[test]
    fn missing_limits_are_warned_about() {
        let facts = HostFacts {
            ipv4_forwarding: true,
            ..HostFacts::default()
        };
        assert!(
            facts
                .warnings()
                .contains(&"WARNING: No memory limit support".to_owned())
        );
        assert!(!facts.warnings().iter().any(|w| w.contains("forwarding")));
    }

    #[test]
    fn this_machine_is_described() {
        let facts = HostFacts::probe();
        assert!(facts.processors > 0 && facts.memory > 0 && !facts.kernel.is_empty());
        assert!(facts.security.iter().all(|option| option.starts_with("name=")));
    }
}
