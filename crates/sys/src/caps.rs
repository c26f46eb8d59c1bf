//! Capabilities by name, and the five sets of the calling thread.

use crate::Result;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The names in numeric order, without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability, with or without `CAP_`, in any case.
#[must_use]
pub fn parse_capability(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| *known == bare)
        .and_then(|index| u32::try_from(index).ok())
}

/// The bit of a capability in a set.
#[must_use]
pub fn bit(number: u32) -> u64 {
    1u64 << number
}

/// Effective, permitted and inheritable of the calling thread.
///
/// # Errors
/// Never in practice.
pub fn current() -> Result<(u64, u64, u64)> {
    let sets = rustix::thread::capabilities(None)?;
    Ok((sets.effective.bits(), sets.permitted.bits(), sets.inheritable.bits()))
}

/// Sets effective, permitted and inheritable of the calling thread.
///
/// # Errors
/// EPERM when `permitted` holds what the thread does not have.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    rustix::thread::set_capabilities(None, sets)
}

/// Removes from the bounding set everything outside `keep`.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for number in 0..64 {
        if keep & bit(number) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit(number))) {
            Ok(()) => {}
            // The first number this kernel does not know.
            Err(crate::Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Empties the ambient set.
///
/// # Errors
/// EINVAL before Linux 4.3.
pub fn clear_ambient() -> Result<()> {
    rustix::thread::clear_ambient_capability_set()
}

/// Adds one capability to the ambient set.
///
/// # Errors
/// EPERM when it is not both permitted and inheritable.
pub fn raise_ambient(number: u32) -> Result<()> {
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(bit(number)), true)
}
