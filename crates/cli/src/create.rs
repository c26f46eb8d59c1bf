//! From the flags of `create` and `run` to the body of `POST /containers/create`: a pure function
//! of the flags, the environment and the files they name. The result is what Docker's own CLI
//! sends for the same flags; `tests/create_bodies.rs` compares the two.

mod checks;
mod devices;
mod environment;
pub(crate) mod flags;
mod mounts;
mod networks;
mod ports;
mod security;

use wharf_api::types::{
    ContainerConfig, ContainerCreateRequest, HealthConfig, HostConfig, LogConfig, NetworkingConfig, Resources,
    RestartPolicy, StringMap,
};

pub(crate) use environment::{read_env, to_map};
pub(crate) use networks::endpoint_settings_from_connect;
pub(crate) use security::ulimits;

use crate::error::CliError;
use crate::flags::Parsed;

/// The body for the flags, with the image and command taken from the positional arguments.
pub(crate) fn request(parsed: &Parsed, proxies: &[(String, String)]) -> Result<ContainerCreateRequest, CliError> {
    let (binds, volumes) = mounts::binds_and_volumes(&parsed.all("volume"))?;
    let (exposed, bindings) = ports::exposed_and_published(&parsed.all("publish"), &parsed.all("expose"))?;
    let networks = networks::plan(parsed)?;
    let mut config = config(parsed, proxies)?;
    config.exposed_ports = exposed;
    config.volumes = Some(volumes);
    let mut host = host_config(parsed)?;
    host.binds = binds;
    host.port_bindings = Some(bindings);
    host.network_mode = networks.mode.clone();
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(CliError::message(
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    Ok(ContainerCreateRequest {
        config,
        host_config: Some(host),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(networks.endpoints),
        }),
    })
}

fn config(parsed: &Parsed, proxies: &[(String, String)]) -> Result<ContainerConfig, CliError> {
    let attach = parsed.all("attach");
    let attached = |name: &str| attach.iter().any(|stream| stream == name);
    let open_stdin = parsed.is_on("interactive");
    let attach_stdin = open_stdin || attached("stdin");
    let environment = read_env(&parsed.all("env-file"), &parsed.all("env"), proxies)?;
    let labels = environment::read_labels(&parsed.all("label-file"), &parsed.all("label"))?;
    let command: Vec<String> = parsed.args.iter().skip(1).cloned().collect();
    Ok(ContainerConfig {
        hostname: parsed.text("hostname").to_owned(),
        domainname: parsed.text("domainname").to_owned(),
        user: parsed.text("user").to_owned(),
        attach_stdin,
        attach_stdout: attach.is_empty() || attached("stdout"),
        attach_stderr: attach.is_empty() || attached("stderr"),
        tty: parsed.is_on("tty"),
        open_stdin,
        stdin_once: open_stdin && attach_stdin,
        env: some_unless_empty(environment),
        cmd: some_unless_empty(command),
        healthcheck: health(parsed)?,
        image: parsed.arg(0).to_owned(),
        working_dir: parsed.text("workdir").to_owned(),
        entrypoint: parsed.last("entrypoint").map(|program| vec![program.to_owned()]),
        labels: Some(labels),
        stop_signal: parsed.text("stop-signal").to_owned(),
        stop_timeout: parsed.number_given("stop-timeout"),
        ..ContainerConfig::default()
    })
}

fn host_config(parsed: &Parsed) -> Result<HostConfig, CliError> {
    let security = security::options(parsed.all("security-opt"))?;
    let capabilities = security::capabilities(&parsed.all("cap-add"), &parsed.all("cap-drop"));
    if parsed.is_on("use-api-socket") {
        return Err(CliError::message(
            "--use-api-socket is not supported: mount the engine's socket with --mount instead",
        ));
    }
    Ok(HostConfig {
        container_id_file: parsed.text("cidfile").to_owned(),
        log_config: log_config(parsed)?,
        restart_policy: restart_policy(parsed.last("restart").unwrap_or("no"))?,
        auto_remove: parsed.is_on("rm"),
        volume_driver: parsed.text("volume-driver").to_owned(),
        volumes_from: some_unless_empty(parsed.all("volumes-from")),
        annotations: annotations(parsed),
        cap_add: some_unless_empty(capabilities.add),
        cap_drop: some_unless_empty(capabilities.drop),
        cgroupns_mode: mode(parsed, "cgroupns", "CGROUP", |m| matches!(m, "" | "host" | "private"))?,
        dns: Some(parsed.all("dns")),
        dns_options: Some([parsed.all("dns-option"), parsed.all("dns-opt")].concat()),
        dns_search: Some(parsed.all("dns-search")),
        extra_hosts: some_unless_empty(parsed.all("add-host")),
        group_add: some_unless_empty(parsed.all("group-add")),
        ipc_mode: parsed.text("ipc").to_owned(),
        links: some_unless_empty(parsed.all("link")),
        oom_score_adj: parsed.number("oom-score-adj"),
        pid_mode: mode(parsed, "pid", "PID", |m| {
            matches!(m, "" | "host") || m.strip_prefix("container:").is_some_and(|id| !id.is_empty())
        })?,
        privileged: parsed.is_on("privileged"),
        publish_all_ports: parsed.is_on("publish-all"),
        readonly_rootfs: parsed.is_on("read-only"),
        security_opt: some_unless_empty(security.options),
        storage_opt: storage_options(&parsed.all("storage-opt"))?,
        tmpfs: mounts::tmpfs(&parsed.all("tmpfs")),
        uts_mode: mode(parsed, "uts", "UTS", |m| matches!(m, "" | "host"))?,
        userns_mode: mode(parsed, "userns", "USER", |m| matches!(m, "" | "host"))?,
        shm_size: parsed.number("shm-size"),
        sysctls: to_map(&parsed.all("sysctl")),
        runtime: parsed.text("runtime").to_owned(),
        isolation: parsed.text("isolation").to_owned(),
        resources: resources(parsed)?,
        mounts: parsed
            .all("mount")
            .iter()
            .map(|text| mounts::parse(text))
            .collect::<Result<_, _>>()?,
        masked_paths: security.unmask.then(Vec::new),
        readonly_paths: security.unmask.then(Vec::new),
        init: parsed.is_given("init").then(|| parsed.is_on("init")),
        ..HostConfig::default()
    })
}

fn resources(parsed: &Parsed) -> Result<Resources, CliError> {
    let swappiness = parsed.number_given("memory-swappiness").unwrap_or(-1);
    if !(-1..=100).contains(&swappiness) {
        return Err(CliError::message(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    let devices = devices::plan(&parsed.all("device"), &parsed.all("gpus"))?;
    Ok(Resources {
        cpu_count: parsed.number("cpu-count"),
        cpu_percent: parsed.number("cpu-percent"),
        cpu_realtime_period: parsed.number("cpu-rt-period"),
        cpu_realtime_runtime: parsed.number("cpu-rt-runtime"),
        cgroup_parent: parsed.text("cgroup-parent").to_owned(),
        blkio_weight_device: Some(devices::weights(&parsed.all("blkio-weight-device"))?),
        blkio_device_read_bps: Some(devices::byte_rates(&parsed.all("device-read-bps"))?),
        blkio_device_write_bps: Some(devices::byte_rates(&parsed.all("device-write-bps"))?),
        blkio_device_read_iops: Some(devices::operation_rates(&parsed.all("device-read-iops"))?),
        blkio_device_write_iops: Some(devices::operation_rates(&parsed.all("device-write-iops"))?),
        devices: Some(devices.mappings),
        device_cgroup_rules: some_unless_empty(parsed.all("device-cgroup-rule")),
        device_requests: some_unless_empty(devices.requests),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(parsed.is_on("oom-kill-disable")),
        pids_limit: Some(parsed.number("pids-limit")),
        ulimits: Some(security::ulimits(&parsed.all("ulimit"))?),
        io_maximum_iops: u64::try_from(parsed.number("io-maxiops")).unwrap_or(0),
        io_maximum_bandwidth: u64::try_from(parsed.number("io-maxbandwidth")).unwrap_or(0),
        ..limits(parsed)
    })
}

/// The limits that `update` has too.
pub(crate) fn limits(parsed: &Parsed) -> Resources {
    Resources {
        cpu_shares: parsed.number("cpu-shares"),
        memory: parsed.number("memory"),
        nano_cpus: parsed.number("cpus"),
        blkio_weight: u16::try_from(parsed.number("blkio-weight")).unwrap_or(0),
        cpu_period: parsed.number("cpu-period"),
        cpu_quota: parsed.number("cpu-quota"),
        cpu_realtime_period: parsed.number("cpu-rt-period"),
        cpu_realtime_runtime: parsed.number("cpu-rt-runtime"),
        cpuset_cpus: parsed.text("cpuset-cpus").to_owned(),
        cpuset_mems: parsed.text("cpuset-mems").to_owned(),
        memory_reservation: parsed.number("memory-reservation"),
        memory_swap: parsed.number("memory-swap"),
        ..Resources::default()
    }
}

fn health(parsed: &Parsed) -> Result<Option<HealthConfig>, CliError> {
    let durations = ["interval", "timeout", "start-period", "start-interval"];
    let flag = |name: &str| format!("health-{name}");
    let negative = durations
        .iter()
        .copied()
        .chain(["retries"])
        .find(|name| parsed.number(&flag(name)) < 0);
    let line = parsed.text("health-cmd");
    let any = !line.is_empty()
        || durations
            .iter()
            .copied()
            .chain(["retries"])
            .any(|name| parsed.number(&flag(name)) != 0);
    if parsed.is_on("no-healthcheck") {
        if any {
            return Err(CliError::message("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..HealthConfig::default()
        }));
    }
    if let Some(name) = negative {
        return Err(CliError::message(format!("--health-{name} cannot be negative")));
    }
    let test = if line.is_empty() {
        Vec::new()
    } else {
        vec!["CMD-SHELL".to_owned(), line.to_owned()]
    };
    Ok(any.then(|| HealthConfig {
        test,
        interval: parsed.number("health-interval"),
        timeout: parsed.number("health-timeout"),
        start_period: parsed.number("health-start-period"),
        start_interval: parsed.number("health-start-interval"),
        retries: parsed.number("health-retries"),
    }))
}

/// Flags of ours that Docker's API has no field for, and the annotations that carry them.
const OWN_SETTINGS: &[(&str, &str)] = &[
    ("health-on-failure", HEALTH_ON_FAILURE),
    ("host-view", "wharf.host-view"),
];

/// The annotation that says what is done with an unhealthy container.
pub(crate) const HEALTH_ON_FAILURE: &str = "wharf.health-on-failure";

fn annotations(parsed: &Parsed) -> std::collections::BTreeMap<String, String> {
    let mut annotations = to_map(&parsed.all("annotation"));
    let ours = OWN_SETTINGS.iter().filter(|(flag, _)| !parsed.text(flag).is_empty());
    annotations.extend(ours.map(|(flag, name)| ((*name).to_owned(), parsed.text(flag).to_owned())));
    annotations
}

fn log_config(parsed: &Parsed) -> Result<LogConfig, CliError> {
    let kind = parsed.text("log-driver").to_owned();
    let options = parsed.all("log-opt");
    if kind == "none" && !options.is_empty() {
        return Err(CliError::message(format!("invalid logging opts for driver {kind}")));
    }
    Ok(LogConfig {
        kind,
        config: Some(to_map(&options)),
    })
}

/// `no`, `always`, `unless-stopped` or `on-failure[:N]`; unknown names are the engine's to refuse.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy, CliError> {
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => {
            return Err(CliError::message(
                "invalid restart policy format: no policy provided before colon",
            ));
        }
        Some((name, count)) => (name, count),
        None => (text, ""),
    };
    let maximum_retry_count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| CliError::message("invalid restart policy format: maximum retry count must be an integer"))?,
    };
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

fn storage_options(options: &[String]) -> Result<StringMap, CliError> {
    options
        .iter()
        .map(|option| {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| CliError::message("invalid storage option"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn mode(parsed: &Parsed, flag: &str, shown: &str, valid: fn(&str) -> bool) -> Result<String, CliError> {
    let text = parsed.text(flag);
    if valid(text) {
        Ok(text.to_owned())
    } else {
        Err(CliError::message(format!("--{flag}: invalid {shown} mode")))
    }
}

fn some_unless_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
