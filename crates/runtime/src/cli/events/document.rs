//! The `data` of a stats event, in the shape that callers of runc read
//! (figures that are zero are left out where runc leaves them out).

use crate::spec::is_default;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use wharf_cgroup::{BlkioEntry, Details, MemoryCounter, Pressure, Stats};

/// What one event is about.
pub(super) struct Measured {
    pub(super) stats: Stats,
    pub(super) details: Details,
    pub(super) interfaces: Vec<NetworkInterface>,
    pub(super) resctrl: Option<Value>,
}

/// One network interface of the container.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkInterface {
    pub(super) name: String,
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

/// Reads `/proc/<pid>/net/dev`; the loopback interface is left out.
pub(super) fn parse_interfaces(table: &str) -> Vec<NetworkInterface> {
    let row = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures
            .split_whitespace()
            .map_while(|figure| figure.parse().ok())
            .collect();
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, rest @ ..] = figures.as_slice() else {
            return None;
        };
        let [tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = rest else {
            return None;
        };
        Some(NetworkInterface {
            name: name.trim().to_owned(),
            rx_bytes: *rx_bytes,
            rx_packets: *rx_packets,
            rx_errors: *rx_errors,
            rx_dropped: *rx_dropped,
            tx_bytes: *tx_bytes,
            tx_packets: *tx_packets,
            tx_errors: *tx_errors,
            tx_dropped: *tx_dropped,
        })
    };
    let all = table.lines().filter_map(row);
    all.filter(|interface| interface.name != "lo").collect()
}

/// The whole document.
pub(super) fn document(measured: &Measured) -> Value {
    let Measured {
        stats,
        details,
        interfaces,
        resctrl,
    } = measured;
    let hugetlb: BTreeMap<_, _> = stats
        .hugetlb
        .iter()
        .map(|(size, pages)| {
            let mut entry = sparse(&[("usage", pages.usage), ("max", pages.max_usage)]);
            entry.insert("failcnt".to_owned(), json!(pages.failcnt));
            (size, entry)
        })
        .collect();
    let mut document = json!({
        "cpu": cpu(stats, details),
        "cpuset": cpuset(details),
        "memory": memory(stats, details),
        "pids": sparse(&[("current", stats.pids.current), ("limit", stats.pids.limit.unwrap_or(0))]),
        "blkio": blkio(stats, details),
        "hugetlb": hugetlb,
        "intel_rdt": resctrl.clone().unwrap_or_else(|| json!({})),
        "network_interfaces": if interfaces.is_empty() { Value::Null } else { json!(interfaces) },
    });
    if !details.rdma.is_empty() {
        document["rdma"] = json!(details.rdma);
    }
    document
}

/// The figures that are not zero.
fn sparse(figures: &[(&str, u64)]) -> Map<String, Value> {
    let entry = |(name, figure): &(&str, u64)| ((*name).to_owned(), json!(figure));
    figures.iter().filter(|(_, figure)| *figure != 0).map(entry).collect()
}

fn insert_list<T: Serialize>(into: &mut Map<String, Value>, name: &str, list: &[T]) {
    if !list.is_empty() {
        into.insert(name.to_owned(), json!(list));
    }
}

fn insert_map(into: &mut Map<String, Value>, name: &str, map: Map<String, Value>) {
    if !map.is_empty() {
        into.insert(name.to_owned(), Value::Object(map));
    }
}

fn insert_pressure(into: &mut Map<String, Value>, pressure: Option<&Pressure>) {
    if let Some(pressure) = pressure {
        into.insert("psi".to_owned(), json!(pressure));
    }
}

fn cpu(stats: &Stats, details: &Details) -> Value {
    let cpu = &stats.cpu;
    let mut times = sparse(&[("total", cpu.total_ns)]);
    insert_list(&mut times, "percpu", &cpu.percpu_ns);
    insert_list(&mut times, "percpu_kernel", &details.percpu_kernel_ns);
    insert_list(&mut times, "percpu_user", &details.percpu_user_ns);
    times.insert("kernel".to_owned(), json!(cpu.system_ns));
    times.insert("user".to_owned(), json!(cpu.user_ns));
    let throttling = sparse(&[
        ("periods", cpu.throttling.periods),
        ("throttledPeriods", cpu.throttling.throttled_periods),
        ("throttledTime", cpu.throttling.throttled_ns),
    ]);
    let mut document = Map::new();
    insert_map(&mut document, "usage", times);
    insert_map(&mut document, "throttling", throttling);
    insert_pressure(&mut document, details.cpu_pressure.as_ref());
    Value::Object(document)
}

fn cpuset(details: &Details) -> Value {
    let cpuset = &details.cpuset;
    let mut document = Map::new();
    insert_list(&mut document, "cpus", &cpuset.cpus);
    insert_list(&mut document, "mems", &cpuset.mems);
    for name in [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ] {
        let number = cpuset.numbers.get(name).copied().unwrap_or(0);
        document.insert(name.to_owned(), json!(number));
    }
    Value::Object(document)
}

fn memory_entry(counter: MemoryCounter) -> Map<String, Value> {
    if counter == MemoryCounter::default() {
        return Map::new();
    }
    let mut entry = sparse(&[("usage", counter.usage), ("max", counter.max_usage)]);
    entry.insert("limit".to_owned(), json!(counter.limit));
    entry.insert("failcnt".to_owned(), json!(counter.failcnt));
    entry
}

fn memory(stats: &Stats, details: &Details) -> Value {
    let memory = &stats.memory;
    let usage = MemoryCounter {
        usage: memory.usage,
        max_usage: memory.max_usage,
        limit: memory.limit,
        failcnt: memory.failcnt,
    };
    // The page cache is called `file` on version 2.
    let cache = memory.stat.get("cache").or_else(|| memory.stat.get("file"));
    let mut document = sparse(&[("cache", cache.copied().unwrap_or(0))]);
    insert_map(&mut document, "usage", memory_entry(usage));
    insert_map(&mut document, "swap", memory_entry(details.swap));
    insert_map(&mut document, "kernel", memory_entry(details.kernel));
    insert_map(&mut document, "kernelTCP", memory_entry(details.kernel_tcp));
    if !memory.stat.is_empty() {
        document.insert("raw".to_owned(), json!(memory.stat));
    }
    insert_pressure(&mut document, details.memory_pressure.as_ref());
    Value::Object(document)
}

/// One counter of one device as runc prints it.
#[derive(Serialize)]
struct DeviceCounter<'a> {
    #[serde(skip_serializing_if = "is_default")]
    major: u64,
    #[serde(skip_serializing_if = "is_default")]
    minor: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    value: u64,
}

fn blkio(stats: &Stats, details: &Details) -> Value {
    let io = &stats.blkio;
    let mut document = Map::new();
    let lists: [(&str, &[BlkioEntry]); 8] = [
        ("ioServiceBytesRecursive", &io.io_service_bytes),
        ("ioServicedRecursive", &io.io_serviced),
        ("ioQueueRecursive", &io.io_queued),
        ("ioServiceTimeRecursive", &io.io_service_time),
        ("ioWaitTimeRecursive", &io.io_wait_time),
        ("ioMergedRecursive", &io.io_merged),
        ("ioTimeRecursive", &io.io_time),
        ("sectorsRecursive", &io.sectors),
    ];
    for (name, entries) in lists {
        let counters: Vec<_> = entries
            .iter()
            .map(|entry| DeviceCounter {
                major: entry.major,
                minor: entry.minor,
                op: &entry.op,
                value: entry.value,
            })
            .collect();
        insert_list(&mut document, name, &counters);
    }
    insert_pressure(&mut document, details.io_pressure.as_ref());
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_loopback() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  \
             eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n";
        let expected = NetworkInterface {
            name: "eth0".into(),
            rx_bytes: 100,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 500,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(parse_interfaces(table), [expected]);
    }

    #[test]
    fn zero_figures_are_left_out_where_runc_leaves_them_out() {
        let measured = Measured {
            stats: Stats::default(),
            details: Details::default(),
            interfaces: Vec::new(),
            resctrl: None,
        };
        let document = document(&measured);
        assert_eq!(document["cpu"], json!({ "usage": { "kernel": 0, "user": 0 } }));
        assert_eq!(document["pids"], json!({}));
        assert_eq!(document["network_interfaces"], Value::Null);
        assert_eq!(document["cpuset"]["sched_load_balance"], json!(0));
        assert!(document.get("rdma").is_none());
    }
}
