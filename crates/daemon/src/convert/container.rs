//! Containers: inspect and lists.

use std::collections::BTreeMap;

use wharf_api::ApiVersion;
use wharf_api::types as wire;
use wharf_engine::containers::why::Why;
use wharf_engine::model::requests::{ContainerInspect, ContainerListed, OverlayDirs};
use wharf_engine::model::time::rfc3339_or_zero;
use wharf_engine::model::{ContainerRecord, Health, MountPoint, State, Status};

use super::{config, host, network};

/// The storage driver, as Docker's containerd store calls its own.
const DRIVER: &str = "overlayfs";
/// Networks whose containers have no names in the name service.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// `GET /containers/{id}/json`, for a client of `version`.
pub(crate) fn inspect_to_wire(
    inspect: &ContainerInspect,
    manifest: Option<wire::Descriptor>,
    version: ApiVersion,
) -> wire::ContainerInspect {
    let record = &inspect.record;
    wire::ContainerInspect {
        id: record.id.to_string(),
        created: record.created.to_string(),
        path: record.path.clone(),
        args: record.args.clone(),
        state: state_to_wire(&record.state),
        image: record.image_id.clone(),
        resolv_conf_path: inspect.resolv_conf_path.clone(),
        hostname_path: inspect.hostname_path.clone(),
        hosts_path: inspect.hosts_path.clone(),
        log_path: inspect.log_path.clone(),
        name: format!("/{}", record.name),
        restart_count: i64::from(record.restart_count),
        driver: DRIVER.to_owned(),
        platform: "linux".to_owned(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: String::new(),
        exec_ids: Some(inspect.exec_ids.clone()).filter(|ids| !ids.is_empty()),
        host_config: host::to_wire(&record.host),
        graph_driver: Some(graph_driver(&inspect.overlay)),
        size_rw: inspect.size_rw,
        size_root_fs: inspect.size_root_fs,
        image_manifest_descriptor: manifest.filter(|_| version.at_least(48)),
        mounts: mounts_to_wire(&record.mounts),
        config: config::to_wire(&record.config),
        network_settings: network_settings(inspect, version),
    }
}

fn state_to_wire(state: &State) -> wire::ContainerState {
    wire::ContainerState {
        status: state.status.as_str().to_owned(),
        running: state.shows_as_running(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: i64::from(state.pid),
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: rfc3339_or_zero(state.started_at),
        finished_at: rfc3339_or_zero(state.finished_at),
        health: state.health.as_ref().map(health_to_wire),
    }
}

/// The story of a container.
pub(crate) fn why_to_wire(told: Why) -> wire::ContainerWhy {
    wire::ContainerWhy {
        id: told.id,
        name: told.name,
        status: told.status,
        summary: told.summary,
        story: told
            .story
            .into_iter()
            .map(|line| wire::WhyLine {
                time: line.at.to_string(),
                what: line.what,
                text: line.text,
            })
            .collect(),
        probes: told.probes.iter().map(probe_to_wire).collect(),
        advice: told.advice,
    }
}

fn probe_to_wire(probe: &wharf_engine::model::HealthProbe) -> wire::HealthcheckResult {
    wire::HealthcheckResult {
        start: probe.start.to_string(),
        end: probe.end.to_string(),
        exit_code: i64::from(probe.exit_code),
        output: probe.output.clone(),
    }
}

fn health_to_wire(health: &Health) -> wire::Health {
    wire::Health {
        status: health.status.as_str().to_owned(),
        failing_streak: i64::from(health.failing_streak),
        log: Some(health.log.iter().map(probe_to_wire).collect()),
    }
}

fn graph_driver(overlay: &OverlayDirs) -> wire::DriverData {
    let data = BTreeMap::from([
        ("LowerDir".to_owned(), overlay.lower.join(":")),
        ("UpperDir".to_owned(), overlay.upper.clone()),
        ("WorkDir".to_owned(), overlay.work.clone()),
    ]);
    wire::DriverData {
        data: Some(data),
        name: DRIVER.to_owned(),
    }
}

fn mounts_to_wire(mounts: &[MountPoint]) -> Vec<wire::MountPoint> {
    let convert = |mount: &MountPoint| wire::MountPoint {
        kind: mount.kind.as_str().to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        rw: mount.rw,
        propagation: mount.propagation.clone(),
    };
    mounts.iter().filter(|mount| mount.listed).map(convert).collect()
}

fn network_settings(inspect: &ContainerInspect, version: ApiVersion) -> wire::NetworkSettings {
    let record = &inspect.record;
    let networks: BTreeMap<_, _> = record
        .endpoints
        .iter()
        .map(|(name, endpoint)| {
            let mut settings = network::endpoint_to_wire(endpoint);
            if !version.at_least(45) && !PREDEFINED.contains(&name.as_str()) {
                add_legacy_aliases(&mut settings, record);
            }
            (name.clone(), Some(settings))
        })
        .collect();
    let sandboxed = !inspect.sandbox_key.is_empty();
    let settings = wire::NetworkSettings {
        sandbox_id: if sandboxed {
            record.id.to_string()
        } else {
            String::new()
        },
        sandbox_key: inspect.sandbox_key.clone(),
        ports: Some(port_map(record)),
        ..wire::NetworkSettings::default()
    };
    let settings = match networks.get("bridge").cloned().flatten() {
        Some(bridge) => with_default_network(settings, bridge),
        None => settings,
    };
    wire::NetworkSettings {
        networks: Some(networks),
        ..settings
    }
}

/// COMPAT: before API 1.45 the short id and the host name stood among the aliases
/// (oracle api/version_switches_in_reads).
fn add_legacy_aliases(settings: &mut wire::EndpointSettings, record: &ContainerRecord) {
    let aliases = settings.aliases.get_or_insert_default();
    for name in [record.id.short(), &record.config.hostname] {
        if !name.is_empty() && !aliases.iter().any(|alias| alias == name) {
            aliases.push(name.to_owned());
        }
    }
}

/// COMPAT: until API 1.52 the endpoint of the default network is repeated at the top; clients
/// such as testcontainers read the address there.
fn with_default_network(settings: wire::NetworkSettings, bridge: wire::EndpointSettings) -> wire::NetworkSettings {
    wire::NetworkSettings {
        endpoint_id: Some(bridge.endpoint_id),
        gateway: Some(bridge.gateway),
        global_ipv6_address: Some(bridge.global_ipv6_address),
        global_ipv6_prefix_len: Some(bridge.global_ipv6_prefix_len),
        ip_address: Some(bridge.ip_address),
        ip_prefix_len: Some(bridge.ip_prefix_len),
        ipv6_gateway: Some(bridge.ipv6_gateway),
        mac_address: Some(bridge.mac_address),
        ..settings
    }
}

/// Ports of a container that has its network: published ones with their host addresses,
/// the other exposed ones with `null`.
fn port_map(record: &ContainerRecord) -> wire::PortMap {
    let mut ports = wire::PortMap::new();
    if !has_network(record) {
        return ports;
    }
    for port in record.config.exposed_ports.iter().flatten().map(|(port, _)| port) {
        ports.insert(port.clone(), None);
    }
    for port in &record.published {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let binding = wire::PortBinding {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.to_string(),
        };
        ports.entry(key).or_default().get_or_insert_default().push(binding);
    }
    ports
}

fn has_network(record: &ContainerRecord) -> bool {
    record.state.is_running() && record.endpoints.values().any(|endpoint| endpoint.live.is_some())
}

/// One row of `GET /containers/json`, for a client of `version`.
pub(crate) fn summary_to_wire(listed: &ContainerListed, _version: ApiVersion) -> wire::ContainerSummary {
    let record = &listed.record;
    let networks = record.endpoints.iter().map(|(name, endpoint)| {
        let settings = wire::EndpointSettings {
            aliases: None,
            dns_names: None,
            driver_opts: None,
            links: None,
            ..network::endpoint_to_wire(endpoint)
        };
        (name.clone(), Some(settings))
    });
    wire::ContainerSummary {
        id: record.id.to_string(),
        names: vec![format!("/{}", record.name)],
        image: listed.image.clone(),
        image_id: record.image_id.clone(),
        image_manifest_descriptor: None,
        command: command_line(&record.path, &record.args),
        created: record.created.as_secs(),
        ports: port_list(record),
        size_rw: listed.size_rw,
        size_root_fs: listed.size_root_fs,
        labels: Some(record.config.labels.clone()),
        state: record.state.status.as_str().to_owned(),
        status: listed.status_text.clone(),
        host_config: wire::SummaryHostConfig {
            network_mode: record.host.network_mode.clone(),
            annotations: record.host.annotations.clone().unwrap_or_default(),
        },
        network_settings: Some(wire::SummaryNetworkSettings {
            networks: Some(networks.collect()),
        }),
        mounts: mounts_to_wire(&record.mounts),
    }
}

/// A command as lists show it: arguments with spaces in quotes.
fn command_line(path: &str, args: &[String]) -> String {
    let quoted = |arg: &String| {
        if arg.contains(' ') {
            format!("'{arg}'")
        } else {
            arg.clone()
        }
    };
    std::iter::once(path.to_owned())
        .chain(args.iter().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

fn port_list(record: &ContainerRecord) -> Vec<wire::Port> {
    let mut ports = Vec::new();
    for (key, bindings) in port_map(record) {
        let (number, kind) = key.split_once('/').unwrap_or((&key, "tcp"));
        let plain = wire::Port {
            private_port: number.parse().unwrap_or(0),
            kind: kind.to_owned(),
            ..wire::Port::default()
        };
        match bindings {
            None => ports.push(plain),
            Some(list) => ports.extend(list.into_iter().map(|binding| wire::Port {
                ip: binding.host_ip,
                public_port: binding.host_port.parse().unwrap_or(0),
                ..plain.clone()
            })),
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    /// A container on the default bridge and on a network of its own, with a published port.
    fn record() -> ContainerRecord {
        let endpoint = |network: &str, id: &str, address: &str, aliases: serde_json::Value| {
            json!({
                "network_name": network, "network_id": id.repeat(64), "endpoint_id": "e".repeat(64),
                "settings": {"aliases": aliases, "gw_priority": 1}, "dns_names": if network == "own" { json!(["web"]) } else { json!([]) },
                "live": {
                    "id": "e".repeat(64), "network_id": id.repeat(64), "network_name": network,
                    "container_id": "c".repeat(64), "interface": "eth0", "host_interface": "v0",
                    "mac": "02:42:ac:11:00:02", "ipv4": address, "ipv6": null, "gateway4": "172.17.0.1",
                    "gateway6": null, "gateway_priority": 0, "dns_names": [],
                },
            })
        };
        let value = json!({
            "id": "c".repeat(64), "name": "web", "created": 1_700_000_000_000_000_000_i64,
            "config": {
                "hostname": "cccccccccccc", "image": "busybox", "cmd": ["sleep", "60"],
                "exposed_ports": {"81/tcp": {}, "80/tcp": {}}, "labels": {"a": "b"},
            },
            "host": {"network_mode": "bridge", "log_config": {"driver": "json-file"}, "runtime": "wharf-runtime"},
            "image_id": format!("sha256:{}", "1".repeat(64)), "path": "sleep", "args": ["60", "a b"],
            "mounts": [
                {"kind": "volume", "name": "v", "source": "/r/v", "destination": "/d", "driver": "local", "rw": true},
                {"kind": "tmpfs", "destination": "/hidden", "rw": true, "listed": false},
            ],
            "endpoints": {
                "bridge": endpoint("bridge", "b", "172.17.0.2/16", serde_json::Value::Null),
                "own": endpoint("own", "a", "172.18.0.2/16", json!(["web"])),
            },
            "published": [{"container_port": 80, "protocol": "tcp", "host_ip": "0.0.0.0", "host_port": 32768}],
            "state": {"status": "running", "pid": 7, "started_at": 1_700_000_001_000_000_000_i64},
            "dir": "/r/containers/c",
        });
        serde_json::from_value(value).expect("a record")
    }

    fn inspect(version: ApiVersion) -> serde_json::Value {
        let inspect = ContainerInspect {
            record: record(),
            exec_ids: Vec::new(),
            size_rw: None,
            size_root_fs: None,
            resolv_conf_path: "/r/containers/c/resolv.conf".into(),
            hostname_path: "/r/containers/c/hostname".into(),
            hosts_path: "/r/containers/c/hosts".into(),
            log_path: "/r/containers/c/logs/c-json.log".into(),
            sandbox_key: "/n/netns/c".into(),
            overlay: OverlayDirs {
                lower: vec!["/l/2".into(), "/l/1".into()],
                upper: "/u".into(),
                work: "/w".into(),
            },
        };
        let manifest = wire::Descriptor {
            digest: "sha256:2".into(),
            ..wire::Descriptor::default()
        };
        serde_json::to_value(inspect_to_wire(&inspect, Some(manifest), version)).expect("JSON")
    }

    fn pretty(value: &serde_json::Value) -> String {
        serde_json::to_string_pretty(value).expect("JSON")
    }

    #[test]
    fn inspect_has_docker_s_fields() {
        insta::assert_snapshot!(pretty(&inspect(ApiVersion::MAX)));
    }

    #[test]
    fn older_clients_see_ids_among_the_aliases_and_no_descriptor() {
        let old = inspect(ApiVersion::new(1, 44));
        let aliases = |network: &str| old["NetworkSettings"]["Networks"][network]["Aliases"].clone();
        assert_eq!(aliases("own"), json!(["web", "cccccccccccc"]));
        assert_eq!(aliases("bridge"), json!(null));
        assert_eq!(old.get("ImageManifestDescriptor"), None);
        assert!(inspect(ApiVersion::new(1, 48)).get("ImageManifestDescriptor").is_some());
    }

    #[test]
    fn lists_have_docker_s_fields() {
        let listed = ContainerListed {
            record: Arc::new(record()),
            image: "busybox".into(),
            size_rw: None,
            size_root_fs: None,
            status_text: "Up 2 seconds".into(),
        };
        let summary = serde_json::to_value(summary_to_wire(&listed, ApiVersion::MAX)).expect("JSON");
        insta::assert_snapshot!(pretty(&summary));
    }

    #[test]
    fn ports_of_a_container_that_does_not_run_are_not_told() {
        let mut record = record();
        record.state.status = Status::Exited;
        assert!(port_map(&record).is_empty());
    }

    #[test]
    fn commands_are_shown_with_quotes_around_spaces() {
        let check = |args: &[&str], expected: &str| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(command_line("sh", &args), expected);
        };
        check(&[], "sh");
        check(&["-c", "echo a"], "sh -c 'echo a'");
    }
}
