//! The host's half of a container's configuration.

use wharf_api::types as wire;
use wharf_engine::model::mounts::{BindOptions, ImageOptions, MountSpec, TmpfsOptions, VolumeOptions};
use wharf_engine::model::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, Resources, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};

/// From a create request.
pub(crate) fn from_wire(host: wire::HostConfig) -> HostConfig {
    let nonempty = |map: wire::StringMap| Some(map).filter(|map| !map.is_empty());
    let ports = |list: Vec<wire::PortBinding>| list.into_iter().map(port_from_wire).collect();
    HostConfig {
        resources: resources_from_wire(host.resources, host.init),
        binds: host.binds,
        container_id_file: host.container_id_file,
        log_config: LogConfig {
            driver: host.log_config.kind,
            options: host.log_config.config,
        },
        network_mode: host.network_mode,
        port_bindings: host
            .port_bindings
            .map(|map| map.into_iter().map(|(port, list)| (port, list.map(ports))).collect()),
        restart_policy: policy_from_wire(host.restart_policy),
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver,
        volumes_from: host.volumes_from,
        mounts: Some(host.mounts)
            .filter(|list| !list.is_empty())
            .map(|l| l.into_iter().map(mount_from_wire).collect()),
        console_size: host.console_size,
        annotations: nonempty(host.annotations),
        cap_add: host.cap_add,
        cap_drop: host.cap_drop,
        cgroupns_mode: host.cgroupns_mode,
        dns: host.dns,
        dns_options: host.dns_options,
        dns_search: host.dns_search,
        extra_hosts: host.extra_hosts,
        group_add: host.group_add,
        ipc_mode: host.ipc_mode,
        cgroup: host.cgroup,
        links: host.links,
        oom_score_adj: host.oom_score_adj,
        pid_mode: host.pid_mode,
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: host.security_opt,
        storage_opt: nonempty(host.storage_opt),
        tmpfs: nonempty(host.tmpfs),
        uts_mode: host.uts_mode,
        userns_mode: host.userns_mode,
        shm_size: host.shm_size,
        sysctls: nonempty(host.sysctls),
        runtime: host.runtime,
        isolation: host.isolation,
        masked_paths: host.masked_paths,
        readonly_paths: host.readonly_paths,
    }
}

/// For inspect.
pub(crate) fn to_wire(host: &HostConfig) -> wire::HostConfig {
    let map = |map: &Option<wire::StringMap>| map.clone().unwrap_or_default();
    let ports = |list: &Vec<PortBinding>| list.iter().map(port_to_wire).collect();
    let bindings = host.port_bindings.iter().flatten();
    wire::HostConfig {
        binds: host.binds.clone(),
        container_id_file: host.container_id_file.clone(),
        log_config: wire::LogConfig {
            kind: host.log_config.driver.clone(),
            config: Some(host.log_config.options.clone().unwrap_or_default()),
        },
        network_mode: host.network_mode.clone(),
        port_bindings: Some(
            bindings
                .map(|(port, list)| (port.clone(), list.as_ref().map(ports)))
                .collect(),
        ),
        restart_policy: policy_to_wire(&host.restart_policy),
        auto_remove: host.auto_remove,
        volume_driver: host.volume_driver.clone(),
        volumes_from: host.volumes_from.clone(),
        console_size: host.console_size,
        annotations: map(&host.annotations),
        cap_add: host.cap_add.clone(),
        cap_drop: host.cap_drop.clone(),
        cgroupns_mode: host.cgroupns_mode.clone(),
        dns: host.dns.clone(),
        dns_options: host.dns_options.clone(),
        dns_search: host.dns_search.clone(),
        extra_hosts: host.extra_hosts.clone(),
        group_add: host.group_add.clone(),
        ipc_mode: host.ipc_mode.clone(),
        cgroup: host.cgroup.clone(),
        links: host.links.clone(),
        oom_score_adj: host.oom_score_adj,
        pid_mode: host.pid_mode.clone(),
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: host.security_opt.clone(),
        storage_opt: map(&host.storage_opt),
        tmpfs: map(&host.tmpfs),
        uts_mode: host.uts_mode.clone(),
        userns_mode: host.userns_mode.clone(),
        shm_size: host.shm_size,
        sysctls: map(&host.sysctls),
        runtime: host.runtime.clone(),
        isolation: host.isolation.clone(),
        resources: resources_to_wire(&host.resources),
        mounts: host.mounts.iter().flatten().map(mount_to_wire).collect(),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        init: host.resources.init,
    }
}

fn port_from_wire(binding: wire::PortBinding) -> PortBinding {
    PortBinding {
        host_ip: binding.host_ip,
        host_port: binding.host_port,
    }
}

fn port_to_wire(binding: &PortBinding) -> wire::PortBinding {
    wire::PortBinding {
        host_ip: binding.host_ip.clone(),
        host_port: binding.host_port.clone(),
    }
}

/// A restart policy from a create or update request.
pub(crate) fn policy_from_wire(policy: wire::RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        name: policy.name,
        maximum_retry_count: policy.maximum_retry_count,
    }
}

fn policy_to_wire(policy: &RestartPolicy) -> wire::RestartPolicy {
    // COMPAT: no policy is shown as `no`.
    let name = if policy.name.is_empty() { "no" } else { &policy.name };
    wire::RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count: policy.maximum_retry_count,
    }
}

/// Limits from a create or update request.
pub(crate) fn resources_from_wire(limits: wire::Resources, init: Option<bool>) -> Resources {
    let throttles = |list: Option<Vec<wire::ThrottleDevice>>| {
        list.map(|list| {
            list.into_iter()
                .map(|d| ThrottleDevice {
                    path: d.path,
                    rate: d.rate,
                })
                .collect()
        })
    };
    let weight = |d: wire::WeightDevice| WeightDevice {
        path: d.path,
        weight: d.weight,
    };
    let ulimit = |u: wire::Ulimit| Ulimit {
        name: u.name,
        soft: u.soft,
        hard: u.hard,
    };
    Resources {
        cpu_shares: limits.cpu_shares,
        memory: limits.memory,
        cgroup_parent: limits.cgroup_parent,
        blkio_weight: limits.blkio_weight,
        blkio_weight_device: limits
            .blkio_weight_device
            .map(|list| list.into_iter().map(weight).collect()),
        blkio_device_read_bps: throttles(limits.blkio_device_read_bps),
        blkio_device_write_bps: throttles(limits.blkio_device_write_bps),
        blkio_device_read_iops: throttles(limits.blkio_device_read_iops),
        blkio_device_write_iops: throttles(limits.blkio_device_write_iops),
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_realtime_period: limits.cpu_realtime_period,
        cpu_realtime_runtime: limits.cpu_realtime_runtime,
        cpuset_cpus: limits.cpuset_cpus,
        cpuset_mems: limits.cpuset_mems,
        devices: limits
            .devices
            .map(|list| list.into_iter().map(device_from_wire).collect()),
        device_cgroup_rules: limits.device_cgroup_rules,
        device_requests: limits
            .device_requests
            .map(|list| list.into_iter().map(request_from_wire).collect()),
        kernel_memory_tcp: limits.kernel_memory_tcp,
        memory_reservation: limits.memory_reservation,
        memory_swap: limits.memory_swap,
        memory_swappiness: limits.memory_swappiness,
        nano_cpus: limits.nano_cpus,
        oom_kill_disable: limits.oom_kill_disable,
        init,
        // COMPAT: zero asks for the default, which is shown as null (oracle run/inspect_shape).
        pids_limit: limits.pids_limit.filter(|limit| *limit != 0),
        ulimits: limits.ulimits.map(|list| list.into_iter().map(ulimit).collect()),
        cpu_count: limits.cpu_count,
        cpu_percent: limits.cpu_percent,
        io_maximum_iops: limits.io_maximum_iops,
        io_maximum_bandwidth: limits.io_maximum_bandwidth,
    }
}

fn resources_to_wire(limits: &Resources) -> wire::Resources {
    let throttles = |list: &Option<Vec<ThrottleDevice>>| {
        let convert = |d: &ThrottleDevice| wire::ThrottleDevice {
            path: d.path.clone(),
            rate: d.rate,
        };
        list.as_ref().map(|list| list.iter().map(convert).collect::<Vec<_>>())
    };
    let weight = |d: &WeightDevice| wire::WeightDevice {
        path: d.path.clone(),
        weight: d.weight,
    };
    let ulimit = |u: &Ulimit| wire::Ulimit {
        name: u.name.clone(),
        soft: u.soft,
        hard: u.hard,
    };
    wire::Resources {
        cpu_shares: limits.cpu_shares,
        memory: limits.memory,
        nano_cpus: limits.nano_cpus,
        cgroup_parent: limits.cgroup_parent.clone(),
        blkio_weight: limits.blkio_weight,
        blkio_weight_device: limits
            .blkio_weight_device
            .as_ref()
            .map(|list| list.iter().map(weight).collect()),
        blkio_device_read_bps: throttles(&limits.blkio_device_read_bps),
        blkio_device_write_bps: throttles(&limits.blkio_device_write_bps),
        blkio_device_read_iops: throttles(&limits.blkio_device_read_iops),
        blkio_device_write_iops: throttles(&limits.blkio_device_write_iops),
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        cpu_realtime_period: limits.cpu_realtime_period,
        cpu_realtime_runtime: limits.cpu_realtime_runtime,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        devices: limits
            .devices
            .as_ref()
            .map(|list| list.iter().map(device_to_wire).collect()),
        device_cgroup_rules: limits.device_cgroup_rules.clone(),
        device_requests: limits
            .device_requests
            .as_ref()
            .map(|list| list.iter().map(request_to_wire).collect()),
        kernel_memory: 0,
        kernel_memory_tcp: limits.kernel_memory_tcp,
        memory_reservation: limits.memory_reservation,
        memory_swap: limits.memory_swap,
        memory_swappiness: limits.memory_swappiness,
        // COMPAT: not asked for is shown as false (oracle api/create_defaults_in_inspect).
        oom_kill_disable: Some(limits.oom_kill_disable.unwrap_or(false)),
        pids_limit: limits.pids_limit,
        ulimits: limits.ulimits.as_ref().map(|list| list.iter().map(ulimit).collect()),
        cpu_count: limits.cpu_count,
        cpu_percent: limits.cpu_percent,
        io_maximum_iops: limits.io_maximum_iops,
        io_maximum_bandwidth: limits.io_maximum_bandwidth,
    }
}

fn device_from_wire(device: wire::DeviceMapping) -> DeviceMapping {
    DeviceMapping {
        path_on_host: device.path_on_host,
        path_in_container: device.path_in_container,
        cgroup_permissions: device.cgroup_permissions,
    }
}

fn device_to_wire(device: &DeviceMapping) -> wire::DeviceMapping {
    wire::DeviceMapping {
        path_on_host: device.path_on_host.clone(),
        path_in_container: device.path_in_container.clone(),
        cgroup_permissions: device.cgroup_permissions.clone(),
    }
}

fn request_from_wire(request: wire::DeviceRequest) -> DeviceRequest {
    DeviceRequest {
        driver: request.driver,
        count: request.count,
        device_ids: request.device_ids,
        capabilities: request.capabilities,
        options: request.options,
    }
}

fn request_to_wire(request: &DeviceRequest) -> wire::DeviceRequest {
    wire::DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: request.device_ids.clone(),
        capabilities: request.capabilities.clone(),
        options: request.options.clone(),
    }
}

fn mount_from_wire(mount: wire::Mount) -> MountSpec {
    let nonempty = |map: wire::StringMap| Some(map).filter(|map| !map.is_empty());
    MountSpec {
        kind: mount.kind,
        source: mount.source,
        target: mount.target,
        read_only: mount.read_only,
        consistency: mount.consistency,
        bind: mount.bind_options.map(|bind| BindOptions {
            propagation: bind.propagation,
            non_recursive: bind.non_recursive,
            create_mountpoint: bind.create_mountpoint,
            read_only_non_recursive: bind.read_only_non_recursive,
            read_only_force_recursive: bind.read_only_force_recursive,
        }),
        volume: mount.volume_options.map(|volume| {
            let has_driver_config = volume.driver_config.is_some();
            let driver = volume.driver_config.unwrap_or_default();
            VolumeOptions {
                no_copy: volume.no_copy,
                labels: nonempty(volume.labels),
                driver: driver.name,
                has_driver_config,
                driver_options: nonempty(driver.options),
                subpath: volume.subpath,
            }
        }),
        image: mount.image_options.map(|image| ImageOptions { subpath: image.subpath }),
        tmpfs: mount.tmpfs_options.map(|tmpfs| TmpfsOptions {
            size_bytes: tmpfs.size_bytes,
            mode: tmpfs.mode,
            options: Some(tmpfs.options).filter(|options| !options.is_empty()),
        }),
    }
}

fn mount_to_wire(mount: &MountSpec) -> wire::Mount {
    wire::Mount {
        kind: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        bind_options: mount.bind.as_ref().map(|bind| wire::BindOptions {
            propagation: bind.propagation.clone(),
            non_recursive: bind.non_recursive,
            create_mountpoint: bind.create_mountpoint,
            read_only_non_recursive: bind.read_only_non_recursive,
            read_only_force_recursive: bind.read_only_force_recursive,
        }),
        volume_options: mount.volume.as_ref().map(|volume| wire::VolumeOptions {
            no_copy: volume.no_copy,
            labels: volume.labels.clone().unwrap_or_default(),
            subpath: volume.subpath.clone(),
            driver_config: volume.has_driver_config.then(|| wire::Driver {
                name: volume.driver.clone(),
                options: volume.driver_options.clone().unwrap_or_default(),
            }),
        }),
        image_options: mount.image.as_ref().map(|image| wire::ImageOptions {
            subpath: image.subpath.clone(),
        }),
        tmpfs_options: mount.tmpfs.as_ref().map(|tmpfs| wire::TmpfsOptions {
            size_bytes: tmpfs.size_bytes,
            mode: tmpfs.mode,
            options: tmpfs.options.clone().unwrap_or_default(),
        }),
        cluster_options: None,
    }
}
