//! Limits: from Docker's fields to the specification's, and to the cgroup crate's for updates.
use wharf_cgroup as cgroup;
use wharf_runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources as SpecResources};
use wharf_runtime::spec::{ThrottleDevice as SpecThrottle, WeightDevice as SpecWeight};

use super::{HostFacts, devices};
use crate::error::{Error, Result};
use crate::model::{ContainerRecord, Resources, ThrottleDevice};

/// Period that `nano_cpus` is measured in.
const CPU_PERIOD_US: u64 = 100_000;

/// Limits of a container's cgroup.
pub(super) fn plan_resources(record: &ContainerRecord, facts: &HostFacts) -> Result<SpecResources> {
    let asked = &record.host.resources;
    Ok(SpecResources {
        devices: devices::plan_rules(&record.host, facts)?,
        memory: plan_memory(asked),
        cpu: plan_cpu(asked),
        pids: Some(Pids {
            limit: Some(pids_limit(asked, facts.default_pids_limit)),
        }),
        block_io: plan_block_io(asked, facts)?,
        ..SpecResources::default()
    })
}

fn positive(n: i64) -> Option<i64> {
    (n != 0).then_some(n)
}

/// The limit in force: what was asked, else the engine's default; -1 is unlimited.
fn pids_limit(asked: &Resources, default: i64) -> i64 {
    match asked.pids_limit {
        None | Some(0) => default,
        Some(n) => n.max(-1),
    }
}

fn plan_memory(asked: &Resources) -> Option<Memory> {
    let memory = Memory {
        limit: positive(asked.memory),
        reservation: positive(asked.memory_reservation),
        swap: positive(asked.memory_swap),
        swappiness: asked.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
        disable_oom_killer: asked.oom_kill_disable.filter(|d| *d),
        ..Memory::default()
    };
    (memory != Memory::default()).then_some(memory)
}

fn plan_cpu(asked: &Resources) -> Option<Cpu> {
    let (quota, period) = quota_of(asked);
    let text = |t: &String| (!t.is_empty()).then(|| t.clone());
    let cpu = Cpu {
        shares: u64::try_from(asked.cpu_shares).ok().filter(|n| *n > 0),
        quota,
        period,
        realtime_runtime: positive(asked.cpu_realtime_runtime),
        realtime_period: u64::try_from(asked.cpu_realtime_period).ok().filter(|n| *n > 0),
        cpus: text(&asked.cpuset_cpus),
        mems: text(&asked.cpuset_mems),
        ..Cpu::default()
    };
    (cpu != Cpu::default()).then_some(cpu)
}

/// Quota and period in microseconds.
fn quota_of(asked: &Resources) -> (Option<i64>, Option<u64>) {
    if asked.nano_cpus > 0 {
        let quota = i128::from(asked.nano_cpus) * i128::from(CPU_PERIOD_US) / 1_000_000_000;
        return (Some(i64::try_from(quota).unwrap_or(i64::MAX)), Some(CPU_PERIOD_US));
    }
    let period = u64::try_from(asked.cpu_period).ok().filter(|n| *n > 0);
    (positive(asked.cpu_quota), period)
}

fn plan_block_io(asked: &Resources, facts: &HostFacts) -> Result<Option<BlockIo>> {
    let numbers = |path: &str| {
        facts
            .block_devices
            .get(path)
            .copied()
            .ok_or_else(|| Error::invalid(format!("no such block device: {path}")))
    };
    let throttle = |list: &Option<Vec<ThrottleDevice>>| -> Result<Vec<SpecThrottle>> {
        list.iter()
            .flatten()
            .map(|d| {
                let (major, minor) = numbers(&d.path)?;
                Ok(SpecThrottle {
                    major: major.into(),
                    minor: minor.into(),
                    rate: d.rate,
                })
            })
            .collect()
    };
    let weight_device = asked
        .blkio_weight_device
        .iter()
        .flatten()
        .map(|d| {
            let (major, minor) = numbers(&d.path)?;
            let (major, minor) = (major.into(), minor.into());
            Ok(SpecWeight {
                major,
                minor,
                weight: Some(d.weight),
                leaf_weight: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let io = BlockIo {
        weight: (asked.blkio_weight > 0).then_some(asked.blkio_weight),
        leaf_weight: None,
        weight_device,
        throttle_read_bps_device: throttle(&asked.blkio_device_read_bps)?,
        throttle_write_bps_device: throttle(&asked.blkio_device_write_bps)?,
        throttle_read_iops_device: throttle(&asked.blkio_device_read_iops)?,
        throttle_write_iops_device: throttle(&asked.blkio_device_write_iops)?,
    };
    Ok((io != BlockIo::default()).then_some(io))
}

/// The changed limits of a running container, for its cgroup. Zero values stay as they are.
pub fn cgroup_resources(changed: &Resources) -> cgroup::Resources {
    let (quota_us, period_us) = quota_of(changed);
    let text = |t: &String| (!t.is_empty()).then(|| t.clone());
    cgroup::Resources {
        cpu: cgroup::Cpu {
            shares: u64::try_from(changed.cpu_shares).ok().filter(|n| *n > 0),
            quota_us,
            period_us,
            realtime_runtime_us: positive(changed.cpu_realtime_runtime),
            realtime_period_us: u64::try_from(changed.cpu_realtime_period).ok().filter(|n| *n > 0),
            ..Default::default()
        },
        cpuset: cgroup::Cpuset {
            cpus: text(&changed.cpuset_cpus),
            mems: text(&changed.cpuset_mems),
        },
        memory: cgroup::Memory {
            limit: positive(changed.memory),
            reservation: positive(changed.memory_reservation),
            swap: positive(changed.memory_swap),
            ..Default::default()
        },
        pids_limit: changed.pids_limit.filter(|n| *n != 0).map(|n| n.max(-1)),
        io: cgroup::BlockIo {
            weight: (changed.blkio_weight > 0).then_some(changed.blkio_weight),
            ..Default::default()
        },
        ..Default::default()
    }
}
