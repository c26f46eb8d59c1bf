//! Limits and measurements of version 2: one directory with the files of every controller.

use rustix::io::Errno;

use crate::devices;
use crate::dir::Dir;
use crate::error::CgroupError;
use crate::parse;
use crate::resources::{BlockIo, Cpu, Cpuset, HugetlbLimit, Memory, Network, Resources};
use crate::stats::{BlkioStats, CpuStats, MemoryStats, Stats, ThrottlingStats};
use crate::v1;

/// Writes everything but device rules.
pub(crate) fn apply_limits(dir: &Dir, resources: &Resources) -> Result<(), CgroupError> {
    refuse_v1_only(resources)?;
    apply_cpuset(dir, &resources.cpuset)?;
    apply_cpu(dir, resources.cpu)?;
    apply_memory(dir, resources.memory)?;
    if let Some(limit) = resources.pids_limit {
        write(dir, "pids", "pids.max", &v1::pids_text(limit))?;
    }
    apply_io(dir, &resources.io)?;
    apply_hugetlb(dir, &resources.hugetlb)?;
    v1::apply_rdma(dir, &resources.rdma)?;
    for (file, value) in &resources.unified {
        apply_unified(dir, file, value)?;
    }
    Ok(())
}

/// Puts a filter for the rules in place of the present ones; the new one works before the old go.
pub(crate) fn apply_devices(dir: &Dir, resources: &Resources) -> Result<(), CgroupError> {
    if resources.devices.is_empty() {
        return Ok(());
    }
    let failed = |action| {
        move |errno: Errno| CgroupError::DeviceFilter {
            action,
            path: dir.path().to_path_buf(),
            source: errno.into(),
        }
    };
    let program =
        wharf_sys::bpf::load_device_filter(&devices::v2_program(&resources.devices)).map_err(failed("load"))?;
    let before = wharf_sys::bpf::attached_device_filters(dir.fd()).map_err(failed("list"))?;
    use std::os::fd::AsFd as _;
    wharf_sys::bpf::attach_device_filter(dir.fd(), program.as_fd()).map_err(failed("attach"))?;
    for old in before {
        wharf_sys::bpf::detach_device_filter(dir.fd(), old.as_fd()).map_err(failed("replace"))?;
    }
    Ok(())
}

fn refuse_v1_only(resources: &Resources) -> Result<(), CgroupError> {
    let memory = resources.memory;
    let cpu = resources.cpu;
    let asked = [
        (memory.swappiness.is_some(), "memory swappiness"),
        (
            memory.disable_oom_killer == Some(true),
            "disabling the out-of-memory killer",
        ),
        (
            memory.kernel_tcp.is_some_and(|value| value != 0),
            "kernel TCP memory limit",
        ),
        (
            cpu.realtime_runtime_us.is_some_and(|value| value != 0),
            "real-time runtime",
        ),
        (
            cpu.realtime_period_us.is_some_and(|value| value != 0),
            "real-time period",
        ),
        (resources.network != Network::default(), "network class and priorities"),
        (
            resources.io.leaf_weight.is_some_and(|value| value != 0),
            "block device leaf weight",
        ),
    ];
    match asked.into_iter().find(|(is_asked, _)| *is_asked) {
        None => Ok(()),
        Some((_, setting)) => Err(CgroupError::InvalidValue {
            setting: setting.to_owned(),
            reason: "cgroup version 2 has no such limit".to_owned(),
        }),
    }
}

fn apply_cpuset(dir: &Dir, cpuset: &Cpuset) -> Result<(), CgroupError> {
    for (file, value) in [("cpuset.cpus", &cpuset.cpus), ("cpuset.mems", &cpuset.mems)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            write(dir, "cpuset", file, value)?;
        }
    }
    Ok(())
}

fn apply_cpu(dir: &Dir, cpu: Cpu) -> Result<(), CgroupError> {
    if let Some(idle) = cpu.idle {
        write(dir, "cpu", "cpu.idle", &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        write(dir, "cpu", "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    let (quota, period) = (
        cpu.quota_us.filter(|quota| *quota != 0),
        cpu.period_us.filter(|period| *period != 0),
    );
    if quota.is_some() || period.is_some() {
        let present = dir.read("cpu.max")?.as_deref().and_then(parse::parse_cpu_max);
        write(dir, "cpu", "cpu.max", &bandwidth_text(present, quota, period))?;
    }
    if let Some(burst) = cpu.burst_us {
        write(dir, "cpu", "cpu.max.burst", &burst.to_string())?;
    }
    Ok(())
}

/// The new `cpu.max`; what is not given stays.
fn bandwidth_text(present: Option<(Option<u64>, u64)>, quota: Option<i64>, period: Option<u64>) -> String {
    let (old_quota, old_period) = present.unwrap_or((None, 100_000));
    let quota = match quota {
        Some(quota) => u64::try_from(quota).ok(),
        None => old_quota,
    };
    let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
    format!("{quota} {}", period.unwrap_or(old_period))
}

/// Maps shares to a weight so that the two ends and the default (1024 to 100) meet: the curve that
/// runtimes agreed on in 2025, a parabola in logarithms.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

fn apply_memory(dir: &Dir, memory: Memory) -> Result<(), CgroupError> {
    if memory == Memory::default() {
        return Ok(());
    }
    if memory.check_before_update == Some(true) {
        v1::refuse_limit_below_usage(dir, memory.limit, "memory.current")?;
    }
    let limit = match memory.limit.filter(|limit| *limit != 0) {
        None => dir
            .read("memory.max")?
            .as_deref()
            .and_then(parse::parse_number)
            .unwrap_or(u64::MAX),
        Some(limit) => u64::try_from(limit).unwrap_or(u64::MAX),
    };
    let swap = swap_only(limit, memory)?;
    if let Some(swap) = swap {
        write(dir, "memory (swap)", "memory.swap.max", &limit_text(swap))?;
    }
    if memory.limit.is_some_and(|limit| limit != 0) {
        write(dir, "memory", "memory.max", &limit_text(limit))?;
    }
    if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
        let reservation = u64::try_from(reservation).unwrap_or(u64::MAX);
        write(dir, "memory", "memory.low", &limit_text(reservation))?;
    }
    Ok(())
}

/// v2 limits swap by itself; what is asked for is memory plus swap.
pub(crate) fn swap_only(limit: u64, memory: Memory) -> Result<Option<u64>, CgroupError> {
    let swap = match memory.swap.filter(|swap| *swap != 0) {
        None if memory.limit == Some(-1) => return Ok(Some(u64::MAX)),
        None => return Ok(None),
        Some(swap) => swap,
    };
    let invalid = |reason: String| CgroupError::InvalidValue {
        setting: "memory plus swap limit".to_owned(),
        reason,
    };
    match u64::try_from(swap) {
        Err(_) => Ok(Some(u64::MAX)),
        Ok(_) if limit == u64::MAX => Err(invalid(
            "a limit on memory plus swap needs a limit on memory".to_owned(),
        )),
        Ok(swap) if swap < limit => Err(invalid(format!("{swap} is below the memory limit of {limit}"))),
        Ok(swap) => Ok(Some(swap - limit)),
    }
}

fn limit_text(limit: u64) -> String {
    if limit == u64::MAX {
        "max".to_owned()
    } else {
        limit.to_string()
    }
}

fn apply_io(dir: &Dir, io: &BlockIo) -> Result<(), CgroupError> {
    let has_bfq = dir.has("io.bfq.weight");
    let (file, scale): (_, fn(u16) -> u64) = if has_bfq {
        ("io.bfq.weight", u64::from)
    } else {
        ("io.weight", io_weight)
    };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        write(dir, "io (weights)", file, &format!("default {}", scale(weight)))?;
    }
    for device in &io.weight_devices {
        if let Some(weight) = device.weight {
            write(
                dir,
                "io (weights)",
                file,
                &format!("{}:{} {}", device.major, device.minor, scale(weight)),
            )?;
        }
    }
    let throttles = [
        ("rbps", &io.throttle_read_bps),
        ("wbps", &io.throttle_write_bps),
        ("riops", &io.throttle_read_iops),
        ("wiops", &io.throttle_write_iops),
    ];
    for (key, devices) in throttles {
        for device in devices {
            let rate = if device.rate == 0 { u64::MAX } else { device.rate };
            let line = format!("{}:{} {key}={}", device.major, device.minor, limit_text(rate));
            write(dir, "io", "io.max", &line)?;
        }
    }
    Ok(())
}

/// Maps 10..=1000 to 1..=10000.
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

fn apply_hugetlb(dir: &Dir, limits: &[HugetlbLimit]) -> Result<(), CgroupError> {
    for limit in limits {
        write(
            dir,
            "hugetlb",
            &v1::hugetlb_file(&limit.page_size, "max")?,
            &limit.limit.to_string(),
        )?;
        v1::write_reserved(dir, &v1::hugetlb_file(&limit.page_size, "rsvd.max")?, limit.limit)?;
    }
    Ok(())
}

/// SECURITY: the name comes from the configuration and must stay in this directory.
fn apply_unified(dir: &Dir, file: &str, value: &str) -> Result<(), CgroupError> {
    let invalid = |reason: &str| CgroupError::InvalidValue {
        setting: format!("unified {file:?}"),
        reason: reason.to_owned(),
    };
    if file.contains('/') || !file.contains('.') || file.starts_with('.') {
        return Err(invalid("not a file of a cgroup"));
    }
    if file.starts_with("cgroup.") {
        return Err(invalid("the engine's own"));
    }
    let controller = file.split('.').next().unwrap_or(file);
    value.lines().try_for_each(|line| write(dir, controller, file, line))
}

/// A missing file means that the controller is not enabled here.
fn write(dir: &Dir, controller: &str, file: &str, value: &str) -> Result<(), CgroupError> {
    dir.try_write(file, value).map_err(|errno| match errno {
        Errno::NOENT => missing(dir, controller, file),
        errno => dir.write_error(file, value, errno),
    })
}

/// Why a file is not there: often because of processes in the group above.
fn missing(dir: &Dir, controller: &str, file: &str) -> CgroupError {
    let name = controller.split(' ').next().unwrap_or(controller);
    let parent = dir.path().parent().and_then(|path| Dir::open(path.to_path_buf()).ok()?);
    let is_refused = parent.as_ref().is_some_and(|parent| {
        let listed = parent.read("cgroup.controllers").ok().flatten().unwrap_or_default();
        let is_there = listed.split_whitespace().any(|each| each == name);
        is_there && parent.has("cgroup.type") && holds_processes(parent).unwrap_or(false)
    });
    match parent.filter(|_| is_refused) {
        Some(parent) => CgroupError::Populated {
            controller: name.to_owned(),
            path: parent.path().to_path_buf(),
        },
        None => CgroupError::MissingController {
            controller: controller.to_owned(),
            setting: file.to_owned(),
        },
    }
}

/// Whether processes are in the group itself.
pub(crate) fn holds_processes(dir: &Dir) -> Result<bool, CgroupError> {
    Ok(dir.read("cgroup.procs")?.is_some_and(|text| !text.trim().is_empty()))
}

/// Measures everything that has files here.
pub(crate) fn read_stats(dir: &Dir) -> Result<Stats, CgroupError> {
    let (io_service_bytes, io_serviced) = parse::parse_io_stat(&dir.read("io.stat")?.unwrap_or_default());
    Ok(Stats {
        cpu: read_cpu(dir)?,
        memory: read_memory(dir)?,
        pids: v1::read_pids(dir)?,
        blkio: BlkioStats {
            io_service_bytes,
            io_serviced,
            ..BlkioStats::default()
        },
        hugetlb: v1::read_hugetlb(dir, "current", "max_usage")?,
    })
}

fn read_cpu(dir: &Dir) -> Result<CpuStats, CgroupError> {
    let text = dir.read("cpu.stat")?.unwrap_or_default();
    let field = |key| parse::parse_keyed(&text, key).unwrap_or(0);
    let nanoseconds = |key| field(key).saturating_mul(1000);
    Ok(CpuStats {
        total_ns: nanoseconds("usage_usec"),
        percpu_ns: Vec::new(),
        user_ns: nanoseconds("user_usec"),
        system_ns: nanoseconds("system_usec"),
        throttling: ThrottlingStats {
            periods: field("nr_periods"),
            throttled_periods: field("nr_throttled"),
            throttled_ns: nanoseconds("throttled_usec"),
        },
    })
}

fn read_memory(dir: &Dir) -> Result<MemoryStats, CgroupError> {
    let events = dir.read("memory.events")?.unwrap_or_default();
    Ok(MemoryStats {
        usage: v1::number(dir, "memory.current")?,
        max_usage: v1::number(dir, "memory.peak")?,
        limit: dir
            .read("memory.max")?
            .as_deref()
            .and_then(parse::parse_number)
            .unwrap_or(u64::MAX),
        // COMPAT: Docker reports the number of times the group ran out of memory here.
        failcnt: parse::parse_keyed(&events, "oom").unwrap_or(0),
        swap_usage: v1::number(dir, "memory.swap.current")?,
        stat: parse::parse_flat_keyed(&dir.read("memory.stat")?.unwrap_or_default()),
        oom_kills: parse::parse_keyed(&events, "oom_kill").unwrap_or(0),
    })
}

/// Tasks killed for lack of memory in the group and below.
pub(crate) fn read_oom_kills(dir: &Dir) -> Result<u64, CgroupError> {
    Ok(parse::parse_keyed(&dir.read("memory.events")?.unwrap_or_default(), "oom_kill").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_that_keep_default_and_ends() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (2048, 174)] {
            let found = weight_of_shares(shares);
            assert!(
                found.abs_diff(weight) <= 2,
                "{shares} became {found}, expected about {weight}"
            );
        }
    }

    #[test]
    fn bandwidth_keeps_what_is_not_given() {
        assert_eq!(
            bandwidth_text(Some((Some(20_000), 50_000)), None, Some(100_000)),
            "20000 100000"
        );
        assert_eq!(
            bandwidth_text(Some((Some(20_000), 50_000)), Some(-1), None),
            "max 50000"
        );
        assert_eq!(bandwidth_text(None, Some(150_000), None), "150000 100000");
    }

    #[test]
    fn swap_is_what_goes_beyond_the_memory_limit() {
        let memory = |limit, swap| Memory {
            limit,
            swap,
            ..Memory::default()
        };
        assert_eq!(swap_only(100, memory(Some(100), Some(300))).ok(), Some(Some(200)));
        assert_eq!(swap_only(100, memory(Some(100), Some(-1))).ok(), Some(Some(u64::MAX)));
        assert_eq!(swap_only(100, memory(Some(100), None)).ok(), Some(None));
        assert_eq!(swap_only(u64::MAX, memory(Some(-1), None)).ok(), Some(Some(u64::MAX)));
        assert!(swap_only(100, memory(Some(100), Some(50))).is_err());
        assert!(swap_only(u64::MAX, memory(None, Some(50))).is_err());
    }
}
