//! What a container is made from: its portable configuration and the body of `containers/create`.

use std::collections::BTreeMap;

use super::{EndpointSettings, HostConfig, StringMap, StringSet};

wire! {
    /// The portable part of a container: what its image may also set.
    pub struct ContainerConfig {
        hostname: String = "Hostname",
        domainname: String = "Domainname",
        user: String = "User",
        attach_stdin: bool = "AttachStdin",
        attach_stdout: bool = "AttachStdout",
        attach_stderr: bool = "AttachStderr",
        exposed_ports: StringSet = "ExposedPorts" omitempty,
        tty: bool = "Tty",
        open_stdin: bool = "OpenStdin",
        stdin_once: bool = "StdinOnce",
        env: Option<Vec<String>> = "Env",
        cmd: Option<Vec<String>> = "Cmd",
        healthcheck: Option<HealthConfig> = "Healthcheck" omitempty,
        args_escaped: bool = "ArgsEscaped" omitempty,
        image: String = "Image",
        volumes: Option<StringSet> = "Volumes",
        working_dir: String = "WorkingDir",
        entrypoint: Option<Vec<String>> = "Entrypoint",
        network_disabled: bool = "NetworkDisabled" omitempty,
        /// Deprecated since 1.44 in favour of the endpoint's address.
        mac_address: String = "MacAddress" omitempty,
        on_build: Vec<String> = "OnBuild" omitempty,
        labels: Option<StringMap> = "Labels",
        stop_signal: String = "StopSignal" omitempty,
        stop_timeout: Option<i64> = "StopTimeout" omitempty,
        shell: Vec<String> = "Shell" omitempty,
    }

    /// How a container's health is probed. Durations are nanoseconds; zero inherits.
    pub struct HealthConfig {
        /// `[]` inherits, `["NONE"]` disables, `["CMD", ...]`, `["CMD-SHELL", line]`.
        test: Vec<String> = "Test" omitempty,
        interval: i64 = "Interval" omitempty,
        timeout: i64 = "Timeout" omitempty,
        start_period: i64 = "StartPeriod" omitempty,
        start_interval: i64 = "StartInterval" omitempty,
        retries: i64 = "Retries" omitempty,
    }

    /// The networks a container joins when it is made.
    pub struct NetworkingConfig {
        /// By network name or id; `null` joins with the defaults.
        endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>> = "EndpointsConfig",
    }

    /// `POST /containers/create`.
    pub struct ContainerCreateRequest {
        config: ContainerConfig = flat,
        host_config: Option<HostConfig> = "HostConfig",
        networking_config: Option<NetworkingConfig> = "NetworkingConfig",
    }

    /// The answer of `POST /containers/create`.
    pub struct ContainerCreateResponse {
        id: String = "Id",
        warnings: Vec<String> = "Warnings",
    }
}
