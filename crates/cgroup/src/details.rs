//! Further measurements, which only the OCI `events` command shows: what each controller says of itself beyond
//! [`crate::Stats`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dir::Dir;
use crate::error::CgroupError;
use crate::hierarchy::Controller;
use crate::parse;
use crate::v1::{self, Existing};

/// Figures beyond [`crate::Stats`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Nanoseconds in user mode per processor; empty on v2.
    pub percpu_user_ns: Vec<u64>,
    /// Nanoseconds in kernel mode per processor; empty on v2.
    pub percpu_kernel_ns: Vec<u64>,
    /// Processors and memory nodes.
    pub cpuset: CpusetStats,
    /// Memory and swap together, on both versions.
    pub swap: MemoryCounter,
    /// Kernel memory (v1).
    pub kernel: MemoryCounter,
    /// Kernel TCP buffers (v1).
    pub kernel_tcp: MemoryCounter,
    /// RDMA devices by name.
    pub rdma: BTreeMap<String, RdmaStats>,
    /// Time lost waiting for processors; none on v1.
    pub cpu_pressure: Option<Pressure>,
    /// Time lost waiting for memory; none on v1.
    pub memory_pressure: Option<Pressure>,
    /// Time lost waiting for block devices; none on v1.
    pub io_pressure: Option<Pressure>,
}

/// The cpuset controller; flags and the rest are 0 on v2, which has none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpusetStats {
    /// Processors in use.
    pub cpus: Vec<u16>,
    /// Memory nodes in use.
    pub mems: Vec<u16>,
    /// The single numbers, by file name without `cpuset.`.
    pub numbers: BTreeMap<String, i64>,
}

/// One counter of memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryCounter {
    /// Present usage.
    pub usage: u64,
    /// Highest usage seen.
    pub max_usage: u64,
    /// Limit; `u64::MAX` when unlimited.
    pub limit: u64,
    /// Times the limit was hit.
    pub failcnt: u64,
}

/// One RDMA device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RdmaStats {
    /// Handles in use.
    pub handles: u64,
    /// Objects in use.
    pub objects: u64,
    /// Most handles; `u64::MAX` when unlimited.
    pub handles_limit: u64,
    /// Most objects; `u64::MAX` when unlimited.
    pub objects_limit: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some task waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// Shares of time in percent, and the total in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Over the last 10 seconds.
    pub avg10: f64,
    /// Over the last minute.
    pub avg60: f64,
    /// Over the last 5 minutes.
    pub avg300: f64,
    /// Microseconds since the beginning.
    pub total: u64,
}

/// Single numbers of the v1 cpuset controller.
const CPUSET_NUMBERS: [&str; 9] = [
    "cpu_exclusive",
    "mem_exclusive",
    "mem_hardwall",
    "memory_migrate",
    "memory_pressure",
    "memory_spread_page",
    "memory_spread_slab",
    "sched_load_balance",
    "sched_relax_domain_level",
];

/// Reads them on version 1.
pub(crate) fn read_v1(existing: &Existing<'_>) -> Result<Details, CgroupError> {
    let mut details = Details::default();
    if let Some(dir) = existing(Controller::Cpuacct) {
        let rows = parse::parse_usage_all(&dir.read("cpuacct.usage_all")?.unwrap_or_default());
        (details.percpu_user_ns, details.percpu_kernel_ns) = rows.into_iter().unzip();
    }
    if let Some(dir) = existing(Controller::Cpuset) {
        details.cpuset = read_cpuset(&dir)?;
    }
    if let Some(dir) = existing(Controller::Memory) {
        details.swap = read_counter(&dir, "memory.memsw")?;
        details.kernel = read_counter(&dir, "memory.kmem")?;
        details.kernel_tcp = read_counter(&dir, "memory.kmem.tcp")?;
    }
    if let Some(dir) = existing(Controller::Rdma) {
        details.rdma = read_rdma(&dir)?;
    }
    Ok(details)
}

/// Reads them on version 2.
pub(crate) fn read_v2(dir: &Dir) -> Result<Details, CgroupError> {
    let memory = v1::number(dir, "memory.current")?;
    let limit_of = |file: &str| -> Result<u64, CgroupError> {
        Ok(dir
            .read(file)?
            .as_deref()
            .and_then(parse::parse_number)
            .unwrap_or(u64::MAX))
    };
    let events = dir.read("memory.swap.events")?.unwrap_or_default();
    Ok(Details {
        cpuset: CpusetStats {
            cpus: parse_ids(&dir.read("cpuset.cpus.effective")?.unwrap_or_default()),
            mems: parse_ids(&dir.read("cpuset.mems.effective")?.unwrap_or_default()),
            numbers: BTreeMap::new(),
        },
        // COMPAT: swap alone is what the kernel counts; callers of both versions expect the sum.
        swap: MemoryCounter {
            usage: memory.saturating_add(v1::number(dir, "memory.swap.current")?),
            max_usage: v1::number(dir, "memory.swap.peak")?,
            limit: limit_of("memory.max")?.saturating_add(limit_of("memory.swap.max")?),
            failcnt: parse::parse_keyed(&events, "fail").unwrap_or(0),
        },
        rdma: read_rdma(dir)?,
        cpu_pressure: read_pressure(dir, "cpu.pressure")?,
        memory_pressure: read_pressure(dir, "memory.pressure")?,
        io_pressure: read_pressure(dir, "io.pressure")?,
        ..Details::default()
    })
}

fn read_cpuset(dir: &Dir) -> Result<CpusetStats, CgroupError> {
    let mut stats = CpusetStats {
        cpus: parse_ids(&dir.read("cpuset.cpus")?.unwrap_or_default()),
        mems: parse_ids(&dir.read("cpuset.mems")?.unwrap_or_default()),
        numbers: BTreeMap::new(),
    };
    for name in CPUSET_NUMBERS {
        let text = dir.read(&format!("cpuset.{name}"))?;
        let number = text.and_then(|text| text.trim().parse().ok());
        stats.numbers.extend(number.map(|number| (name.to_owned(), number)));
    }
    Ok(stats)
}

fn read_counter(dir: &Dir, prefix: &str) -> Result<MemoryCounter, CgroupError> {
    let Some(usage) = dir.read(&format!("{prefix}.usage_in_bytes"))? else {
        return Ok(MemoryCounter::default());
    };
    let limit = dir.read(&format!("{prefix}.limit_in_bytes"))?;
    Ok(MemoryCounter {
        usage: parse::parse_number(&usage).unwrap_or(0),
        max_usage: v1::number(dir, &format!("{prefix}.max_usage_in_bytes"))?,
        limit: limit.as_deref().and_then(parse::parse_v1_limit).unwrap_or(u64::MAX),
        failcnt: v1::number(dir, &format!("{prefix}.failcnt"))?,
    })
}

/// The files have the same names on both versions.
fn read_rdma(dir: &Dir) -> Result<BTreeMap<String, RdmaStats>, CgroupError> {
    let mut devices: BTreeMap<String, RdmaStats> = BTreeMap::new();
    let (current, limits) = (dir.read("rdma.current")?, dir.read("rdma.max")?);
    for (name, handles, objects) in parse_rdma(&current.unwrap_or_default()) {
        let device = devices.entry(name).or_default();
        (device.handles, device.objects) = (handles, objects);
    }
    for (name, handles, objects) in parse_rdma(&limits.unwrap_or_default()) {
        let device = devices.entry(name).or_default();
        (device.handles_limit, device.objects_limit) = (handles, objects);
    }
    Ok(devices)
}

/// Lines of `mlx4_0 hca_handle=2 hca_object=max`.
fn parse_rdma(text: &str) -> Vec<(String, u64, u64)> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let (mut handles, mut objects) = (0, 0);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "hca_handle" => handles = parse::parse_number(value)?,
                "hca_object" => objects = parse::parse_number(value)?,
                _ => {}
            }
        }
        Some((name, handles, objects))
    };
    text.lines().filter_map(row).collect()
}

fn read_pressure(dir: &Dir, file: &str) -> Result<Option<Pressure>, CgroupError> {
    Ok(dir.read(file)?.map(|text| parse_pressure(&text)))
}

fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let stall = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().unwrap_or_default(),
                "avg60" => stall.avg60 = value.parse().unwrap_or_default(),
                "avg300" => stall.avg300 = value.parse().unwrap_or_default(),
                "total" => stall.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    pressure
}

/// A list such as `0-3,7` as numbers.
pub(crate) fn parse_ids(text: &str) -> Vec<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_devices_and_pressure_are_parsed() {
        assert_eq!(parse_ids("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parse_ids("\n"), [0u16; 0]);
        assert_eq!(
            parse_rdma("mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n"),
            [("mlx4_0".to_owned(), 2, 2000), ("ocrdma1".to_owned(), 3, u64::MAX)]
        );
        let pressure = parse_pressure(
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
        );
        assert_eq!(
            (pressure.some.avg10, pressure.some.total, pressure.full.total),
            (1.5, 77, 5)
        );
    }

    #[test]
    fn version_2_reports_swap_with_memory() {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("memory.current", "100\n"),
            ("memory.swap.current", "20\n"),
            ("memory.max", "1000\n"),
            ("memory.swap.max", "500\n"),
            ("cpuset.cpus.effective", "0-1\n"),
            ("rdma.current", "mlx5_0 hca_handle=1 hca_object=2\n"),
            ("rdma.max", "mlx5_0 hca_handle=max hca_object=9\n"),
        ] {
            std::fs::write(root.path().join(name), text).expect("a file");
        }
        let dir = Dir::open(root.path().to_path_buf()).expect("open").expect("there");
        let details = read_v2(&dir).expect("details");
        assert_eq!((details.swap.usage, details.swap.limit), (120, 1500));
        assert_eq!(details.cpuset.cpus, [0, 1]);
        let rdma = details.rdma["mlx5_0"];
        assert_eq!((rdma.handles, rdma.objects, rdma.objects_limit), (1, 2, 9));
        assert_eq!(rdma.handles_limit, u64::MAX);
        assert!(details.cpu_pressure.is_none());
    }
}
