//! A network as kept in the database.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NetworkId, Timestamp};

/// Everything known of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// `bridge`, `host`, `null`, ...
    pub driver: String,
    /// IPv4 in use.
    pub ipv4: bool,
    /// IPv6 in use.
    pub ipv6: bool,
    /// Address pools.
    pub ipam: IpamSettings,
    /// No way out.
    pub internal: bool,
    /// Swarm only (echoed).
    pub attachable: bool,
    /// For the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// One of `bridge`, `host`, `none`.
    pub predefined: bool,
    /// What the bridge driver needs; `None` for `host` and `none`.
    #[serde(default)]
    pub plan: Option<wharf_net::NetworkRecord>,
}

/// Address management of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamSettings {
    /// `default`.
    pub driver: String,
    /// For the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Pools, resolved (never without a subnet once created).
    pub pools: Vec<IpamPool>,
}

/// One subnet of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// `172.20.0.0/16`.
    pub subnet: String,
    /// Part of the subnet for automatic addresses; empty means all.
    pub ip_range: String,
    /// The bridge's address; empty means the first.
    pub gateway: String,
    /// Addresses never given out, by name.
    pub auxiliary: BTreeMap<String, String>,
}
