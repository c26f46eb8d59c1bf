//! Measurements.

use wharf_api::types as wire;
use wharf_engine::model::ContainerRecord;
use wharf_engine::model::requests::{BlkioEntry, CpuSample, InterfaceSample, StatsSample};
use wharf_engine::model::time::rfc3339_or_zero;

/// Two consecutive samples as one answer; the first of a stream has no predecessor.
pub(crate) fn to_wire(
    record: &ContainerRecord,
    now: &StatsSample,
    before: Option<&StatsSample>,
) -> wire::ContainerStats {
    // COMPAT: a limit that nobody asked for is the engine's own affair (oracle lifecycle/top_and_stats_keys).
    let pids_limit = record.host.resources.pids_limit.map_or(0, |_| now.pids.1);
    let networks = now
        .networks
        .iter()
        .map(|(name, sample)| (name.clone(), interface_to_wire(sample)))
        .collect();
    wire::ContainerStats {
        name: format!("/{}", record.name),
        id: record.id.to_string(),
        os_type: "linux".to_owned(),
        read: rfc3339_or_zero(now.read),
        preread: rfc3339_or_zero(before.and_then(|sample| sample.read)),
        pids_stats: wire::PidsStats {
            current: now.pids.0,
            limit: pids_limit,
        },
        blkio_stats: wire::BlkioStats {
            io_service_bytes_recursive: entries_to_wire(now, &now.blkio),
            io_serviced_recursive: entries_to_wire(now, &now.blkio_serviced),
            ..wire::BlkioStats::default()
        },
        num_procs: 0,
        storage_stats: wire::StorageStats::default(),
        cpu_stats: cpu_to_wire(&now.cpu),
        precpu_stats: before.map(|sample| cpu_to_wire(&sample.cpu)).unwrap_or_default(),
        memory_stats: wire::MemoryStats {
            usage: now.memory.usage,
            max_usage: now.memory.max_usage.unwrap_or(0),
            stats: now.memory.stats.clone(),
            failcnt: now.memory.failcnt.unwrap_or(0),
            limit: now.memory.limit,
        },
        networks: now
            .read
            .map(|_| networks)
            .filter(|map: &std::collections::BTreeMap<_, _>| !map.is_empty()),
    }
}

/// A container that does not run has no lists at all; a running one has them, empty or not.
fn entries_to_wire(sample: &StatsSample, entries: &[BlkioEntry]) -> Option<Vec<wire::BlkioEntry>> {
    let convert = |entry: &BlkioEntry| wire::BlkioEntry {
        major: entry.major,
        minor: entry.minor,
        op: entry.op.clone(),
        value: entry.value,
    };
    sample.read.map(|_| entries.iter().map(convert).collect())
}

fn cpu_to_wire(cpu: &CpuSample) -> wire::CpuStats {
    let (periods, throttled_periods, throttled_time) = cpu.throttling;
    wire::CpuStats {
        cpu_usage: wire::CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.kernel,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: cpu.system,
        online_cpus: cpu.online,
        throttling_data: wire::ThrottlingData {
            periods,
            throttled_periods,
            throttled_time,
        },
    }
}

fn interface_to_wire(sample: &InterfaceSample) -> wire::InterfaceStats {
    let ([rx_bytes, rx_packets, rx_errors, rx_dropped], [tx_bytes, tx_packets, tx_errors, tx_dropped]) =
        (sample.rx, sample.tx);
    wire::InterfaceStats {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    }
}
