//! Limits of the specification in the cgroup crate's own words, and joining a
//! group.

use crate::spec;
use crate::{Cgroup, ErrorKind, RuntimeError};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use wharf_cgroup as cgroup;

/// Devices that every container may use, after the rules of the
/// configuration: making any node, and the default nodes
/// (config-linux.md#default-devices) with the pseudo terminals.
const ALWAYS_ALLOWED: [(Option<u32>, Option<u32>); 9] = [
    (Some(1), Some(3)),
    (Some(1), Some(5)),
    (Some(1), Some(7)),
    (Some(1), Some(8)),
    (Some(1), Some(9)),
    (Some(5), Some(0)),
    (Some(5), Some(1)),
    (Some(5), Some(2)),
    (Some(136), None),
];

/// What failed, and the causes behind it.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(next) = cause {
        chain.push(
            match next
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::raw_os_error)
            {
                Some(errno) => crate::error::errno_text(errno),
                None => next.to_string(),
            },
        );
        cause = next.source();
    }
    chain
}

/// An error of the cgroup crate, with its causes.
pub(crate) fn failed(step: &str, error: &cgroup::CgroupError) -> RuntimeError {
    let kind = match error {
        cgroup::CgroupError::InvalidPath { .. } | cgroup::CgroupError::InvalidValue { .. } => ErrorKind::Invalid,
        _ => ErrorKind::System,
    };
    RuntimeError {
        kind,
        step: step.to_owned(),
        chain: chain_of(error),
        errno: error.errno(),
    }
}

/// The files through which init moves itself into the group; none on
/// version 2, where it is born in it.
pub(crate) fn open_entries(group: Option<&Cgroup>) -> Result<Vec<OwnedFd>, RuntimeError> {
    let open = |path: std::path::PathBuf| {
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| RuntimeError::system("cgroup", format!("open {}", path.display()), errno))
    };
    let files = group.map(Cgroup::entry_files).unwrap_or_default();
    files.into_iter().map(open).collect()
}

/// Moves the calling process, which must have one thread, into the group.
pub(crate) fn enter(entries: &[OwnedFd]) -> Result<(), RuntimeError> {
    entries.iter().try_for_each(|entry| {
        rustix::io::write(entry, b"0")
            .map(drop)
            .map_err(|errno| RuntimeError::system("cgroup", "join the cgroup", errno))
    })
}

/// Limits of the specification as the cgroup crate takes them, with the
/// devices that every container may use.
///
/// # Errors
/// Values that mean nothing, by field.
pub fn plan_limits(resources: Option<&spec::Resources>) -> Result<cgroup::Resources, RuntimeError> {
    let mut limits = match resources {
        Some(resources) => convert(resources)?,
        None => cgroup::Resources::default(),
    };
    let rule = |allow, kind, major, minor, access| cgroup::DeviceRule {
        allow,
        kind,
        major,
        minor,
        access,
    };
    let all = cgroup::DeviceAccess::ALL;
    let mknod = cgroup::DeviceAccess {
        mknod: true,
        ..cgroup::DeviceAccess::default()
    };
    // A container may use no device but those named.
    let none = rule(false, cgroup::DeviceKind::All, None, None, all);
    if limits.devices.first() != Some(&none) {
        limits.devices.insert(0, none);
    }
    let nodes = ALWAYS_ALLOWED
        .iter()
        .map(|(major, minor)| rule(true, cgroup::DeviceKind::Char, *major, *minor, all));
    let always = [
        rule(true, cgroup::DeviceKind::Char, None, None, mknod),
        rule(true, cgroup::DeviceKind::Block, None, None, mknod),
    ];
    // What was allowed and not denied since need not be said again: on version 1 each rule is a file to write.
    let last_denial = limits.devices.iter().rposition(|rule| !rule.allow).unwrap_or(0);
    let said = limits.devices.split_off(last_denial);
    let missing: Vec<_> = always
        .into_iter()
        .chain(nodes)
        .filter(|rule| !said.contains(rule))
        .collect();
    limits.devices.extend(said);
    limits.devices.extend(missing);
    Ok(limits)
}

/// Limits of the specification as the cgroup crate takes them, nothing added.
///
/// # Errors
/// Values that mean nothing, by field.
pub fn convert(from: &spec::Resources) -> Result<cgroup::Resources, RuntimeError> {
    let cpu = from.cpu.clone().unwrap_or_default();
    Ok(cgroup::Resources {
        cpu: cgroup::Cpu {
            shares: cpu.shares,
            quota_us: cpu.quota,
            period_us: cpu.period,
            burst_us: cpu.burst,
            realtime_runtime_us: cpu.realtime_runtime,
            realtime_period_us: cpu.realtime_period,
            idle: cpu.idle,
        },
        cpuset: cgroup::Cpuset {
            cpus: non_empty(cpu.cpus),
            mems: non_empty(cpu.mems),
        },
        memory: from.memory.as_ref().map(convert_memory).unwrap_or_default(),
        // COMPAT: none but init itself, as runc has it: of 0 systemd knows nothing.
        pids_limit: from
            .pids
            .and_then(|pids| pids.limit)
            .map(|limit| if limit == 0 { 1 } else { limit }),
        io: from.block_io.as_ref().map(convert_io).transpose()?.unwrap_or_default(),
        devices: convert_devices(&from.devices)?,
        hugetlb: from
            .hugepage_limits
            .iter()
            .map(|limit| cgroup::HugetlbLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        network: from.network.as_ref().map(convert_network).unwrap_or_default(),
        rdma: from
            .rdma
            .iter()
            .map(|(device, limit)| {
                let limit = cgroup::RdmaLimit {
                    handles: limit.hca_handles,
                    objects: limit.hca_objects,
                };
                (device.clone(), limit)
            })
            .collect(),
        unified: from.unified.clone(),
    })
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn convert_memory(from: &spec::Memory) -> cgroup::Memory {
    cgroup::Memory {
        limit: from.limit,
        reservation: from.reservation,
        swap: from.swap,
        kernel_tcp: from.kernel_tcp,
        swappiness: from.swappiness,
        disable_oom_killer: from.disable_oom_killer,
        check_before_update: from.check_before_update,
    }
}

fn convert_network(from: &spec::NetworkClass) -> cgroup::Network {
    cgroup::Network {
        class_id: from.class_id,
        priorities: from
            .priorities
            .iter()
            .map(|entry| (entry.name.clone(), entry.priority))
            .collect(),
    }
}

fn number(field: &str, value: i64) -> Result<u32, RuntimeError> {
    u32::try_from(value).map_err(|_| RuntimeError::invalid(field, format!("{field}: {value} is no device number")))
}

fn convert_io(from: &spec::BlockIo) -> Result<cgroup::BlockIo, RuntimeError> {
    let rates = |name: &str, list: &[spec::ThrottleDevice]| {
        let field = format!("linux.resources.blockIO.{name}");
        list.iter()
            .map(|device| {
                let (major, minor) = (number(&field, device.major)?, number(&field, device.minor)?);
                Ok(cgroup::ThrottleDevice {
                    major,
                    minor,
                    rate: device.rate,
                })
            })
            .collect::<Result<Vec<_>, RuntimeError>>()
    };
    let weights = from.weight_device.iter().map(|device| {
        let field = "linux.resources.blockIO.weightDevice";
        Ok(cgroup::WeightDevice {
            major: number(field, device.major)?,
            minor: number(field, device.minor)?,
            weight: device.weight,
            leaf_weight: device.leaf_weight,
        })
    });
    Ok(cgroup::BlockIo {
        weight: from.weight,
        leaf_weight: from.leaf_weight,
        weight_devices: weights.collect::<Result<_, RuntimeError>>()?,
        throttle_read_bps: rates("throttleReadBpsDevice", &from.throttle_read_bps_device)?,
        throttle_write_bps: rates("throttleWriteBpsDevice", &from.throttle_write_bps_device)?,
        throttle_read_iops: rates("throttleReadIOPSDevice", &from.throttle_read_iops_device)?,
        throttle_write_iops: rates("throttleWriteIOPSDevice", &from.throttle_write_iops_device)?,
    })
}

fn convert_devices(rules: &[spec::DeviceRule]) -> Result<Vec<cgroup::DeviceRule>, RuntimeError> {
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| convert_device(index, rule))
        .collect()
}

fn convert_device(index: usize, rule: &spec::DeviceRule) -> Result<cgroup::DeviceRule, RuntimeError> {
    let field = format!("linux.resources.devices[{index}]");
    let invalid = |part: &str, why: String| RuntimeError::invalid(&field, format!("{field}.{part}: {why}"));
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => cgroup::DeviceKind::All,
        Some("c") => cgroup::DeviceKind::Char,
        Some("b") => cgroup::DeviceKind::Block,
        Some(other) => return Err(invalid("type", format!("unknown value {other:?}"))),
    };
    // -1 is written for "any" too.
    let id = |part: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| invalid(part, format!("{value} is no device number"))),
    };
    let access = match rule.access.as_deref() {
        None | Some("") => cgroup::DeviceAccess::ALL,
        Some(text) => cgroup::DeviceAccess::parse(text)
            .ok_or_else(|| invalid("access", format!("{text:?} is not made of r, w and m")))?,
    };
    Ok(cgroup::DeviceRule {
        allow: rule.allow,
        kind,
        major: id("major", rule.major)?,
        minor: id("minor", rule.minor)?,
        access,
    })
}
