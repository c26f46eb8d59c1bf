//! Capabilities: Docker's defaults, additions and removals.
use wharf_runtime::spec::Capabilities;

use crate::error::{Error, Result};
use crate::model::HostConfig;

/// What a container has unless told otherwise.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All names, by number.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The names whose bit is set in a mask such as `CapBnd` of /proc.
pub fn names_of_mask(mask: u64) -> Vec<String> {
    ALL.iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// `CAP_X` of `x`, `CAP_x`...; an error when there is no such capability.
pub fn check_capability(name: &str) -> Result<String> {
    let upper = name.to_uppercase();
    if upper == "ALL" {
        return Ok(upper);
    }
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if ALL.contains(&full.as_str()) {
        Ok(full)
    } else {
        Err(Error::invalid(format!("invalid CapAdd: unknown capability: {name:?}")))
    }
}

/// The capabilities of a container's root user, sorted by number.
pub fn capability_names(host: &HostConfig, known: &[String]) -> Result<Vec<String>> {
    if host.privileged {
        return Ok(known.to_vec());
    }
    let read = |list: &Option<Vec<String>>| -> Result<Vec<String>> {
        list.iter().flatten().map(|n| check_capability(n)).collect()
    };
    let (add, drop) = (read(&host.cap_add)?, read(&host.cap_drop)?);
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let wanted = |name: &str| {
        if has(&add, "ALL") {
            !has(&drop, name)
        } else if has(&drop, "ALL") {
            has(&add, name)
        } else {
            has(&add, name) || (DEFAULT.contains(&name) && !has(&drop, name))
        }
    };
    Ok(ALL
        .iter()
        .filter(|name| wanted(name))
        .filter(|name| !has(&add, "ALL") || has(known, name))
        .map(|name| (*name).to_owned())
        .collect())
}

/// The five sets for these capabilities; init empties the effective ones of other users.
pub(super) fn sets_of(names: &[String]) -> Capabilities {
    Capabilities {
        bounding: names.to_vec(),
        effective: names.to_vec(),
        permitted: names.to_vec(),
        inheritable: Vec::new(),
        ambient: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(host: &HostConfig) -> u64 {
        let known: Vec<String> = ALL.iter().map(|n| (*n).to_owned()).collect();
        let names = capability_names(host, &known).expect("valid");
        names
            .iter()
            .map(|n| 1 << ALL.iter().position(|a| a == n).expect("known"))
            .sum()
    }

    fn list(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|n| (*n).to_owned()).collect())
    }

    #[test]
    fn masks_are_dockers() {
        let check = |add: &[&str], drop: &[&str], expected: u64| {
            let host = HostConfig {
                cap_add: list(add),
                cap_drop: list(drop),
                ..Default::default()
            };
            assert_eq!(mask(&host), expected, "add {add:?} drop {drop:?}");
        };
        check(&[], &[], 0xa804_25fb);
        check(&[], &["ALL"], 0);
        check(&["NET_ADMIN", "CAP_CHOWN"], &["ALL"], 0x1001);
        check(&["ALL"], &["CHOWN"], 0x1ff_ffff_fffe);
        check(&["sys_admin"], &["mknod"], 0xa804_25fb - (1 << 27) + (1 << 21));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(check_capability("NOSUCH").is_err());
        assert_eq!(check_capability("net_raw").expect("known"), "CAP_NET_RAW");
    }
}
