//! Limits and measurements of version 1: one directory per mounted controller.

use rustix::io::Errno;
use std::os::fd::OwnedFd;

use crate::devices;
use crate::dir::Dir;
use crate::error::CgroupError;
use crate::hierarchy::Controller;
use crate::parse;
use crate::resources::{BlockIo, Cpu, Cpuset, HugetlbLimit, Memory, Network, RdmaLimit, Resources};
use crate::stats::{BlkioStats, CpuStats, HugetlbStats, MemoryStats, PidsStats, Stats, ThrottlingStats};

/// Gives the directory of a controller, made if need be; the text names the setting for the error.
pub(crate) type Branches<'a> = dyn Fn(Controller, &str) -> Result<std::sync::Arc<Dir>, CgroupError> + 'a;

/// Gives the directory of a controller if it exists.
pub(crate) type Existing<'a> = dyn Fn(Controller) -> Option<std::sync::Arc<Dir>> + 'a;

const LIMIT: &str = "memory.limit_in_bytes";
const LIMIT_WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

/// Writes everything but device rules.
pub(crate) fn apply_limits(branches: &Branches<'_>, resources: &Resources) -> Result<(), CgroupError> {
    refuse_unified(resources)?;
    apply_cpuset(branches, &resources.cpuset)?;
    apply_cpu(branches, resources.cpu)?;
    apply_memory(branches, resources.memory)?;
    apply_pids(branches, resources.pids_limit)?;
    apply_blkio(branches, &resources.io)?;
    apply_hugetlb(branches, &resources.hugetlb)?;
    apply_network(branches, &resources.network)?;
    if resources.rdma.is_empty() {
        return Ok(());
    }
    apply_rdma(&*branches(Controller::Rdma, "RDMA limits")?, &resources.rdma)
}

/// Writes the device rules in order.
pub(crate) fn apply_devices(branches: &Branches<'_>, resources: &Resources) -> Result<(), CgroupError> {
    if resources.devices.is_empty() {
        return Ok(());
    }
    let dir = branches(Controller::Devices, "device rules")?;
    // Each rule is a write of its own, but neighbours go to the same file.
    let mut open: Option<(&str, OwnedFd)> = None;
    for rule in &resources.devices {
        let (name, line) = devices::v1_line(rule);
        let file = match open.take().filter(|(known, _)| *known == name) {
            Some((_, file)) => file,
            None => dir.open_writable(name)?,
        };
        rustix::io::retry_on_intr(|| rustix::io::write(&file, line.as_bytes()))
            .map_err(|errno| dir.write_error(name, &line, errno))?;
        open = Some((name, file));
    }
    Ok(())
}

fn refuse_unified(resources: &Resources) -> Result<(), CgroupError> {
    match resources.unified.keys().next() {
        None => Ok(()),
        Some(name) => Err(CgroupError::InvalidValue {
            setting: format!("unified {name}"),
            reason: "invalid configuration, as this host uses cgroup version 1".to_owned(),
        }),
    }
}

/// Fills an empty cpuset from its parents, without which no process can join it.
pub(crate) fn ensure_cpuset(dir: &Dir, parent: &Dir) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let is_empty = dir.read(file)?.is_some_and(|text| text.trim().is_empty());
        let inherited = if is_empty { parent.read(file)? } else { None };
        if let Some(inherited) = inherited {
            dir.write(file, inherited.trim())?;
        }
    }
    Ok(())
}

fn apply_cpuset(branches: &Branches<'_>, cpuset: &Cpuset) -> Result<(), CgroupError> {
    for (file, value) in [("cpuset.cpus", &cpuset.cpus), ("cpuset.mems", &cpuset.mems)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            branches(Controller::Cpuset, file)?.write(file, value)?;
        }
    }
    Ok(())
}

/// The share of a period must be possible at each step: of two that shrink,
/// the runtime comes first.
fn apply_realtime(dir: &Dir, cpu: Cpu) -> Result<(), CgroupError> {
    let period = cpu.realtime_period_us.filter(|period| *period != 0);
    let runtime = cpu.realtime_runtime_us.filter(|runtime| *runtime != 0);
    let is_invalid = |error: &CgroupError| error.errno() == Some(rustix::io::Errno::INVAL.raw_os_error());
    match write_some(dir, "cpu.rt_period_us", period) {
        Err(error) if runtime.is_some() && is_invalid(&error) => {
            write_some(dir, "cpu.rt_runtime_us", runtime)?;
            write_some(dir, "cpu.rt_period_us", period)
        }
        other => other.and_then(|()| write_some(dir, "cpu.rt_runtime_us", runtime)),
    }
}

fn apply_cpu(branches: &Branches<'_>, cpu: Cpu) -> Result<(), CgroupError> {
    if cpu == Cpu::default() {
        return Ok(());
    }
    let dir = branches(Controller::Cpu, "cpu limits")?;
    write_some(&dir, "cpu.shares", cpu.shares.filter(|shares| *shares != 0))?;
    write_some(&dir, "cpu.idle", cpu.idle)?;
    apply_realtime(&dir, cpu)?;
    apply_bandwidth(&dir, cpu)
}

/// Quota, period and burst bound each other, so a write that is refused now may be valid after the
/// others: what fails with EINVAL is tried once more at the end.
fn apply_bandwidth(dir: &Dir, cpu: Cpu) -> Result<(), CgroupError> {
    let wanted = [
        (
            "cpu.cfs_period_us",
            cpu.period_us
                .filter(|period| *period != 0)
                .map(|period| period.to_string()),
        ),
        (
            "cpu.cfs_quota_us",
            cpu.quota_us.filter(|quota| *quota != 0).map(|quota| quota.to_string()),
        ),
        ("cpu.cfs_burst_us", cpu.burst_us.map(|burst| burst.to_string())),
    ];
    let mut again = Vec::new();
    for (file, value) in wanted
        .iter()
        .filter_map(|(file, value)| Some((*file, value.as_deref()?)))
    {
        match dir.try_write(file, value) {
            Ok(()) => {}
            Err(Errno::INVAL) => again.push((file, value)),
            Err(errno) => return Err(dir.write_error(file, value, errno)),
        }
    }
    again.into_iter().try_for_each(|(file, value)| dir.write(file, value))
}

fn apply_memory(branches: &Branches<'_>, memory: Memory) -> Result<(), CgroupError> {
    if memory == Memory::default() {
        return Ok(());
    }
    let dir = branches(Controller::Memory, "memory limits")?;
    if memory.check_before_update == Some(true) {
        refuse_limit_below_usage(&dir, memory.limit, "memory.usage_in_bytes")?;
    }
    apply_memory_and_swap(&dir, memory)?;
    write_some(
        &dir,
        "memory.soft_limit_in_bytes",
        memory.reservation.filter(|value| *value != 0),
    )?;
    write_some(
        &dir,
        "memory.kmem.tcp.limit_in_bytes",
        memory.kernel_tcp.filter(|value| *value != 0),
    )?;
    if let Some(swappiness) = memory.swappiness {
        check_swappiness(swappiness)?;
        dir.write("memory.swappiness", &swappiness.to_string())?;
    }
    if let Some(disable) = memory.disable_oom_killer {
        dir.write("memory.oom_control", if disable { "1" } else { "0" })?;
    }
    Ok(())
}

/// ORDER: the kernel holds `limit <= limit with swap` at every step, so a limit that goes beyond
/// the present bound waits until the bound has been raised.
fn apply_memory_and_swap(dir: &Dir, memory: Memory) -> Result<(), CgroupError> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    let mut swap = memory.swap.filter(|swap| *swap != 0);
    if limit == Some(-1) && swap.is_none() && dir.has(LIMIT_WITH_SWAP) {
        swap = Some(-1);
    }
    let (limit_text, swap_text) = (
        limit.map(|value| value.to_string()),
        swap.map(|value| value.to_string()),
    );
    let mut writes = [(LIMIT, limit_text), (LIMIT_WITH_SWAP, swap_text)];
    if let (Some(limit), Some(_)) = (limit, swap) {
        let bound = dir
            .read(LIMIT_WITH_SWAP)?
            .as_deref()
            .and_then(parse::parse_v1_limit)
            .unwrap_or(u64::MAX);
        if u64::try_from(limit).unwrap_or(u64::MAX) > bound {
            writes.reverse();
        }
    }
    for (file, value) in writes
        .iter()
        .filter_map(|(file, value)| Some((*file, value.as_deref()?)))
    {
        dir.try_write(file, value)
            .map_err(|errno| memory_error(dir, file, value, errno))?;
    }
    Ok(())
}

/// Says how much is in use when the kernel could not get below the limit.
fn memory_error(dir: &Dir, file: &str, value: &str, errno: Errno) -> CgroupError {
    let missing_swap = errno == Errno::NOENT && file == LIMIT_WITH_SWAP;
    if missing_swap {
        return CgroupError::MissingController {
            controller: "memory (swap accounting)".to_owned(),
            setting: "a limit on memory plus swap".to_owned(),
        };
    }
    let usage = dir
        .read("memory.usage_in_bytes")
        .ok()
        .flatten()
        .and_then(|text| parse::parse_number(&text));
    match (errno, usage) {
        (Errno::BUSY, Some(usage)) => CgroupError::InvalidValue {
            setting: file.to_owned(),
            reason: format!("cannot go down to {value}: {usage} bytes are in use"),
        },
        _ => dir.write_error(file, value, errno),
    }
}

/// Refuses a limit that would make the kernel kill at once.
pub(crate) fn refuse_limit_below_usage(dir: &Dir, limit: Option<i64>, file: &str) -> Result<(), CgroupError> {
    let limit = limit
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit != 0);
    let usage = dir.read(file)?.as_deref().and_then(parse::parse_number);
    match (limit, usage) {
        (Some(limit), Some(usage)) if usage > limit => Err(CgroupError::InvalidValue {
            setting: "memory limit".to_owned(),
            reason: format!("{limit} is below the {usage} bytes in use"),
        }),
        _ => Ok(()),
    }
}

fn check_swappiness(swappiness: u64) -> Result<(), CgroupError> {
    if swappiness <= 100 {
        return Ok(());
    }
    Err(CgroupError::InvalidValue {
        setting: "memory swappiness".to_owned(),
        reason: format!("{swappiness} is not between 0 and 100"),
    })
}

fn apply_pids(branches: &Branches<'_>, limit: Option<i64>) -> Result<(), CgroupError> {
    match limit {
        None => Ok(()),
        Some(limit) => branches(Controller::Pids, "pids limit")?.write("pids.max", &pids_text(limit)),
    }
}

/// The limit as both versions spell it.
pub(crate) fn pids_text(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

fn apply_blkio(branches: &Branches<'_>, io: &BlockIo) -> Result<(), CgroupError> {
    if *io == BlockIo::default() {
        return Ok(());
    }
    let dir = branches(Controller::Blkio, "block device limits")?;
    apply_blkio_weights(&dir, io)?;
    let throttles = [
        ("blkio.throttle.read_bps_device", &io.throttle_read_bps),
        ("blkio.throttle.write_bps_device", &io.throttle_write_bps),
        ("blkio.throttle.read_iops_device", &io.throttle_read_iops),
        ("blkio.throttle.write_iops_device", &io.throttle_write_iops),
    ];
    for (file, devices) in throttles {
        for device in devices {
            dir.write(file, &format!("{}:{} {}", device.major, device.minor, device.rate))?;
        }
    }
    Ok(())
}

fn apply_blkio_weights(dir: &Dir, io: &BlockIo) -> Result<(), CgroupError> {
    let name = |plain: &'static str, bfq: &'static str| if dir.has(bfq) { bfq } else { plain };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        write_weight(dir, name("blkio.weight", "blkio.bfq.weight"), &weight.to_string())?;
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        write_weight(dir, "blkio.leaf_weight", &weight.to_string())?;
    }
    for device in &io.weight_devices {
        if let Some(weight) = device.weight {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            write_weight(dir, name("blkio.weight_device", "blkio.bfq.weight_device"), &line)?;
        }
        if let Some(weight) = device.leaf_weight {
            write_weight(
                dir,
                "blkio.leaf_weight_device",
                &format!("{}:{} {weight}", device.major, device.minor),
            )?;
        }
    }
    Ok(())
}

/// Weights need an I/O scheduler that knows them; without one the file is missing.
fn write_weight(dir: &Dir, file: &str, value: &str) -> Result<(), CgroupError> {
    dir.try_write(file, value).map_err(|errno| match errno {
        Errno::NOENT => CgroupError::MissingController {
            controller: "blkio (weights)".to_owned(),
            setting: file.to_owned(),
        },
        errno => dir.write_error(file, value, errno),
    })
}

fn apply_hugetlb(branches: &Branches<'_>, limits: &[HugetlbLimit]) -> Result<(), CgroupError> {
    for limit in limits {
        let file = hugetlb_file(&limit.page_size, "limit_in_bytes")?;
        let dir = branches(Controller::Hugetlb, &file)?;
        dir.write(&file, &limit.limit.to_string())?;
        write_reserved(
            &dir,
            &hugetlb_file(&limit.page_size, "rsvd.limit_in_bytes")?,
            limit.limit,
        )?;
    }
    Ok(())
}

/// KERNEL(5.7): reservations are limited too, lest a fault be the first to fail.
pub(crate) fn write_reserved(dir: &Dir, file: &str, limit: u64) -> Result<(), CgroupError> {
    if dir.has(file) {
        dir.write(file, &limit.to_string())?;
    }
    Ok(())
}

/// One line per device, of the same form on both versions.
pub(crate) fn apply_rdma(dir: &Dir, limits: &std::collections::BTreeMap<String, RdmaLimit>) -> Result<(), CgroupError> {
    for (device, limit) in limits {
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(CgroupError::InvalidValue {
                setting: "RDMA device".to_owned(),
                reason: format!("{device:?} is not a name"),
            });
        }
        let handles = limit.handles.map(|count| format!(" hca_handle={count}"));
        let objects = limit.objects.map(|count| format!(" hca_object={count}"));
        let line = format!("{device}{}{}", handles.unwrap_or_default(), objects.unwrap_or_default());
        dir.try_write("rdma.max", &line).map_err(|errno| match errno {
            Errno::NOENT => CgroupError::MissingController {
                controller: "rdma".to_owned(),
                setting: "rdma.max".to_owned(),
            },
            errno => dir.write_error("rdma.max", &line, errno),
        })?;
    }
    Ok(())
}

/// SECURITY: the page size becomes part of a file name.
pub(crate) fn hugetlb_file(page_size: &str, what: &str) -> Result<String, CgroupError> {
    if page_size.is_empty() || !page_size.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return Err(CgroupError::InvalidValue {
            setting: "huge page size".to_owned(),
            reason: format!("{page_size:?} is not a size such as 2MB"),
        });
    }
    Ok(format!("hugetlb.{page_size}.{what}"))
}

fn apply_network(branches: &Branches<'_>, network: &Network) -> Result<(), CgroupError> {
    if let Some(class) = network.class_id.filter(|class| *class != 0) {
        branches(Controller::NetCls, "network class")?.write("net_cls.classid", &class.to_string())?;
    }
    for (interface, priority) in &network.priorities {
        branches(Controller::NetPrio, "network priorities")?
            .write("net_prio.ifpriomap", &format!("{interface} {priority}"))?;
    }
    Ok(())
}

fn write_some(dir: &Dir, file: &str, value: Option<impl ToString>) -> Result<(), CgroupError> {
    value.map_or(Ok(()), |value| dir.write(file, &value.to_string()))
}

/// Measures every controller that is there.
pub(crate) fn read_stats(existing: &Existing<'_>) -> Result<Stats, CgroupError> {
    let mut stats = Stats::default();
    if let Some(dir) = existing(Controller::Cpuacct) {
        stats.cpu = read_cpuacct(&dir)?;
    }
    if let Some(dir) = existing(Controller::Cpu) {
        stats.cpu.throttling = read_throttling(&dir)?;
    }
    if let Some(dir) = existing(Controller::Memory) {
        stats.memory = read_memory(&dir)?;
    }
    if let Some(dir) = existing(Controller::Pids) {
        stats.pids = read_pids(&dir)?;
    }
    if let Some(dir) = existing(Controller::Blkio) {
        stats.blkio = read_blkio(&dir)?;
    }
    if let Some(dir) = existing(Controller::Hugetlb) {
        stats.hugetlb = read_hugetlb(&dir, "usage_in_bytes", "max_usage_in_bytes")?;
    }
    Ok(stats)
}

fn read_cpuacct(dir: &Dir) -> Result<CpuStats, CgroupError> {
    let mut cpu = CpuStats {
        total_ns: number(dir, "cpuacct.usage")?,
        ..CpuStats::default()
    };
    match dir.read("cpuacct.usage_all")? {
        Some(text) => {
            let rows = parse::parse_usage_all(&text);
            cpu.percpu_ns = rows.iter().map(|(user, system)| user + system).collect();
            cpu.user_ns = rows.iter().map(|(user, _)| user).sum();
            cpu.system_ns = rows.iter().map(|(_, system)| system).sum();
        }
        // KERNEL(4.8): before, only ticks are split by mode.
        None => {
            let ticks = dir.read("cpuacct.stat")?.unwrap_or_default();
            let nanoseconds = |key| parse::parse_keyed(&ticks, key).unwrap_or(0).saturating_mul(10_000_000);
            (cpu.user_ns, cpu.system_ns) = (nanoseconds("user"), nanoseconds("system"));
            cpu.percpu_ns = parse::parse_list(&dir.read("cpuacct.usage_percpu")?.unwrap_or_default());
        }
    }
    Ok(cpu)
}

fn read_throttling(dir: &Dir) -> Result<ThrottlingStats, CgroupError> {
    let text = dir.read("cpu.stat")?.unwrap_or_default();
    let field = |key| parse::parse_keyed(&text, key).unwrap_or(0);
    Ok(ThrottlingStats {
        periods: field("nr_periods"),
        throttled_periods: field("nr_throttled"),
        throttled_ns: field("throttled_time"),
    })
}

fn read_memory(dir: &Dir) -> Result<MemoryStats, CgroupError> {
    let usage = number(dir, "memory.usage_in_bytes")?;
    let with_swap = dir
        .read("memory.memsw.usage_in_bytes")?
        .as_deref()
        .and_then(parse::parse_number);
    Ok(MemoryStats {
        usage,
        max_usage: number(dir, "memory.max_usage_in_bytes")?,
        limit: dir
            .read(LIMIT)?
            .as_deref()
            .and_then(parse::parse_v1_limit)
            .unwrap_or(u64::MAX),
        failcnt: number(dir, "memory.failcnt")?,
        swap_usage: with_swap.unwrap_or(usage).saturating_sub(usage),
        stat: parse::parse_flat_keyed(&dir.read("memory.stat")?.unwrap_or_default()),
        oom_kills: read_oom_kills(dir)?,
    })
}

/// KERNEL(4.13): older kernels do not count.
pub(crate) fn read_oom_kills(memory: &Dir) -> Result<u64, CgroupError> {
    let text = memory.read("memory.oom_control")?.unwrap_or_default();
    Ok(parse::parse_keyed(&text, "oom_kill").unwrap_or(0))
}

/// The files have the same names on both versions.
pub(crate) fn read_pids(dir: &Dir) -> Result<PidsStats, CgroupError> {
    let limit = dir.read("pids.max")?.as_deref().and_then(parse::parse_number);
    Ok(PidsStats {
        current: number(dir, "pids.current")?,
        limit: limit.filter(|limit| *limit != u64::MAX),
    })
}

/// Throttling counts every request; the scheduler's own counters are the second choice.
fn read_blkio(dir: &Dir) -> Result<BlkioStats, CgroupError> {
    let read = |name: &str| -> Result<_, CgroupError> {
        let first = dir.read(&format!("blkio.throttle.{name}_recursive"))?;
        let text = match first {
            Some(text) => Some(text),
            None => dir.read(&format!("blkio.bfq.{name}_recursive"))?,
        };
        Ok(parse::parse_v1_blkio(&text.unwrap_or_default()))
    };
    Ok(BlkioStats {
        io_service_bytes: read("io_service_bytes")?,
        io_serviced: read("io_serviced")?,
        ..BlkioStats::default()
    })
}

/// Every page size that has files here.
pub(crate) fn read_hugetlb(
    dir: &Dir,
    usage: &str,
    max_usage: &str,
) -> Result<std::collections::BTreeMap<String, HugetlbStats>, CgroupError> {
    let mut found = std::collections::BTreeMap::new();
    for page_size in page_sizes() {
        let file = |what: &str| format!("hugetlb.{page_size}.{what}");
        if dir.has(&file(usage)) {
            let stats = HugetlbStats {
                usage: number(dir, &file(usage))?,
                max_usage: number(dir, &file(max_usage))?,
                failcnt: number(dir, &file("failcnt"))?,
            };
            found.insert(page_size, stats);
        }
    }
    Ok(found)
}

/// Huge page sizes of the host in the kernel's cgroup spelling.
fn page_sizes() -> Vec<String> {
    let spell = |kib: u64| match kib {
        kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
        kib => format!("{kib}KB"),
    };
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?
                .strip_suffix("kB")?
                .parse()
                .ok()
                .map(spell)
        })
        .collect()
}

/// A number that is 0 where the kernel has no such file.
pub(crate) fn number(dir: &Dir, file: &str) -> Result<u64, CgroupError> {
    Ok(dir.read(file)?.as_deref().and_then(parse::parse_number).unwrap_or(0))
}
