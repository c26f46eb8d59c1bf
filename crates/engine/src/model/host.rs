//! How this host runs a container: limits, isolation, mounts, ports, policy.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::MountSpec;

/// The host's half of a container's configuration. Modes are kept in Docker's syntax;
/// [`super::modes`] parses them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// Limits.
    #[serde(flatten)]
    pub resources: Resources,
    /// `source:target[:options]`.
    pub binds: Option<Vec<String>>,
    /// Where the client wrote the id (echoed).
    pub container_id_file: String,
    /// Log driver and its options.
    pub log_config: LogConfig,
    /// `bridge`, `none`, `host`, `container:X`, a network; see [`super::NetworkMode`].
    pub network_mode: String,
    /// `port/proto` to host addresses.
    pub port_bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>>,
    /// What happens after the container ended.
    pub restart_policy: RestartPolicy,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// Driver of volumes made for `binds` and `volumes`.
    pub volume_driver: String,
    /// `container[:ro|rw]` whose mounts are taken over.
    pub volumes_from: Option<Vec<String>>,
    /// Mounts in the long form.
    pub mounts: Option<Vec<MountSpec>>,
    /// `[height, width]` of the first terminal.
    pub console_size: [u32; 2],
    /// Passed to the OCI runtime.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Capabilities to add, or `ALL`.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities to drop, or `ALL`.
    pub cap_drop: Option<Vec<String>>,
    /// `host` or `private`; see [`super::CgroupnsMode`].
    pub cgroupns_mode: String,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Resolver options.
    pub dns_options: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address` lines of /etc/hosts.
    pub extra_hosts: Option<Vec<String>>,
    /// Supplementary groups.
    pub group_add: Option<Vec<String>>,
    /// See [`super::IpcMode`].
    pub ipc_mode: String,
    /// Cgroup of another container (never used by clients; echoed).
    pub cgroup: String,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// OOM score adjustment, -1000 to 1000.
    pub oom_score_adj: i64,
    /// See [`super::PidMode`].
    pub pid_mode: String,
    /// Everything allowed.
    pub privileged: bool,
    /// Publish every exposed port on a free host port.
    pub publish_all_ports: bool,
    /// Root file system read-only.
    pub readonly_rootfs: bool,
    /// `seccomp=`, `apparmor=`, `no-new-privileges`, `label=`, `systempaths=unconfined`.
    pub security_opt: Option<Vec<String>>,
    /// Storage driver options (`size`).
    pub storage_opt: Option<BTreeMap<String, String>>,
    /// Path to mount options.
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// See [`super::UtsMode`].
    pub uts_mode: String,
    /// See [`super::UsernsMode`].
    pub userns_mode: String,
    /// Bytes of /dev/shm; 0 means 64 MiB.
    pub shm_size: i64,
    /// Kernel parameters of its namespaces.
    pub sysctls: Option<BTreeMap<String, String>>,
    /// OCI runtime; empty means the built-in one.
    pub runtime: String,
    /// Windows only (echoed).
    pub isolation: String,
    /// `None` means the default list.
    pub masked_paths: Option<Vec<String>>,
    /// `None` means the default list.
    pub readonly_paths: Option<Vec<String>>,
}

/// Limits; zero, empty or `None` means none asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight, 1024 is usual.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory: i64,
    /// Cgroup under which the container's is made.
    pub cgroup_parent: String,
    /// 10 to 1000.
    pub blkio_weight: u16,
    /// Weight of devices.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Bytes per second read from devices.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Bytes per second written to devices.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Reads per second from devices.
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Writes per second to devices.
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Microseconds.
    pub cpu_realtime_period: i64,
    /// Microseconds.
    pub cpu_realtime_runtime: i64,
    /// `0-3,5`.
    pub cpuset_cpus: String,
    /// `0-1`.
    pub cpuset_mems: String,
    /// Host devices given to the container.
    pub devices: Option<Vec<DeviceMapping>>,
    /// `c 1:3 rwm`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices by capability (GPUs).
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Kernel TCP memory (obsolete; echoed).
    pub kernel_memory_tcp: i64,
    /// Soft limit in bytes.
    pub memory_reservation: i64,
    /// Memory plus swap in bytes; -1 is unlimited.
    pub memory_swap: i64,
    /// 0 to 100; `None` or -1 leaves the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Billionths of a CPU.
    pub nano_cpus: i64,
    /// Do not kill on OOM.
    pub oom_kill_disable: Option<bool>,
    /// Run an init that reaps.
    pub init: Option<bool>,
    /// Number of processes; `None` or 0 means the default, -1 unlimited.
    pub pids_limit: Option<i64>,
    /// Resource limits of processes.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Windows only (echoed).
    pub cpu_count: i64,
    /// Windows only (echoed).
    pub cpu_percent: i64,
    /// Windows only (echoed).
    pub io_maximum_iops: u64,
    /// Windows only (echoed).
    pub io_maximum_bandwidth: u64,
}

/// A weight for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Device file on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// Device file on the host.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// One host device inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// File or directory on the host.
    pub path_on_host: String,
    /// Where it appears; empty means the same path.
    pub path_in_container: String,
    /// Of `rwm`; empty means all.
    pub cgroup_permissions: String,
}

/// Devices asked for by capability.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// Driver name, such as `nvidia` or `cdi`.
    pub driver: String,
    /// How many; -1 all.
    pub count: i64,
    /// Which ones.
    pub device_ids: Option<Vec<String>>,
    /// Any of these sets of capabilities.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// For the driver.
    pub options: Option<BTreeMap<String, String>>,
}

/// A process resource limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, ...
    pub name: String,
    /// Soft limit; -1 is unlimited.
    pub soft: i64,
    /// Hard limit; -1 is unlimited.
    pub hard: i64,
}

/// Log driver and its options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// One of [`LOG_DRIVERS`](crate::logging::LOG_DRIVERS); empty means the engine's default.
    pub driver: String,
    /// `max-size`, `max-file`, ...
    pub options: Option<BTreeMap<String, String>>,
}

/// One published address of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBinding {
    /// Host address; empty means all.
    pub host_ip: String,
    /// Host port or range; empty means any free one.
    pub host_port: String,
}

/// What happens after the container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `no` or empty, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Of `on-failure`; 0 means no bound.
    pub maximum_retry_count: i64,
}
