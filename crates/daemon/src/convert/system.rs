//! `/version`, `/info` and disk usage.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use wharf_api::ApiVersion;
use wharf_api::types as wire;
use wharf_engine::build::CacheRecord;
use wharf_engine::logging::LOG_DRIVERS;
use wharf_engine::model::Timestamp;
use wharf_engine::runtimes::{BUILTIN_RUNTIME, Runtime};
use wharf_engine::system::{DiskUsage, HostFacts, Info};

use super::{container, image, volume};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Networks that containers may ask for.
const NETWORK_DRIVERS: [&str; 3] = ["bridge", "host", "null"];
/// The address that clients key Docker Hub's credentials by.
const HUB: &str = "https://index.docker.io/v1/";

/// Facts about this build: commit, compiler, time.
struct Build {
    commit: &'static str,
    compiler: &'static str,
    time: String,
}

impl Build {
    fn of_this_program() -> Self {
        let written = std::env::current_exe()
            .and_then(std::fs::metadata)
            .and_then(|meta| meta.modified());
        Self {
            commit: option_env!("WHARF_COMMIT").unwrap_or("unknown"),
            compiler: concat!("rust", env!("CARGO_PKG_RUST_VERSION")),
            time: Timestamp::from(written.unwrap_or(UNIX_EPOCH)).to_string(),
        }
    }
}

/// `GET /version`.
pub(crate) fn version_to_wire(host: &HostFacts) -> wire::SystemVersion {
    let build = Build::of_this_program();
    let details = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("Arch", architecture(&host.machine).to_owned()),
        ("BuildTime", build.time.clone()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", build.commit.to_owned()),
        ("GoVersion", build.compiler.to_owned()),
        ("KernelVersion", host.kernel.clone()),
        ("MinAPIVersion", ApiVersion::MIN.to_string()),
        ("Os", "linux".to_owned()),
    ];
    let component = |name: &str, details: Option<BTreeMap<String, String>>| wire::ComponentVersion {
        name: name.to_owned(),
        version: VERSION.to_owned(),
        details,
    };
    let engine = details
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let commit = BTreeMap::from([("GitCommit".to_owned(), build.commit.to_owned())]);
    wire::SystemVersion {
        platform: wire::PlatformName {
            name: "Wharf".to_owned(),
        },
        components: vec![
            component("Engine", Some(engine)),
            component(BUILTIN_RUNTIME, Some(commit)),
        ],
        version: VERSION.to_owned(),
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: ApiVersion::MIN.to_string(),
        git_commit: build.commit.to_owned(),
        go_version: build.compiler.to_owned(),
        os: "linux".to_owned(),
        arch: architecture(&host.machine).to_owned(),
        kernel_version: host.kernel.clone(),
        experimental: false,
        build_time: build.time,
    }
}

/// Go's name of an architecture.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /info`, for a client of `version`.
pub(crate) fn info_to_wire(info: Info, version: ApiVersion) -> wire::SystemInfo {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let (running, paused, stopped) = info.containers;
    let host = info.host;
    let limits = host.limits;
    let commit = || wire::Commit {
        id: VERSION.to_owned(),
        expected: expected(version),
    };
    let [http_proxy, https_proxy, no_proxy] = host.proxies;
    wire::SystemInfo {
        id: info.id,
        containers: count(running + paused + stopped),
        containers_running: count(running),
        containers_paused: count(paused),
        containers_stopped: count(stopped),
        images: count(info.images),
        driver: "overlayfs".to_owned(),
        // COMPAT: by this pair clients know that images are identified by their manifests.
        driver_status: Some(vec![[
            "driver-type".to_owned(),
            "io.containerd.snapshotter.v1".to_owned(),
        ]]),
        plugins: plugins(info.volume_drivers),
        memory_limit: limits.memory,
        swap_limit: limits.swap,
        cpu_cfs_period: limits.cpu_quota,
        cpu_cfs_quota: limits.cpu_quota,
        cpu_shares: limits.cpu_shares,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        ipv4_forwarding: host.ipv4_forwarding,
        bridge_nf_iptables: (!version.at_least(50)).then_some(false),
        bridge_nf_ip6tables: (!version.at_least(50)).then_some(false),
        nfd: count(info.open_files),
        oom_kill_disable: limits.oom_kill_disable,
        ngoroutines: count(info.tasks),
        system_time: Timestamp::now().to_string(),
        logging_driver: info.logging_driver,
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: host.cgroup_version.to_string(),
        nevents_listener: count(info.watchers),
        kernel_version: host.kernel,
        operating_system: host.system,
        os_version: host.system_version,
        os_type: "linux".to_owned(),
        architecture: host.machine,
        index_server_address: HUB.to_owned(),
        registry_config: Some(registries(&info.insecure_registries, &info.mirrors)),
        ncpu: count(host.processors),
        mem_total: i64::try_from(host.memory).unwrap_or(i64::MAX),
        docker_root_dir: info.root.to_string_lossy().into_owned(),
        http_proxy,
        https_proxy,
        no_proxy,
        name: host.name,
        debug: info.debug,
        labels: info.labels,
        server_version: VERSION.to_owned(),
        runtimes: runtimes(info.runtimes),
        default_runtime: info.default_runtime,
        swarm: wire::SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..wire::SwarmInfo::default()
        },
        // Containers always outlive the engine.
        live_restore_enabled: true,
        init_binary: "wharf-shim".to_owned(),
        containerd_commit: commit(),
        runc_commit: commit(),
        init_commit: commit(),
        security_options: host.security,
        firewall_backend: firewall(version),
        cdi_spec_dirs: Some(Vec::new()),
        warnings: Some(info.warnings).filter(|warnings| !warnings.is_empty()),
        ..wire::SystemInfo::default()
    }
}

/// Told since API 1.49.
fn firewall(version: ApiVersion) -> Option<wire::FirewallInfo> {
    version.at_least(49).then(|| wire::FirewallInfo {
        driver: "nftables".to_owned(),
        info: Vec::new(),
    })
}

/// Before API 1.50 a commit also told what was expected.
fn expected(version: ApiVersion) -> String {
    if version.at_least(50) {
        String::new()
    } else {
        VERSION.to_owned()
    }
}

fn plugins(volume_drivers: Vec<String>) -> wire::PluginsInfo {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    wire::PluginsInfo {
        volume: volume_drivers,
        network: list(&NETWORK_DRIVERS),
        authorization: None,
        log: list(&LOG_DRIVERS),
    }
}

fn runtimes(known: BTreeMap<String, Runtime>) -> BTreeMap<String, wire::Runtime> {
    let convert = |runtime: Runtime| match runtime {
        Runtime::Oci { path, args } => wire::Runtime {
            path: path.to_string_lossy().into_owned(),
            runtime_args: args,
            ..wire::Runtime::default()
        },
        Runtime::Shim { runtime_type, options } => wire::Runtime {
            runtime_type,
            options: (!options.is_empty()).then_some(serde_json::Value::Object(options)),
            ..wire::Runtime::default()
        },
    };
    known
        .into_iter()
        .map(|(name, runtime)| (name, convert(runtime)))
        .collect()
}

fn registries(insecure: &[String], mirrors: &[String]) -> wire::RegistryServiceConfig {
    let (ranges, names): (Vec<_>, Vec<_>) = insecure.iter().partition(|entry| entry.parse::<ipnet::IpNet>().is_ok());
    // COMPAT: Docker shows mirrors with a slash at the end.
    let slashed: Vec<String> = mirrors
        .iter()
        .map(|m| format!("{}/", m.trim_end_matches('/')))
        .collect();
    let mut cidrs = vec!["::1/128".to_owned(), "127.0.0.0/8".to_owned()];
    cidrs.extend(ranges.into_iter().cloned());
    let index = |name: &str, secure, official| wire::IndexInfo {
        name: name.to_owned(),
        mirrors: if official { slashed.clone() } else { Vec::new() },
        secure,
        official,
    };
    let mut indexes = BTreeMap::from([("docker.io".to_owned(), index("docker.io", true, true))]);
    indexes.extend(names.into_iter().map(|name| (name.clone(), index(name, false, false))));
    wire::RegistryServiceConfig {
        insecure_registry_cidrs: cidrs,
        index_configs: indexes,
        mirrors: Some(slashed.clone()),
        ..wire::RegistryServiceConfig::default()
    }
}

/// `GET /system/df`.
pub(crate) fn usage_to_wire(usage: DiskUsage, version: ApiVersion) -> wire::DiskUsage {
    let cached = |record: &CacheRecord| wire::BuildCache {
        id: record.id.clone(),
        kind: "regular".to_owned(),
        description: record.description.clone(),
        size: i64::try_from(record.size_bytes).unwrap_or(i64::MAX),
        created_at: record.created.clone(),
        last_used_at: Some(Timestamp::from(record.last_used).to_string()),
        ..wire::BuildCache::default()
    };
    wire::DiskUsage {
        layers_size: usage.layers_size.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        images: usage.images.map(|list| {
            list.iter()
                .map(|listed| wire::ImageSummary {
                    // COMPAT: counted here for every version; lists leave it out (-1).
                    containers: image::count(listed.containers),
                    ..image::summary_to_wire(listed, version)
                })
                .collect()
        }),
        containers: usage.containers.map(|list| {
            list.iter()
                .map(|listed| container::summary_to_wire(listed, version))
                .collect()
        }),
        volumes: usage
            .volumes
            .map(|list| list.into_iter().map(volume::usage_to_wire).collect()),
        build_cache: usage.build_cache.map(|records| records.iter().map(cached).collect()),
        builder_size: None,
    }
}
