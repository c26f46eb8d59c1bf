//! One measurement of a container: its cgroup, its interfaces, and the host beside it.
use std::collections::BTreeMap;

use wharf_cgroup::{Cgroup, Hierarchy, Stats};

use crate::error::{Error, Result};
use crate::model::Timestamp;
use crate::model::requests::{BlkioEntry, CpuSample, InterfaceSample, MemorySample, StatsSample};

/// Nanoseconds of one tick in /proc/stat (USER_HZ is 100 on every Linux).
const TICK_NS: u64 = 10_000_000;

/// Measures the group at `path` and the interfaces of the process `pid`. Blocking.
pub(crate) fn measure(hierarchy: &Hierarchy, path: &str, pid: i32) -> Result<StatsSample> {
    let unreadable = |e: wharf_cgroup::CgroupError| Error::internal(format!("measuring {path}: {e}")).with_source(e);
    let group = Cgroup::open(hierarchy, path).map_err(unreadable)?;
    let stats = group.stats().map_err(unreadable)?;
    let host = HostCpu::read();
    let is_v1 = group.version() == wharf_cgroup::Version::V1;
    Ok(StatsSample {
        read: Some(Timestamp::now()),
        cpu: cpu(&stats, &host),
        memory: memory(&stats, is_v1),
        blkio: stats.blkio.io_service_bytes.iter().map(entry).collect(),
        blkio_serviced: stats.blkio.io_serviced.iter().map(entry).collect(),
        pids: (stats.pids.current, stats.pids.limit.unwrap_or(0)),
        networks: interfaces(pid),
    })
}

fn cpu(stats: &Stats, host: &HostCpu) -> CpuSample {
    let throttling = stats.cpu.throttling;
    CpuSample {
        total: stats.cpu.total_ns,
        user: stats.cpu.user_ns,
        kernel: stats.cpu.system_ns,
        per_cpu: stats.cpu.percpu_ns.clone(),
        system: host.busy_and_idle_ns,
        online: host.online,
        throttling: (
            throttling.periods,
            throttling.throttled_periods,
            throttling.throttled_ns,
        ),
    }
}

fn memory(stats: &Stats, is_v1: bool) -> MemorySample {
    let host = host_memory();
    MemorySample {
        usage: stats.memory.usage,
        max_usage: is_v1.then_some(stats.memory.max_usage),
        limit: if host == 0 {
            stats.memory.limit
        } else {
            stats.memory.limit.min(host)
        },
        failcnt: is_v1.then_some(stats.memory.failcnt),
        stats: stats.memory.stat.clone(),
    }
}

fn entry(from: &wharf_cgroup::BlkioEntry) -> BlkioEntry {
    BlkioEntry {
        major: from.major,
        minor: from.minor,
        op: from.op.clone(),
        value: from.value,
    }
}

/// What all processors of the host did since boot.
struct HostCpu {
    busy_and_idle_ns: u64,
    online: u32,
}

impl HostCpu {
    fn read() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text)
    }

    /// COMPAT: user, nice, system, idle, iowait, irq and softirq, as Docker sums them.
    fn parse(text: &str) -> Self {
        let total = text.lines().find_map(|l| l.strip_prefix("cpu ")).unwrap_or_default();
        let ticks: u64 = total
            .split_whitespace()
            .take(7)
            .filter_map(|t| t.parse::<u64>().ok())
            .sum();
        let is_processor = |l: &&str| {
            l.strip_prefix("cpu")
                .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        };
        let online = text.lines().filter(is_processor).count();
        Self {
            busy_and_idle_ns: ticks.saturating_mul(TICK_NS),
            online: u32::try_from(online).unwrap_or(0),
        }
    }
}

/// Bytes of memory of the host; 0 when the kernel does not say.
fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|r| r.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Counters of every interface but loopback, as the process sees them.
fn interfaces(pid: i32) -> BTreeMap<String, InterfaceSample> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    parse_interfaces(&text)
}

fn parse_interfaces(text: &str) -> BTreeMap<String, InterfaceSample> {
    let rows = text.lines().skip(2).filter_map(|l| l.split_once(':'));
    let samples = rows.map(|(name, numbers)| {
        let n: Vec<u64> = numbers.split_whitespace().map(|t| t.parse().unwrap_or(0)).collect();
        let four = |from: usize| std::array::from_fn(|i| n.get(from + i).copied().unwrap_or(0));
        (
            name.trim().to_owned(),
            InterfaceSample {
                rx: four(0),
                tx: four(8),
            },
        )
    });
    samples.filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_time_is_the_sum_of_seven_columns() {
        let host = HostCpu::parse("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0\nintr 5\n");
        assert_eq!((host.busy_and_idle_ns, host.online), (28 * TICK_NS, 2));
    }

    #[test]
    fn interfaces_have_four_counters_each_way() {
        let text = "Inter-| x\n face |bytes\n    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let expected = InterfaceSample {
            rx: [1, 2, 3, 4],
            tx: [5, 6, 7, 8],
        };
        assert_eq!(parse_interfaces(text), BTreeMap::from([("eth0".to_owned(), expected)]));
    }
}
