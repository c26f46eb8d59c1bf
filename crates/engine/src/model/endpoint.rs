//! A container's place on a network.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NetworkId;

/// What was asked for a container on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// Fixed addresses.
    pub ipam: Option<EndpointIpam>,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// Fixed MAC address; empty means any.
    pub mac_address: String,
    /// Further names on this network.
    pub aliases: Option<Vec<String>>,
    /// For the driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Which network gives the default route: the highest.
    pub gw_priority: i64,
}

/// Fixed addresses of an endpoint; empty texts mean any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpam {
    /// IPv4.
    pub ipv4_address: String,
    /// IPv6.
    pub ipv6_address: String,
    /// Link-local addresses.
    pub link_local_ips: Option<Vec<String>>,
}

/// An endpoint as kept: what was asked and, while the container has its network, what it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointRecord {
    /// The network's name at connect (`bridge`, `host`, `none` too).
    pub network_name: String,
    /// The network; empty until resolved at start.
    pub network_id: NetworkId,
    /// What was asked.
    pub settings: EndpointSettings,
    /// Names that resolve to it.
    pub dns_names: Vec<String>,
    /// Its identifier while the container runs (64 hexadecimal digits), also on `host` and
    /// `none`; empty otherwise.
    pub endpoint_id: String,
    /// What it has on a bridge network; `None` while the container is not running.
    pub live: Option<wharf_net::EndpointRecord>,
}
