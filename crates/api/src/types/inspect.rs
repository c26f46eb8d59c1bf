//! `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use super::{ContainerConfig, Descriptor, EndpointSettings, HostConfig, MountPoint, PortMap, StringMap};

wire! {
    /// Everything about one container.
    pub struct ContainerInspect {
        id: String = "Id",
        created: String = "Created",
        path: String = "Path",
        args: Vec<String> = "Args",
        state: ContainerState = "State",
        image: String = "Image",
        resolv_conf_path: String = "ResolvConfPath",
        hostname_path: String = "HostnamePath",
        hosts_path: String = "HostsPath",
        log_path: String = "LogPath",
        name: String = "Name",
        restart_count: i64 = "RestartCount",
        driver: String = "Driver",
        platform: String = "Platform",
        mount_label: String = "MountLabel",
        process_label: String = "ProcessLabel",
        app_armor_profile: String = "AppArmorProfile",
        exec_ids: Option<Vec<String>> = "ExecIDs",
        host_config: HostConfig = "HostConfig",
        graph_driver: Option<DriverData> = "GraphDriver" omitempty,
        size_rw: Option<i64> = "SizeRw" omitempty,
        size_root_fs: Option<i64> = "SizeRootFs" omitempty,
        image_manifest_descriptor: Option<Descriptor> = "ImageManifestDescriptor" omitempty,
        mounts: Vec<MountPoint> = "Mounts",
        config: ContainerConfig = "Config",
        network_settings: NetworkSettings = "NetworkSettings",
    }

    /// The life of a container so far.
    pub struct ContainerState {
        status: String = "Status",
        running: bool = "Running",
        paused: bool = "Paused",
        restarting: bool = "Restarting",
        oom_killed: bool = "OOMKilled",
        dead: bool = "Dead",
        pid: i64 = "Pid",
        exit_code: i64 = "ExitCode",
        error: String = "Error",
        started_at: String = "StartedAt",
        finished_at: String = "FinishedAt",
        health: Option<Health> = "Health" omitempty,
    }

    /// What the health probes found.
    pub struct Health {
        status: String = "Status",
        failing_streak: i64 = "FailingStreak",
        log: Option<Vec<HealthcheckResult>> = "Log",
    }

    /// One health probe.
    pub struct HealthcheckResult {
        start: String = "Start",
        end: String = "End",
        exit_code: i64 = "ExitCode",
        output: String = "Output",
    }

    /// The storage driver's own facts (`GraphDriver`).
    pub struct DriverData {
        data: Option<StringMap> = "Data",
        name: String = "Name",
    }

    /// A container's networks. The address fields at this level repeat the default bridge's
    /// endpoint; they are absent on user networks.
    pub struct NetworkSettings {
        bridge: Option<String> = "Bridge" omitempty,
        sandbox_id: String = "SandboxID",
        sandbox_key: String = "SandboxKey",
        ports: Option<PortMap> = "Ports",
        hairpin_mode: Option<bool> = "HairpinMode" omitempty,
        link_local_ipv6_address: Option<String> = "LinkLocalIPv6Address" omitempty,
        link_local_ipv6_prefix_len: Option<i64> = "LinkLocalIPv6PrefixLen" omitempty,
        endpoint_id: Option<String> = "EndpointID" omitempty,
        gateway: Option<String> = "Gateway" omitempty,
        global_ipv6_address: Option<String> = "GlobalIPv6Address" omitempty,
        global_ipv6_prefix_len: Option<i64> = "GlobalIPv6PrefixLen" omitempty,
        ip_address: Option<String> = "IPAddress" omitempty,
        ip_prefix_len: Option<i64> = "IPPrefixLen" omitempty,
        ipv6_gateway: Option<String> = "IPv6Gateway" omitempty,
        mac_address: Option<String> = "MacAddress" omitempty,
        networks: Option<BTreeMap<String, Option<EndpointSettings>>> = "Networks",
    }
}
