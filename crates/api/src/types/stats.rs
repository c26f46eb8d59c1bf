//! `GET /containers/{id}/stats`.

use std::collections::BTreeMap;

wire! {
    /// One sample of a container's use of the machine.
    pub struct ContainerStats {
        name: String = "name" omitempty,
        id: String = "id" omitempty,
        os_type: String = "os_type" omitempty,
        read: String = "read",
        preread: String = "preread",
        pids_stats: PidsStats = "pids_stats",
        blkio_stats: BlkioStats = "blkio_stats",
        num_procs: u32 = "num_procs",
        storage_stats: StorageStats = "storage_stats",
        cpu_stats: CpuStats = "cpu_stats",
        precpu_stats: CpuStats = "precpu_stats",
        memory_stats: MemoryStats = "memory_stats",
        networks: Option<BTreeMap<String, InterfaceStats>> = "networks" omitempty,
    }

    /// Processes.
    pub struct PidsStats {
        current: u64 = "current" omitempty,
        limit: u64 = "limit" omitempty,
    }

    /// Block devices.
    pub struct BlkioStats {
        io_service_bytes_recursive: Option<Vec<BlkioEntry>> = "io_service_bytes_recursive",
        io_serviced_recursive: Option<Vec<BlkioEntry>> = "io_serviced_recursive",
        io_queue_recursive: Option<Vec<BlkioEntry>> = "io_queue_recursive",
        io_service_time_recursive: Option<Vec<BlkioEntry>> = "io_service_time_recursive",
        io_wait_time_recursive: Option<Vec<BlkioEntry>> = "io_wait_time_recursive",
        io_merged_recursive: Option<Vec<BlkioEntry>> = "io_merged_recursive",
        io_time_recursive: Option<Vec<BlkioEntry>> = "io_time_recursive",
        sectors_recursive: Option<Vec<BlkioEntry>> = "sectors_recursive",
    }

    /// One counter of one device and operation.
    pub struct BlkioEntry {
        major: u64 = "major",
        minor: u64 = "minor",
        op: String = "op",
        value: u64 = "value",
    }

    /// Storage, of Windows engines only.
    pub struct StorageStats {
        read_count_normalized: u64 = "read_count_normalized" omitempty,
        read_size_bytes: u64 = "read_size_bytes" omitempty,
        write_count_normalized: u64 = "write_count_normalized" omitempty,
        write_size_bytes: u64 = "write_size_bytes" omitempty,
    }

    /// Processor time, in nanoseconds.
    pub struct CpuStats {
        cpu_usage: CpuUsage = "cpu_usage",
        system_cpu_usage: u64 = "system_cpu_usage" omitempty,
        online_cpus: u32 = "online_cpus" omitempty,
        throttling_data: ThrottlingData = "throttling_data",
    }

    /// Processor time used by the container.
    pub struct CpuUsage {
        total_usage: u64 = "total_usage",
        percpu_usage: Vec<u64> = "percpu_usage" omitempty,
        usage_in_kernelmode: u64 = "usage_in_kernelmode",
        usage_in_usermode: u64 = "usage_in_usermode",
    }

    /// How often the container was held back.
    pub struct ThrottlingData {
        periods: u64 = "periods",
        throttled_periods: u64 = "throttled_periods",
        throttled_time: u64 = "throttled_time",
    }

    /// Memory, in bytes.
    pub struct MemoryStats {
        usage: u64 = "usage" omitempty,
        max_usage: u64 = "max_usage" omitempty,
        stats: BTreeMap<String, u64> = "stats" omitempty,
        failcnt: u64 = "failcnt" omitempty,
        limit: u64 = "limit" omitempty,
    }

    /// One network interface.
    pub struct InterfaceStats {
        rx_bytes: u64 = "rx_bytes",
        rx_packets: u64 = "rx_packets",
        rx_errors: u64 = "rx_errors",
        rx_dropped: u64 = "rx_dropped",
        tx_bytes: u64 = "tx_bytes",
        tx_packets: u64 = "tx_packets",
        tx_errors: u64 = "tx_errors",
        tx_dropped: u64 = "tx_dropped",
    }
}
