//! Checks of a request to create, in Docker's words, and the defaults that `inspect` shows.
use std::net::IpAddr;

use super::limits::{HostLimits, check_resources};
use crate::containers::signals::parse_signal;
use crate::error::{Error, Result};
use crate::logging::{self, LogDefaults};
use crate::model::annotations::check_annotations;
use crate::model::requests::CreateContainer;
use crate::model::*;
use crate::runtimes::Runtimes;
use crate::spec::{self, DEFAULT_SHM_BYTES, SecurityOptions, check_capability};

/// What validation has to know of the engine and its host.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings<'a> {
    /// CPUs, memory nodes, swap.
    pub limits: &'a HostLimits,
    /// Further runtimes.
    pub runtimes: &'a Runtimes,
    /// Log driver of containers that choose none.
    pub logging: &'a LogDefaults,
    /// Whether cgroup v2 is in use (decides over the default cgroup namespace).
    pub cgroup_v2: bool,
}

/// Checks everything that needs no other object; fills in defaults; answers warnings.
pub(crate) fn check_request(request: &mut CreateContainer, around: &Surroundings<'_>) -> Result<Vec<String>> {
    let mut warnings = check_resources(&mut request.host.resources, around.limits)?;
    check_config(&request.config)?;
    check_modes(&request.host)?;
    check_network_conflicts(request)?;
    check_names_and_addresses(&request.host)?;
    check_restart_policy(&request.host.restart_policy, request.host.auto_remove)?;
    around.logging.fill(&mut request.host.log_config);
    logging::check(&request.host.log_config)?;
    around.runtimes.check(&request.host.runtime)?;
    check_annotations(request.host.annotations.as_ref())?;
    check_isolation(&request.host)?;
    check_ports(request)?;
    check_sysctls(&request.host)?;
    discard_unsupported(&mut request.host, &mut warnings);
    fill_defaults(&mut request.host, around);
    Ok(warnings)
}

fn check_config(config: &ContainerConfig) -> Result<()> {
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    if !config.stop_signal.is_empty() {
        parse_signal(&config.stop_signal)?;
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if config.hostname.len() > 64 {
        return Err(Error::invalid(format!("invalid hostname format: {}", config.hostname)));
    }
    if !config.mac_address.is_empty() {
        config
            .mac_address
            .parse::<wharf_net::MacAddress>()
            .map_err(|e| Error::invalid(e.to_string()))?;
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

fn check_health(health: &HealthConfig) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    for (name, value) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if value != 0 && value < MILLISECOND {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match health.test.as_deref().and_then(|t| t.split_first()) {
        None => Ok(()),
        Some((kind, rest)) => match kind.as_str() {
            "NONE" if rest.is_empty() => Ok(()),
            "CMD" | "CMD-SHELL" => Ok(()),
            _ => Err(Error::invalid(format!("invalid health check test kind: {kind:?}"))),
        },
    }
}

fn check_modes(host: &HostConfig) -> Result<()> {
    let wrong = |what: &str, text: &str| Error::invalid(format!("invalid {what}: {text}"));
    IpcMode::parse(&host.ipc_mode).map_err(|_| wrong("IPC mode", &host.ipc_mode))?;
    PidMode::parse(&host.pid_mode).map_err(|_| wrong("PID mode", &host.pid_mode))?;
    UtsMode::parse(&host.uts_mode).map_err(|_| wrong("UTS mode", &host.uts_mode))?;
    UsernsMode::parse(&host.userns_mode).map_err(|_| wrong("user namespace mode", &host.userns_mode))?;
    CgroupnsMode::parse(&host.cgroupns_mode).map_err(|_| wrong("cgroup namespace mode", &host.cgroupns_mode))?;
    NetworkMode::parse(&host.network_mode)
        .map_err(|_| Error::invalid("Invalid network mode: invalid container format container:<name|id>"))?;
    if !host.isolation.is_empty() && host.isolation != "default" {
        return Err(wrong("isolation (only \"default\" on Linux)", &host.isolation));
    }
    Ok(())
}

fn check_network_conflicts(request: &CreateContainer) -> Result<()> {
    let host = &request.host;
    let mode = host.network();
    let joined = matches!(mode, NetworkMode::Container(_));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let conflict = |text: &str| Err(Error::invalid(format!("conflicting options: {text}")));
    if joined && !request.config.hostname.is_empty() {
        return conflict("hostname and the network mode");
    }
    if UtsMode::parse(&host.uts_mode) == Ok(UtsMode::Host) && !request.config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    if matches!(mode, NetworkMode::Host) && some(&host.links) {
        return conflict("host type networking can't be used with links. This would result in undefined behavior");
    }
    if joined && some(&host.links) {
        return conflict("container type network can't be used with links. This would result in undefined behavior");
    }
    if joined && some(&host.dns) {
        return conflict("dns and the network mode");
    }
    if joined && some(&host.extra_hosts) {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if (joined || matches!(mode, NetworkMode::Host)) && !request.config.mac_address.is_empty() {
        return conflict("mac-address and the network mode");
    }
    let publishes = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|p| !p.is_empty());
    if joined && publishes {
        return conflict("port publishing and the container type network mode");
    }
    if joined && request.config.exposed_ports.as_ref().is_some_and(|p| !p.is_empty()) {
        return conflict("port exposing and the container type network mode");
    }
    Ok(())
}

fn check_names_and_addresses(host: &HostConfig) -> Result<()> {
    for text in host.extra_hosts.iter().flatten() {
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = parts
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::invalid(format!("bad format for add-host: {text:?}")))?;
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!(
                "invalid IP address in add-host: {address:?} of {name}"
            )));
        }
    }
    for text in host.dns.iter().flatten() {
        if text.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address: {text}")));
        }
    }
    Ok(())
}

/// Checks a restart policy; also used by `update`.
pub(crate) fn check_restart_policy(policy: &RestartPolicy, auto_remove: bool) -> Result<()> {
    let kind = RestartKind::parse(&policy.name).map_err(|_| {
        Error::invalid(format!(
            "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            policy.name
        ))
    })?;
    if kind != RestartKind::OnFailure && policy.maximum_retry_count != 0 {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    if policy.maximum_retry_count < 0 {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count cannot be negative",
        ));
    }
    if auto_remove && kind != RestartKind::No {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

fn check_isolation(host: &HostConfig) -> Result<()> {
    for name in host.cap_add.iter().flatten() {
        check_capability(name)?;
    }
    for name in host.cap_drop.iter().flatten() {
        check_capability(name).map_err(|_| Error::invalid(format!("invalid CapDrop: unknown capability: {name:?}")))?;
    }
    SecurityOptions::parse(host)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    for text in host.resources.device_cgroup_rules.iter().flatten() {
        spec::parse_rule(text)?;
    }
    for ulimit in host.resources.ulimits.iter().flatten() {
        let over = ulimit.hard != -1 && (ulimit.soft == -1 || ulimit.soft > ulimit.hard);
        if over {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
    }
    match host.resources.device_requests.as_ref().and_then(|l| l.first()) {
        Some(request) => Err(Error::invalid(format!(
            "could not select device driver {:?} with capabilities: {:?}",
            request.driver,
            request.capabilities.clone().unwrap_or_default()
        ))),
        None => Ok(()),
    }
}

fn check_ports(request: &CreateContainer) -> Result<()> {
    for key in request.config.exposed_ports.iter().flat_map(|m| m.keys()) {
        check_exposed(key)?;
    }
    for (key, bindings) in request.host.port_bindings.iter().flatten() {
        check_exposed(key)?;
        for binding in bindings.iter().flatten() {
            wharf_net::PortRequest::parse(key, &binding.host_ip, &binding.host_port)
                .map_err(|e| Error::invalid(e.to_string()))?;
        }
    }
    Ok(())
}

/// Checks `80/tcp`, `80`, `8000-8010/udp`.
fn check_exposed(key: &str) -> Result<()> {
    let wrong = || Error::invalid(format!("invalid port specification: {key:?}"));
    let (ports, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    protocol
        .parse::<wharf_net::Protocol>()
        .map_err(|e| Error::invalid(e.to_string()))?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let first: u16 = first.parse().map_err(|_| wrong())?;
    let last: u16 = last.parse().map_err(|_| wrong())?;
    if last < first { Err(wrong()) } else { Ok(()) }
}

/// Only parameters of the container's own namespaces may be set.
fn check_sysctls(host: &HostConfig) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let host_network = matches!(host.network(), NetworkMode::Host);
    let host_ipc = IpcMode::parse(&host.ipc_mode) == Ok(IpcMode::Host);
    for key in host.sysctls.iter().flat_map(|m| m.keys()) {
        let dotted = key.replace('/', ".");
        let is_ipc = IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
        let is_net = dotted.starts_with("net.");
        if is_net && host_network {
            return Err(Error::invalid(format!(
                "sysctl '{key}' not allowed in host network namespace"
            )));
        }
        if is_ipc && host_ipc {
            return Err(Error::invalid(format!(
                "sysctl '{key}' not allowed in host ipc namespace"
            )));
        }
        if !is_ipc && !is_net {
            return Err(Error::invalid(format!(
                "sysctl {key:?} is not in a separate kernel namespace"
            )));
        }
    }
    Ok(())
}

/// Requests that current kernels cannot fulfil are dropped with a word to the user.
fn discard_unsupported(host: &mut HostConfig, warnings: &mut Vec<String>) {
    if host.resources.kernel_memory_tcp != 0 {
        warnings.push("Kernel memory TCP limits are deprecated and ignored.".to_owned());
        host.resources.kernel_memory_tcp = 0;
    }
    if host.network_mode == "host" && host.port_bindings.as_ref().is_some_and(|p| !p.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if host.resources.oom_kill_disable == Some(true) && host.resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .to_owned(),
        );
    }
}

/// The values that `inspect` shows where the client left a blank.
fn fill_defaults(host: &mut HostConfig, around: &Surroundings<'_>) {
    let fill = |text: &mut String, value: &str| {
        if text.is_empty() {
            value.clone_into(text);
        }
    };
    fill(&mut host.ipc_mode, "private");
    fill(
        &mut host.cgroupns_mode,
        if around.cgroup_v2 && !host.privileged {
            "private"
        } else {
            "host"
        },
    );
    fill(&mut host.restart_policy.name, "no");
    fill(&mut host.runtime, around.runtimes.default_name());
    if matches!(host.network_mode.as_str(), "" | "default") {
        "bridge".clone_into(&mut host.network_mode);
    }
    if host.shm_size == 0 {
        host.shm_size = DEFAULT_SHM_BYTES;
    }
    host.port_bindings.get_or_insert_default();
    host.resources.oom_kill_disable.get_or_insert(false);
    if host.resources.memory_swappiness == Some(-1) {
        host.resources.memory_swappiness = None;
    }
    if !host.privileged {
        host.masked_paths.get_or_insert_with(spec::default_masked_paths);
        host.readonly_paths.get_or_insert_with(spec::default_readonly_paths);
    }
}
