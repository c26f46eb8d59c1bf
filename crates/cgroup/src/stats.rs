//! Measurements of one control group, as Docker's stats and the OCI `events` command need them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything measured at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub blkio: BlkioStats,
    /// Huge pages by page size.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// Processor time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// Total.
    pub total_ns: u64,
    /// Per processor; empty on v2.
    pub percpu_ns: Vec<u64>,
    /// In user mode.
    pub user_ns: u64,
    /// In kernel mode.
    pub system_ns: u64,
    /// Bandwidth control.
    pub throttling: ThrottlingStats,
}

/// Bandwidth control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingStats {
    /// Periods seen.
    pub periods: u64,
    /// Periods in which the group was throttled.
    pub throttled_periods: u64,
    /// Time spent throttled.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Present usage, page cache included.
    pub usage: u64,
    /// Highest usage seen; 0 where the kernel does not say.
    pub max_usage: u64,
    /// The limit; `u64::MAX` when unlimited.
    pub limit: u64,
    /// Times the limit was hit.
    pub failcnt: u64,
    /// Present swap usage.
    pub swap_usage: u64,
    /// The kernel's `memory.stat`, names as the kernel spells them.
    pub stat: BTreeMap<String, u64>,
    /// Tasks killed for lack of memory.
    pub oom_kills: u64,
}

/// Tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Present number.
    pub current: u64,
    /// Limit; `None` when unlimited.
    pub limit: Option<u64>,
}

/// Block devices; lists are empty where the kernel has no such counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes by device and operation.
    pub io_service_bytes: Vec<BlkioEntry>,
    /// Operations by device and operation.
    pub io_serviced: Vec<BlkioEntry>,
    /// Queued operations.
    pub io_queued: Vec<BlkioEntry>,
    /// Time between dispatch and completion.
    pub io_service_time: Vec<BlkioEntry>,
    /// Time waited in queues.
    pub io_wait_time: Vec<BlkioEntry>,
    /// Merged operations.
    pub io_merged: Vec<BlkioEntry>,
    /// Disk time by device.
    pub io_time: Vec<BlkioEntry>,
    /// Sectors by device.
    pub sectors: Vec<BlkioEntry>,
}

/// One counter of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, ... on v1; `read`, `write` on v2 (as Docker reports them); may be empty.
    pub op: String,
    /// The counter.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HugetlbStats {
    /// Present usage.
    pub usage: u64,
    /// Highest usage seen.
    pub max_usage: u64,
    /// Times the limit was hit.
    pub failcnt: u64,
}
