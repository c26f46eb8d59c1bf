//! Measurements as containerd's clients read them: one message for cgroup version 1, another for version 2.

use std::collections::BTreeMap;

use wharf_cgroup::{Stats, Version};

use super::messages::Any;
use super::proto::{Message as _, message};

message! {
    MetricsV1 {
        hugetlb: Vec<Hugetlb> = 1,
        pids: Option<Pids> = 2,
        cpu: Option<CpuV1> = 3,
        memory: Option<MemoryV1> = 4,
        blkio: Option<Blkio> = 5,
        memory_oom_control: Option<OomControl> = 9,
    }
    Hugetlb { usage: u64 = 1, max: u64 = 2, failcnt: u64 = 3, page_size: String = 4 }
    Pids { current: u64 = 1, limit: u64 = 2 }
    CpuV1 { usage: Option<CpuUsage> = 1, throttling: Option<Throttle> = 2 }
    CpuUsage { total: u64 = 1, kernel: u64 = 2, user: u64 = 3, per_cpu: Vec<u64> = 4 }
    Throttle { periods: u64 = 1, throttled_periods: u64 = 2, throttled_time: u64 = 3 }
    MemoryV1 {
        cache: u64 = 1, rss: u64 = 2, rss_huge: u64 = 3, mapped_file: u64 = 4, dirty: u64 = 5, writeback: u64 = 6,
        pgpgin: u64 = 7, pgpgout: u64 = 8, pgfault: u64 = 9, pgmajfault: u64 = 10,
        inactive_anon: u64 = 11, active_anon: u64 = 12, inactive_file: u64 = 13, active_file: u64 = 14,
        unevictable: u64 = 15, hierarchical_memory_limit: u64 = 16, hierarchical_swap_limit: u64 = 17,
        total_cache: u64 = 18, total_rss: u64 = 19, total_rss_huge: u64 = 20, total_mapped_file: u64 = 21,
        total_dirty: u64 = 22, total_writeback: u64 = 23, total_pgpgin: u64 = 24, total_pgpgout: u64 = 25,
        total_pgfault: u64 = 26, total_pgmajfault: u64 = 27, total_inactive_anon: u64 = 28,
        total_active_anon: u64 = 29, total_inactive_file: u64 = 30, total_active_file: u64 = 31,
        total_unevictable: u64 = 32, usage: Option<Counter> = 33, swap: Option<Counter> = 34,
    }
    Counter { limit: u64 = 1, usage: u64 = 2, max: u64 = 3, failcnt: u64 = 4 }
    OomControl { oom_kill_disable: u64 = 1, under_oom: u64 = 2, oom_kill: u64 = 3 }
    Blkio {
        service_bytes: Vec<BlkioEntry> = 1,
        serviced: Vec<BlkioEntry> = 2,
        queued: Vec<BlkioEntry> = 3,
        service_time: Vec<BlkioEntry> = 4,
        wait_time: Vec<BlkioEntry> = 5,
        merged: Vec<BlkioEntry> = 6,
        time: Vec<BlkioEntry> = 7,
        sectors: Vec<BlkioEntry> = 8,
    }
    BlkioEntry { op: String = 1, device: String = 2, major: u64 = 3, minor: u64 = 4, value: u64 = 5 }

    MetricsV2 {
        pids: Option<Pids> = 1,
        cpu: Option<CpuV2> = 2,
        memory: Option<MemoryV2> = 4,
        io: Option<Io> = 6,
        hugetlb: Vec<HugetlbV2> = 7,
        memory_events: Option<MemoryEvents> = 8,
    }
    CpuV2 {
        usage_us: u64 = 1,
        user_us: u64 = 2,
        system_us: u64 = 3,
        periods: u64 = 4,
        throttled: u64 = 5,
        throttled_us: u64 = 6,
    }
    MemoryV2 {
        anon: u64 = 1, file: u64 = 2, kernel_stack: u64 = 3, slab: u64 = 4, sock: u64 = 5, shmem: u64 = 6,
        file_mapped: u64 = 7, file_dirty: u64 = 8, file_writeback: u64 = 9, anon_thp: u64 = 10,
        inactive_anon: u64 = 11, active_anon: u64 = 12, inactive_file: u64 = 13, active_file: u64 = 14,
        unevictable: u64 = 15, slab_reclaimable: u64 = 16, slab_unreclaimable: u64 = 17, pgfault: u64 = 18,
        pgmajfault: u64 = 19, usage: u64 = 32, usage_limit: u64 = 33, swap_usage: u64 = 34, swap_limit: u64 = 35,
        max_usage: u64 = 36,
    }
    MemoryEvents { low: u64 = 1, high: u64 = 2, max: u64 = 3, oom: u64 = 4, oom_kill: u64 = 5 }
    Io { usage: Vec<IoEntry> = 1 }
    IoEntry { major: u64 = 1, minor: u64 = 2, read_bytes: u64 = 3, written_bytes: u64 = 4, reads: u64 = 5, writes: u64 = 6 }
    HugetlbV2 { current: u64 = 1, max: u64 = 2, page_size: String = 3 }
}

/// The message for the host's version of cgroups. `swap` is the limit and usage of memory and swap together.
pub(crate) fn metrics(version: Version, stats: &Stats, swap: wharf_cgroup::MemoryCounter) -> Any {
    let swap = Counter {
        limit: swap.limit,
        usage: swap.usage,
        max: swap.max_usage,
        failcnt: swap.failcnt,
    };
    match version {
        Version::V1 => Any {
            type_url: "io.containerd.cgroups.v1.Metrics".to_owned(),
            value: metrics_v1(stats, swap).encode(),
        },
        Version::V2 => Any {
            type_url: "io.containerd.cgroups.v2.Metrics".to_owned(),
            value: metrics_v2(stats, &swap).encode(),
        },
    }
}

fn pids(stats: &Stats) -> Pids {
    Pids {
        current: stats.pids.current,
        limit: stats.pids.limit.unwrap_or(0),
    }
}

fn metrics_v1(stats: &Stats, swap: Counter) -> MetricsV1 {
    let cpu = &stats.cpu;
    let hugetlb = stats.hugetlb.iter().map(|(size, page)| Hugetlb {
        usage: page.usage,
        max: page.max_usage,
        failcnt: page.failcnt,
        page_size: size.clone(),
    });
    MetricsV1 {
        hugetlb: hugetlb.collect(),
        pids: Some(pids(stats)),
        cpu: Some(CpuV1 {
            usage: Some(CpuUsage {
                total: cpu.total_ns,
                kernel: cpu.system_ns,
                user: cpu.user_ns,
                per_cpu: cpu.percpu_ns.clone(),
            }),
            throttling: Some(Throttle {
                periods: cpu.throttling.periods,
                throttled_periods: cpu.throttling.throttled_periods,
                throttled_time: cpu.throttling.throttled_ns,
            }),
        }),
        memory: Some(memory_v1(stats, swap)),
        blkio: Some(blkio(&stats.blkio)),
        memory_oom_control: Some(OomControl {
            oom_kill: stats.memory.oom_kills,
            ..OomControl::default()
        }),
    }
}

/// Looks a figure of the kernel's memory.stat up; 0 where this kernel has none.
fn figure(stat: &BTreeMap<String, u64>, name: &str) -> u64 {
    stat.get(name).copied().unwrap_or(0)
}

fn memory_v1(stats: &Stats, swap: Counter) -> MemoryV1 {
    let of = |name: &str| figure(&stats.memory.stat, name);
    MemoryV1 {
        cache: of("cache"),
        rss: of("rss"),
        rss_huge: of("rss_huge"),
        mapped_file: of("mapped_file"),
        dirty: of("dirty"),
        writeback: of("writeback"),
        pgpgin: of("pgpgin"),
        pgpgout: of("pgpgout"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        hierarchical_memory_limit: of("hierarchical_memory_limit"),
        hierarchical_swap_limit: of("hierarchical_memsw_limit"),
        total_cache: of("total_cache"),
        total_rss: of("total_rss"),
        total_rss_huge: of("total_rss_huge"),
        total_mapped_file: of("total_mapped_file"),
        total_dirty: of("total_dirty"),
        total_writeback: of("total_writeback"),
        total_pgpgin: of("total_pgpgin"),
        total_pgpgout: of("total_pgpgout"),
        total_pgfault: of("total_pgfault"),
        total_pgmajfault: of("total_pgmajfault"),
        total_inactive_anon: of("total_inactive_anon"),
        total_active_anon: of("total_active_anon"),
        total_inactive_file: of("total_inactive_file"),
        total_active_file: of("total_active_file"),
        total_unevictable: of("total_unevictable"),
        usage: Some(Counter {
            limit: stats.memory.limit,
            usage: stats.memory.usage,
            max: stats.memory.max_usage,
            failcnt: stats.memory.failcnt,
        }),
        swap: Some(swap),
    }
}

fn blkio(stats: &wharf_cgroup::BlkioStats) -> Blkio {
    let entries = |entries: &[wharf_cgroup::BlkioEntry]| {
        let convert = |entry: &wharf_cgroup::BlkioEntry| BlkioEntry {
            op: entry.op.clone(),
            device: String::new(),
            major: entry.major,
            minor: entry.minor,
            value: entry.value,
        };
        entries.iter().map(convert).collect()
    };
    Blkio {
        service_bytes: entries(&stats.io_service_bytes),
        serviced: entries(&stats.io_serviced),
        queued: entries(&stats.io_queued),
        service_time: entries(&stats.io_service_time),
        wait_time: entries(&stats.io_wait_time),
        merged: entries(&stats.io_merged),
        time: entries(&stats.io_time),
        sectors: entries(&stats.sectors),
    }
}

fn metrics_v2(stats: &Stats, swap: &Counter) -> MetricsV2 {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let hugetlb = stats.hugetlb.iter().map(|(size, page)| HugetlbV2 {
        current: page.usage,
        max: page.max_usage,
        page_size: size.clone(),
    });
    MetricsV2 {
        pids: Some(pids(stats)),
        cpu: Some(CpuV2 {
            usage_us: cpu.total_ns / 1000,
            user_us: cpu.user_ns / 1000,
            system_us: cpu.system_ns / 1000,
            periods: cpu.throttling.periods,
            throttled: cpu.throttling.throttled_periods,
            throttled_us: cpu.throttling.throttled_ns / 1000,
        }),
        memory: Some(memory_v2(stats, swap)),
        io: Some(Io {
            usage: io(&stats.blkio),
        }),
        hugetlb: hugetlb.collect(),
        memory_events: Some(MemoryEvents {
            max: memory.failcnt,
            oom_kill: memory.oom_kills,
            ..MemoryEvents::default()
        }),
    }
}

fn memory_v2(stats: &Stats, swap: &Counter) -> MemoryV2 {
    let memory = &stats.memory;
    let of = |name: &str| figure(&memory.stat, name);
    MemoryV2 {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        usage: memory.usage,
        usage_limit: memory.limit,
        swap_usage: memory.swap_usage,
        // Version 2 counts swap alone.
        swap_limit: match (swap.limit, memory.limit) {
            (u64::MAX, _) => u64::MAX,
            (both, limit) => both.saturating_sub(limit),
        },
        max_usage: memory.max_usage,
    }
}

/// Version 2 has one line for each device.
fn io(stats: &wharf_cgroup::BlkioStats) -> Vec<IoEntry> {
    let mut devices: BTreeMap<(u64, u64), IoEntry> = BTreeMap::new();
    let lists = [(&stats.io_service_bytes, true), (&stats.io_serviced, false)];
    for (entry, is_bytes) in lists
        .iter()
        .flat_map(|(list, b)| list.iter().map(move |entry| (entry, *b)))
    {
        let device = devices.entry((entry.major, entry.minor)).or_default();
        (device.major, device.minor) = (entry.major, entry.minor);
        match (entry.op.to_ascii_lowercase().as_str(), is_bytes) {
            ("read", true) => device.read_bytes = entry.value,
            ("write", true) => device.written_bytes = entry.value,
            ("read", false) => device.reads = entry.value,
            ("write", false) => device.writes = entry.value,
            _ => {}
        }
    }
    devices.into_values().collect()
}
