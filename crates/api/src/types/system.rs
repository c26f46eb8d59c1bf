//! The engine itself: version, info, login.

use std::collections::BTreeMap;

use super::StringMap;

wire! {
    /// `GET /version`.
    pub struct SystemVersion {
        platform: PlatformName = "Platform",
        components: Vec<ComponentVersion> = "Components" omitempty,
        version: String = "Version",
        api_version: String = "ApiVersion",
        min_api_version: String = "MinAPIVersion" omitempty,
        git_commit: String = "GitCommit",
        go_version: String = "GoVersion",
        os: String = "Os",
        arch: String = "Arch",
        kernel_version: String = "KernelVersion" omitempty,
        experimental: bool = "Experimental" omitempty,
        build_time: String = "BuildTime" omitempty,
    }

    /// The name of the product.
    pub struct PlatformName {
        name: String = "Name",
    }

    /// The version of one part of the engine.
    pub struct ComponentVersion {
        name: String = "Name",
        version: String = "Version",
        details: Option<StringMap> = "Details" omitempty,
    }

    /// `GET /info`.
    pub struct SystemInfo {
        id: String = "ID",
        containers: i64 = "Containers",
        containers_running: i64 = "ContainersRunning",
        containers_paused: i64 = "ContainersPaused",
        containers_stopped: i64 = "ContainersStopped",
        images: i64 = "Images",
        driver: String = "Driver",
        driver_status: Option<Vec<[String; 2]>> = "DriverStatus",
        system_status: Vec<[String; 2]> = "SystemStatus" omitempty,
        plugins: PluginsInfo = "Plugins",
        memory_limit: bool = "MemoryLimit",
        swap_limit: bool = "SwapLimit",
        kernel_memory_tcp: bool = "KernelMemoryTCP" omitempty,
        cpu_cfs_period: bool = "CpuCfsPeriod",
        cpu_cfs_quota: bool = "CpuCfsQuota",
        cpu_shares: bool = "CPUShares",
        cpu_set: bool = "CPUSet",
        pids_limit: bool = "PidsLimit",
        ipv4_forwarding: bool = "IPv4Forwarding",
        bridge_nf_iptables: Option<bool> = "BridgeNfIptables" omitempty,
        bridge_nf_ip6tables: Option<bool> = "BridgeNfIp6tables" omitempty,
        debug: bool = "Debug",
        nfd: i64 = "NFd",
        oom_kill_disable: bool = "OomKillDisable",
        ngoroutines: i64 = "NGoroutines",
        system_time: String = "SystemTime",
        logging_driver: String = "LoggingDriver",
        cgroup_driver: String = "CgroupDriver",
        cgroup_version: String = "CgroupVersion" omitempty,
        nevents_listener: i64 = "NEventsListener",
        kernel_version: String = "KernelVersion",
        operating_system: String = "OperatingSystem",
        os_version: String = "OSVersion",
        os_type: String = "OSType",
        architecture: String = "Architecture",
        index_server_address: String = "IndexServerAddress",
        registry_config: Option<RegistryServiceConfig> = "RegistryConfig",
        ncpu: i64 = "NCPU",
        mem_total: i64 = "MemTotal",
        generic_resources: Option<Vec<serde_json::Value>> = "GenericResources",
        docker_root_dir: String = "DockerRootDir",
        http_proxy: String = "HttpProxy",
        https_proxy: String = "HttpsProxy",
        no_proxy: String = "NoProxy",
        name: String = "Name",
        labels: Vec<String> = "Labels",
        experimental_build: bool = "ExperimentalBuild",
        server_version: String = "ServerVersion",
        runtimes: BTreeMap<String, Runtime> = "Runtimes",
        default_runtime: String = "DefaultRuntime",
        swarm: SwarmInfo = "Swarm",
        live_restore_enabled: bool = "LiveRestoreEnabled",
        isolation: String = "Isolation",
        init_binary: String = "InitBinary",
        containerd_commit: Commit = "ContainerdCommit",
        runc_commit: Commit = "RuncCommit",
        init_commit: Commit = "InitCommit",
        security_options: Vec<String> = "SecurityOptions",
        product_license: String = "ProductLicense" omitempty,
        default_address_pools: Vec<AddressPool> = "DefaultAddressPools" omitempty,
        firewall_backend: Option<FirewallInfo> = "FirewallBackend" omitempty,
        discovered_devices: Vec<DiscoveredDevice> = "DiscoveredDevices" omitempty,
        cdi_spec_dirs: Option<Vec<String>> = "CDISpecDirs",
        containerd: Option<ContainerdInfo> = "Containerd" omitempty,
        warnings: Option<Vec<String>> = "Warnings",
    }

    /// The drivers that an engine offers.
    pub struct PluginsInfo {
        volume: Vec<String> = "Volume",
        network: Vec<String> = "Network",
        authorization: Option<Vec<String>> = "Authorization",
        log: Vec<String> = "Log",
    }

    /// The registries that an engine knows.
    pub struct RegistryServiceConfig {
        allow_nondistributable_cidrs: Option<Vec<String>> = "AllowNondistributableArtifactsCIDRs" omitempty,
        allow_nondistributable_hostnames: Option<Vec<String>> = "AllowNondistributableArtifactsHostnames" omitempty,
        insecure_registry_cidrs: Vec<String> = "InsecureRegistryCIDRs",
        index_configs: BTreeMap<String, IndexInfo> = "IndexConfigs",
        mirrors: Option<Vec<String>> = "Mirrors",
    }

    /// One registry.
    pub struct IndexInfo {
        name: String = "Name",
        mirrors: Vec<String> = "Mirrors",
        secure: bool = "Secure",
        official: bool = "Official",
    }

    /// An OCI runtime that containers may ask for.
    pub struct Runtime {
        path: String = "path" omitempty,
        runtime_args: Vec<String> = "runtimeArgs" omitempty,
        runtime_type: String = "runtimeType" omitempty,
        options: Option<serde_json::Value> = "options" omitempty,
        /// From 1.44.
        status: StringMap = "status" omitempty,
    }

    /// The engine's part in a swarm; `inactive` outside of one.
    pub struct SwarmInfo {
        node_id: String = "NodeID",
        node_addr: String = "NodeAddr",
        local_node_state: String = "LocalNodeState",
        control_available: bool = "ControlAvailable",
        error: String = "Error",
        remote_managers: Option<Vec<serde_json::Value>> = "RemoteManagers",
    }

    /// The version of an external program.
    pub struct Commit {
        id: String = "ID",
        /// Up to 1.49.
        expected: String = "Expected" omitempty,
    }

    /// A range that subnets are taken from.
    pub struct AddressPool {
        base: String = "Base",
        size: i64 = "Size",
    }

    /// How the engine filters packets.
    pub struct FirewallInfo {
        driver: String = "Driver",
        info: Vec<[String; 2]> = "Info" omitempty,
    }

    /// A device found on the host.
    pub struct DiscoveredDevice {
        source: String = "Source",
        id: String = "ID",
    }

    /// The containerd that an engine uses.
    pub struct ContainerdInfo {
        address: String = "Address" omitempty,
        namespaces: ContainerdNamespaces = "Namespaces",
    }

    /// The namespaces used in containerd.
    pub struct ContainerdNamespaces {
        containers: String = "Containers",
        plugins: String = "Plugins",
    }

    /// The answer of `POST /auth`.
    pub struct AuthResponse {
        status: String = "Status",
        identity_token: String = "IdentityToken" omitempty,
    }

    /// One element of `GET /plugins`.
    pub struct PluginSummary {
        id: String = "Id" omitempty,
        name: String = "Name",
        enabled: bool = "Enabled",
    }
}
