//! Limits as plain values: what is asked of a control group.
//!
//! An absent value means "leave as it is". Numbers keep the meaning of the OCI runtime
//! specification's `linux.resources` (for memory and pids, -1 is "no limit").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Every limit of one control group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processor time.
    pub cpu: Cpu,
    /// Which processors and memory nodes.
    pub cpuset: Cpuset,
    /// Memory and swap.
    pub memory: Memory,
    /// Highest number of tasks; -1 (or 0) is unlimited.
    pub pids_limit: Option<i64>,
    /// Block devices.
    pub io: BlockIo,
    /// Device access, in order; empty leaves access unrestricted.
    pub devices: Vec<DeviceRule>,
    /// Huge pages.
    pub hugetlb: Vec<HugetlbLimit>,
    /// Packet class and priorities (v1 only).
    pub network: Network,
    /// RDMA devices by name.
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// Files of a v2 group written as given, after everything else.
    pub unified: BTreeMap<String, String>,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Relative weight, 2 to 262144, 1024 by default.
    pub shares: Option<u64>,
    /// Microseconds per period; -1 is unlimited.
    pub quota_us: Option<i64>,
    /// Length of a period in microseconds.
    pub period_us: Option<u64>,
    /// Microseconds that may be saved up and spent beyond the quota.
    pub burst_us: Option<u64>,
    /// Real-time microseconds per period (v1 only).
    pub realtime_runtime_us: Option<i64>,
    /// Length of a real-time period (v1 only).
    pub realtime_period_us: Option<u64>,
    /// 1 marks the group's tasks as SCHED_IDLE.
    pub idle: Option<i64>,
}

/// Which processors and memory nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpuset {
    /// List such as `0-3,7`.
    pub cpus: Option<String>,
    /// List of memory nodes.
    pub mems: Option<String>,
}

/// Memory and swap, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Hard limit; -1 is unlimited.
    pub limit: Option<i64>,
    /// Soft limit; -1 is unlimited.
    pub reservation: Option<i64>,
    /// Memory **plus** swap (also on v2, where it is converted); -1 is unlimited.
    pub swap: Option<i64>,
    /// Kernel memory for TCP buffers (v1 only).
    pub kernel_tcp: Option<i64>,
    /// 0 to 100 (v1 only; ignored on v2 where the kernel has no such file).
    pub swappiness: Option<u64>,
    /// Keep tasks waiting instead of killing them when memory runs out (v1 only).
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit below the present usage instead of killing.
    pub check_before_update: Option<bool>,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// Weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Weight of the group's own tasks against its child groups (v1 CFQ only).
    pub leaf_weight: Option<u16>,
    /// Weights per device.
    pub weight_devices: Vec<WeightDevice>,
    /// Bytes per second read.
    pub throttle_read_bps: Vec<ThrottleDevice>,
    /// Bytes per second written.
    pub throttle_write_bps: Vec<ThrottleDevice>,
    /// Reads per second.
    pub throttle_read_iops: Vec<ThrottleDevice>,
    /// Writes per second.
    pub throttle_write_iops: Vec<ThrottleDevice>,
}

/// Weight of one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Leaf weight (v1 CFQ only).
    pub leaf_weight: Option<u16>,
}

/// Rate of one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// One entry of the device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Kind of device node.
    pub kind: DeviceKind,
    /// Major number; any if absent.
    pub major: Option<u32>,
    /// Minor number; any if absent.
    pub minor: Option<u32>,
    /// What is allowed or denied.
    pub access: DeviceAccess,
}

/// Kind of a device node in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Both kinds.
    All,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `m`
    pub mknod: bool,
}

/// Limit of one huge page size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugetlbLimit {
    /// Kernel spelling: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Limits of one RDMA device; an absent one stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RdmaLimit {
    /// Most handles.
    pub handles: Option<u32>,
    /// Most objects.
    pub objects: Option<u32>,
}

/// Packet class and priorities (v1 only).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// net_cls class.
    pub class_id: Option<u32>,
    /// net_prio priority per interface name.
    pub priorities: BTreeMap<String, u32>,
}

impl DeviceAccess {
    /// Read, write and mknod.
    pub const ALL: Self = Self {
        read: true,
        write: true,
        mknod: true,
    };

    /// Parses a string of the letters `r`, `w` and `m`; `None` if it holds anything else or nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut access = Self::default();
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.mknod = true,
                // COMPAT: written for all, as the kernel writes it for kinds; runc lets it pass.
                'a' => access = Self::ALL,
                _ => return None,
            }
        }
        (!text.is_empty()).then_some(access)
    }
}

impl std::fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}
