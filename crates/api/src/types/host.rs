//! The host's part of a container: limits, devices, namespaces, storage and policy.

use std::collections::BTreeMap;

use super::{Mount, StringMap};

/// Published ports by container port, `"80/tcp"`. `null` means exposed and not published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

wire! {
    /// Limits and devices; also the body of an update.
    pub struct Resources {
        cpu_shares: i64 = "CpuShares",
        memory: i64 = "Memory",
        /// Thousand-millionths of a processor.
        nano_cpus: i64 = "NanoCpus",
        cgroup_parent: String = "CgroupParent",
        blkio_weight: u16 = "BlkioWeight",
        blkio_weight_device: Option<Vec<WeightDevice>> = "BlkioWeightDevice",
        blkio_device_read_bps: Option<Vec<ThrottleDevice>> = "BlkioDeviceReadBps",
        blkio_device_write_bps: Option<Vec<ThrottleDevice>> = "BlkioDeviceWriteBps",
        blkio_device_read_iops: Option<Vec<ThrottleDevice>> = "BlkioDeviceReadIOps",
        blkio_device_write_iops: Option<Vec<ThrottleDevice>> = "BlkioDeviceWriteIOps",
        cpu_period: i64 = "CpuPeriod",
        cpu_quota: i64 = "CpuQuota",
        cpu_realtime_period: i64 = "CpuRealtimePeriod",
        cpu_realtime_runtime: i64 = "CpuRealtimeRuntime",
        cpuset_cpus: String = "CpusetCpus",
        cpuset_mems: String = "CpusetMems",
        devices: Option<Vec<DeviceMapping>> = "Devices",
        device_cgroup_rules: Option<Vec<String>> = "DeviceCgroupRules",
        device_requests: Option<Vec<DeviceRequest>> = "DeviceRequests",
        /// Accepted and ignored since 1.42.
        kernel_memory: i64 = "KernelMemory" omitempty,
        kernel_memory_tcp: i64 = "KernelMemoryTCP" omitempty,
        memory_reservation: i64 = "MemoryReservation",
        /// Memory and swap together; -1 is without limit.
        memory_swap: i64 = "MemorySwap",
        memory_swappiness: Option<i64> = "MemorySwappiness",
        oom_kill_disable: Option<bool> = "OomKillDisable",
        /// `null` and 0 leave it unchanged, -1 is without limit.
        pids_limit: Option<i64> = "PidsLimit",
        ulimits: Option<Vec<Ulimit>> = "Ulimits",
        cpu_count: i64 = "CpuCount",
        cpu_percent: i64 = "CpuPercent",
        io_maximum_iops: u64 = "IOMaximumIOps",
        io_maximum_bandwidth: u64 = "IOMaximumBandwidth",
    }

    /// The host's part of a container's configuration.
    pub struct HostConfig {
        binds: Option<Vec<String>> = "Binds",
        container_id_file: String = "ContainerIDFile",
        log_config: LogConfig = "LogConfig",
        network_mode: String = "NetworkMode",
        port_bindings: Option<PortMap> = "PortBindings",
        restart_policy: RestartPolicy = "RestartPolicy",
        auto_remove: bool = "AutoRemove",
        volume_driver: String = "VolumeDriver",
        volumes_from: Option<Vec<String>> = "VolumesFrom",
        /// Height, width.
        console_size: [u32; 2] = "ConsoleSize",
        annotations: StringMap = "Annotations" omitempty,
        cap_add: Option<Vec<String>> = "CapAdd",
        cap_drop: Option<Vec<String>> = "CapDrop",
        cgroupns_mode: String = "CgroupnsMode",
        dns: Option<Vec<String>> = "Dns",
        dns_options: Option<Vec<String>> = "DnsOptions",
        dns_search: Option<Vec<String>> = "DnsSearch",
        extra_hosts: Option<Vec<String>> = "ExtraHosts",
        group_add: Option<Vec<String>> = "GroupAdd",
        ipc_mode: String = "IpcMode",
        cgroup: String = "Cgroup",
        links: Option<Vec<String>> = "Links",
        oom_score_adj: i64 = "OomScoreAdj",
        pid_mode: String = "PidMode",
        privileged: bool = "Privileged",
        publish_all_ports: bool = "PublishAllPorts",
        readonly_rootfs: bool = "ReadonlyRootfs",
        security_opt: Option<Vec<String>> = "SecurityOpt",
        storage_opt: StringMap = "StorageOpt" omitempty,
        tmpfs: StringMap = "Tmpfs" omitempty,
        uts_mode: String = "UTSMode",
        userns_mode: String = "UsernsMode",
        shm_size: i64 = "ShmSize",
        sysctls: StringMap = "Sysctls" omitempty,
        runtime: String = "Runtime" omitempty,
        isolation: String = "Isolation",
        resources: Resources = flat,
        mounts: Vec<Mount> = "Mounts" omitempty,
        /// `null` asks for the default set, `[]` for none.
        masked_paths: Option<Vec<String>> = "MaskedPaths",
        /// `null` asks for the default set, `[]` for none.
        readonly_paths: Option<Vec<String>> = "ReadonlyPaths",
        init: Option<bool> = "Init" omitempty,
    }

    /// The driver that keeps a container's output.
    pub struct LogConfig {
        kind: String = "Type",
        config: Option<StringMap> = "Config",
    }

    /// One host address and port of a published port.
    pub struct PortBinding {
        host_ip: String = "HostIp",
        /// A number, a range, or empty for any free port.
        host_port: String = "HostPort",
    }

    /// When an ended container is started again.
    pub struct RestartPolicy {
        /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
        name: String = "Name",
        maximum_retry_count: i64 = "MaximumRetryCount",
    }

    /// The share of one block device.
    pub struct WeightDevice {
        path: String = "Path",
        weight: u16 = "Weight",
    }

    /// The throttle of one block device, in bytes or operations per second.
    pub struct ThrottleDevice {
        path: String = "Path",
        rate: u64 = "Rate",
    }

    /// A host device given to a container.
    pub struct DeviceMapping {
        path_on_host: String = "PathOnHost",
        path_in_container: String = "PathInContainer",
        cgroup_permissions: String = "CgroupPermissions",
    }

    /// Devices that a driver (GPU, CDI) is asked for.
    pub struct DeviceRequest {
        driver: String = "Driver",
        count: i64 = "Count",
        device_ids: Option<Vec<String>> = "DeviceIDs",
        capabilities: Option<Vec<Vec<String>>> = "Capabilities",
        options: Option<StringMap> = "Options",
    }

    /// A resource limit of the process (`setrlimit`).
    pub struct Ulimit {
        name: String = "Name",
        hard: i64 = "Hard",
        soft: i64 = "Soft",
    }

    /// `POST /containers/{id}/update`.
    pub struct ContainerUpdateRequest {
        resources: Resources = flat,
        restart_policy: RestartPolicy = "RestartPolicy",
        /// Ours: settings that Docker's API has no field for, `wharf.*`.
        annotations: StringMap = "Annotations" omitempty,
    }

    /// The answer of `POST /containers/{id}/update`.
    pub struct ContainerUpdateResponse {
        warnings: Option<Vec<String>> = "Warnings",
    }
}
