//! Networks and endpoints.

use std::collections::BTreeMap;

use wharf_api::types as wire;
use wharf_engine::model::{EndpointIpam, EndpointRecord, EndpointSettings, IpamPool, IpamSettings};
use wharf_engine::networks::{CreateNetwork, NetworkInspected, NetworkMember};

/// Whether an answer tells the containers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    /// Inspect, and lists before API 1.28.
    Told,
    /// Lists since API 1.28.
    Left,
}

/// A network as listed or inspected.
pub(crate) fn to_wire(network: &NetworkInspected, members: Members) -> wire::Network {
    let record = &network.record;
    let containers = network
        .containers
        .iter()
        .map(|(id, member)| (id.clone(), member_to_wire(member)))
        .collect();
    wire::Network {
        name: record.name.clone(),
        id: record.id.to_string(),
        created: record.created.to_string(),
        scope: "local".to_owned(),
        driver: record.driver.clone(),
        enable_ipv4: record.ipv4,
        enable_ipv6: record.ipv6,
        ipam: ipam_to_wire(&record.ipam),
        internal: record.internal,
        attachable: record.attachable,
        ingress: false,
        config_from: wire::ConfigReference::default(),
        config_only: false,
        containers: (members == Members::Told).then_some(containers),
        options: Some(record.options.clone()),
        labels: Some(record.labels.clone()),
    }
}

fn member_to_wire(member: &NetworkMember) -> wire::NetworkContainer {
    wire::NetworkContainer {
        name: member.name.clone(),
        endpoint_id: member.endpoint_id.clone(),
        mac_address: member.mac_address.clone(),
        ipv4_address: member.ipv4.clone(),
        ipv6_address: member.ipv6.clone(),
    }
}

fn ipam_to_wire(ipam: &IpamSettings) -> wire::Ipam {
    let pool = |pool: &IpamPool| wire::IpamConfig {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.clone(),
        auxiliary_addresses: pool.auxiliary.clone(),
    };
    let config = Some(ipam.pools.iter().map(pool).collect::<Vec<_>>());
    wire::Ipam {
        driver: ipam.driver.clone(),
        options: ipam.options.clone(),
        // COMPAT: `host` and `none` have no pools: null, not an empty list.
        config: config.filter(|pools| !pools.is_empty()),
    }
}

/// The body of a create.
pub(crate) fn create_from_wire(request: wire::NetworkCreateRequest) -> CreateNetwork {
    let pool = |pool: wire::IpamConfig| IpamPool {
        subnet: pool.subnet,
        ip_range: pool.ip_range,
        gateway: pool.gateway,
        auxiliary: pool.auxiliary_addresses,
    };
    let ipam = request.ipam.unwrap_or_default();
    CreateNetwork {
        name: request.name,
        driver: request.driver,
        options: request.options.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
        internal: request.internal,
        attachable: request.attachable,
        ipv4: request.enable_ipv4,
        ipv6: request.enable_ipv6,
        ipam: IpamSettings {
            driver: ipam.driver,
            options: ipam.options,
            pools: ipam.config.unwrap_or_default().into_iter().map(pool).collect(),
        },
        config_from: request.config_from.map(|source| source.network).unwrap_or_default(),
        config_only: request.config_only,
        scope: request.scope,
        ingress: request.ingress,
    }
}

/// What was asked of an endpoint.
pub(crate) fn settings_from_wire(settings: wire::EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam: settings.ipam_config.map(|ipam| EndpointIpam {
            ipv4_address: ipam.ipv4_address,
            ipv6_address: ipam.ipv6_address,
            link_local_ips: Some(ipam.link_local_ips).filter(|list| !list.is_empty()),
        }),
        links: settings.links,
        mac_address: settings.mac_address,
        aliases: settings.aliases,
        driver_opts: settings.driver_opts,
        gw_priority: settings.gw_priority,
    }
}

/// The networks of a create request.
pub(crate) fn endpoints_from_wire(config: Option<wire::NetworkingConfig>) -> BTreeMap<String, EndpointSettings> {
    let endpoints = config.and_then(|config| config.endpoints_config).unwrap_or_default();
    let convert = |settings: Option<wire::EndpointSettings>| settings_from_wire(settings.unwrap_or_default());
    endpoints
        .into_iter()
        .map(|(name, settings)| (name, convert(settings)))
        .collect()
}

/// An endpoint of a container: what was asked, and what it has while the container runs.
pub(crate) fn endpoint_to_wire(endpoint: &EndpointRecord) -> wire::EndpointSettings {
    let settings = &endpoint.settings;
    let live = endpoint.live.as_ref();
    let text = |value: Option<std::net::IpAddr>| value.map(|ip| ip.to_string()).unwrap_or_default();
    let (ipv4, ipv6) = (live.and_then(|l| l.ipv4), live.and_then(|l| l.ipv6));
    let prefix = |net: Option<ipnet::IpNet>| net.map_or(0, |net| i64::from(net.prefix_len()));
    wire::EndpointSettings {
        ipam_config: settings.ipam.as_ref().map(|ipam| wire::EndpointIpamConfig {
            ipv4_address: ipam.ipv4_address.clone(),
            ipv6_address: ipam.ipv6_address.clone(),
            link_local_ips: ipam.link_local_ips.clone().unwrap_or_default(),
        }),
        links: settings.links.clone(),
        aliases: settings.aliases.clone(),
        mac_address: live.map_or_else(|| settings.mac_address.clone(), |l| l.mac.to_string()),
        driver_opts: settings.driver_opts.clone(),
        gw_priority: settings.gw_priority,
        network_id: endpoint.network_id.to_string(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: text(live.and_then(|l| l.gateway4)),
        ip_address: text(ipv4.map(|net| net.addr())),
        ip_prefix_len: prefix(ipv4),
        ipv6_gateway: text(live.and_then(|l| l.gateway6)),
        global_ipv6_address: text(ipv6.map(|net| net.addr())),
        global_ipv6_prefix_len: prefix(ipv6),
        dns_names: Some(endpoint.dns_names.clone()).filter(|names| !names.is_empty()),
    }
}
