//! The portable half of a container's configuration.

use std::collections::BTreeMap;

use wharf_api::types as wire;
use wharf_engine::model::config::Empty;
use wharf_engine::model::{ContainerConfig, HealthConfig};

/// From a create or commit request.
pub(crate) fn from_wire(config: wire::ContainerConfig) -> ContainerConfig {
    let nonempty = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    ContainerConfig {
        hostname: config.hostname,
        domainname: config.domainname,
        user: config.user,
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: Some(set_from_wire(config.exposed_ports)).filter(|set| !set.is_empty()),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env,
        cmd: config.cmd,
        healthcheck: config.healthcheck.map(health_from_wire),
        args_escaped: config.args_escaped,
        image: config.image,
        // COMPAT: an empty set is none at all (oracle run/inspect_shape).
        volumes: config.volumes.map(set_from_wire).filter(|set| !set.is_empty()),
        working_dir: config.working_dir,
        entrypoint: config.entrypoint,
        network_disabled: config.network_disabled,
        mac_address: config.mac_address,
        on_build: nonempty(config.on_build),
        labels: config.labels.unwrap_or_default(),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        shell: nonempty(config.shell),
    }
}

fn set_from_wire(set: wire::StringSet) -> BTreeMap<String, Empty> {
    set.into_keys().map(|key| (key, Empty {})).collect()
}

fn set_to_wire(set: &BTreeMap<String, Empty>) -> wire::StringSet {
    set.keys().map(|key| (key.clone(), wire::Empty {})).collect()
}

fn health_from_wire(health: wire::HealthConfig) -> HealthConfig {
    HealthConfig {
        test: Some(health.test).filter(|test| !test.is_empty()),
        interval: health.interval,
        timeout: health.timeout,
        start_period: health.start_period,
        start_interval: health.start_interval,
        retries: health.retries,
    }
}

/// For inspect.
pub(crate) fn to_wire(config: &ContainerConfig) -> wire::ContainerConfig {
    wire::ContainerConfig {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: config.exposed_ports.as_ref().map(set_to_wire).unwrap_or_default(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(health_to_wire),
        args_escaped: config.args_escaped,
        image: config.image.clone(),
        volumes: config.volumes.as_ref().map(set_to_wire),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        network_disabled: config.network_disabled,
        mac_address: config.mac_address.clone(),
        on_build: config.on_build.clone().unwrap_or_default(),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone().unwrap_or_default(),
    }
}

fn health_to_wire(health: &HealthConfig) -> wire::HealthConfig {
    wire::HealthConfig {
        test: health.test.clone().unwrap_or_default(),
        interval: health.interval,
        timeout: health.timeout,
        start_period: health.start_period,
        start_interval: health.start_interval,
        retries: health.retries,
    }
}
