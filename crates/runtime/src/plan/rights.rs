//! Rights as numbers: capability sets, resource limits, sysctl ownership.

use crate::RuntimeError;
use crate::spec::{Capabilities, Rlimit};
use wharf_sys::caps;
use wharf_sys::namespace::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS};

/// The five sets as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilityBits {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
}

impl CapabilityBits {
    /// Names of those that cannot be ambient, as they are not in both other
    /// sets (capabilities(7)).
    pub(crate) fn lost_ambient(&self) -> impl Iterator<Item = &'static str> {
        names(self.ambient & !(self.permitted & self.inheritable))
    }

    /// The kernel lets nothing become inheritable that is not in the bounding
    /// set (capset(2)).
    pub(crate) fn check_inheritable(&self) -> Result<(), RuntimeError> {
        match names(self.inheritable & !self.bounding).next() {
            None => Ok(()),
            Some(name) => {
                let field = "process.capabilities.inheritable";
                let text = format!("{field}: CAP_{name} is not in the bounding set: operation not permitted");
                Err(RuntimeError::invalid(field, text))
            }
        }
    }
}

fn names(bits: u64) -> impl Iterator<Item = &'static str> {
    (0u32..)
        .zip(caps::NAMES)
        .filter_map(move |(number, name)| (bits & caps::bit(number) != 0).then_some(name))
}

/// Sets as bits; names that are unknown come back, to be warned about.
pub(crate) fn plan_capabilities(sets: &Capabilities) -> (CapabilityBits, Vec<String>) {
    let mut unknown = Vec::new();
    let mut bits = |names: &[String]| {
        names.iter().fold(0, |bits, name| match caps::parse_capability(name) {
            Some(number) => bits | caps::bit(number),
            None => {
                if !unknown.contains(name) {
                    unknown.push(name.clone());
                }
                bits
            }
        })
    };
    let sets = CapabilityBits {
        bounding: bits(&sets.bounding),
        effective: bits(&sets.effective),
        inheritable: bits(&sets.inheritable),
        permitted: bits(&sets.permitted),
        ambient: bits(&sets.ambient),
    };
    (sets, unknown)
}

/// Names of the limits in numeric order (asm-generic/resource.h).
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// One limit: resource number, soft, hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RlimitPlan {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// The short name of a resource, for messages.
pub(crate) fn rlimit_name(resource: u32) -> &'static str {
    RLIMITS.get(resource as usize).copied().unwrap_or("unknown")
}

/// Limits as numbers; unknown and doubled names are errors.
pub(crate) fn plan_rlimits(limits: &[Rlimit]) -> Result<Vec<RlimitPlan>, RuntimeError> {
    let mut plans: Vec<RlimitPlan> = Vec::new();
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("process.rlimits[{index}]");
        let invalid = |why: String| RuntimeError::invalid(&field, format!("{field}: {why}"));
        let name = limit.kind.strip_prefix("RLIMIT_").unwrap_or_default();
        let resource = RLIMITS.iter().position(|known| *known == name);
        let Some(resource) = resource.and_then(|n| u32::try_from(n).ok()) else {
            return Err(invalid(format!("unknown type {:?}", limit.kind)));
        };
        if plans.iter().any(|plan| plan.resource == resource) {
            return Err(invalid(format!("{} is listed twice", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(invalid(format!(
                "soft limit {} is above the hard limit {}",
                limit.soft, limit.hard
            )));
        }
        plans.push(RlimitPlan {
            resource,
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    Ok(plans)
}

/// The namespace a kernel parameter belongs to; none for those of the host.
pub(crate) fn sysctl_namespace(key: &str) -> Option<u32> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let key = key.replace('/', ".");
    if key.starts_with("net.") {
        return Some(CLONE_NEWNET);
    }
    if key.starts_with("fs.mqueue.") || IPC.contains(&key.as_str()) {
        return Some(CLONE_NEWIPC);
    }
    (key == "kernel.domainname" || key == "kernel.hostname").then_some(CLONE_NEWUTS)
}

/// The path of a kernel parameter below `/proc/sys`; none if it climbs.
///
/// `net.ipv4.conf.eth0/1.forwarding` writes a dot of a name as a slash.
pub(crate) fn sysctl_path(key: &str) -> Option<String> {
    let first = key.find(['.', '/'])?;
    let path = if key.as_bytes()[first] == b'/' {
        key.to_owned()
    } else {
        key.chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect()
    };
    let sound = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    sound.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_capabilities_are_reported_and_known_ones_kept() {
        let sets = Capabilities {
            bounding: vec!["CAP_CHOWN".into(), "CAP_NONSENSE".into()],
            effective: vec!["cap_kill".into()],
            ..Capabilities::default()
        };
        let (bits, unknown) = plan_capabilities(&sets);
        assert_eq!((bits.bounding, bits.effective, bits.permitted), (1, 1 << 5, 0));
        assert_eq!(unknown, ["CAP_NONSENSE"]);
    }

    #[test]
    fn wrong_limits_name_the_field() {
        let limit = |kind: &str, soft, hard| Rlimit {
            kind: kind.into(),
            soft,
            hard,
        };
        let check = |limits: &[Rlimit], expected: &str| {
            assert_eq!(plan_rlimits(limits).map_err(|e| e.message()), Err(expected.to_owned()));
        };
        check(
            &[limit("RLIMIT_TEST", 1, 1)],
            "process.rlimits[0]: unknown type \"RLIMIT_TEST\"",
        );
        check(
            &[limit("RLIMIT_CORE", 1, 1), limit("RLIMIT_CORE", 2, 2)],
            "process.rlimits[1]: RLIMIT_CORE is listed twice",
        );
        check(
            &[limit("RLIMIT_CORE", 2, 1)],
            "process.rlimits[0]: soft limit 2 is above the hard limit 1",
        );
        let good = plan_rlimits(&[limit("RLIMIT_NOFILE", 5, 6)]);
        assert_eq!(
            good,
            Ok(vec![RlimitPlan {
                resource: 7,
                soft: 5,
                hard: 6
            }])
        );
    }

    #[test]
    fn only_parameters_of_namespaces_have_one() {
        let check = |key: &str, expected: Option<u32>| assert_eq!(sysctl_namespace(key), expected, "{key}");
        check("net.ipv4.ip_forward", Some(CLONE_NEWNET));
        check("net/ipv4/ip_forward", Some(CLONE_NEWNET));
        check("kernel.shmmax", Some(CLONE_NEWIPC));
        check("fs.mqueue.msg_max", Some(CLONE_NEWIPC));
        check("kernel.domainname", Some(CLONE_NEWUTS));
        check("kernel.panic", None);
        check("vm.swappiness", None);
    }

    #[test]
    fn parameter_paths_do_not_climb() {
        assert_eq!(
            sysctl_path("net.ipv4.ip_forward").as_deref(),
            Some("net/ipv4/ip_forward")
        );
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.x").as_deref(),
            Some("net/ipv4/conf/eth0.1/x")
        );
        assert_eq!(sysctl_path("net/ipv4/x").as_deref(), Some("net/ipv4/x"));
        assert_eq!(sysctl_path("net/../kernel/panic"), None);
        assert_eq!(sysctl_path("net..x"), None);
    }
}
