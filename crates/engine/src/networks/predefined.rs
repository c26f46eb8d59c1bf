//! The three networks that every engine has: `bridge`, `host` and `none`.
use std::collections::BTreeMap;

use crate::model::{IpamPool, IpamSettings, NetworkId, NetworkRecord, Timestamp};

/// Names that nobody else can take. `default` is what clients call the default of an engine.
pub(super) const NAMES: [&str; 4] = ["bridge", "host", "none", "default"];

/// `host` or `none`: nothing in the kernel belongs to them.
pub(super) fn without_bridge(name: &str) -> NetworkRecord {
    let driver = if name == "host" { "host" } else { "null" };
    NetworkRecord {
        id: NetworkId::random(),
        name: name.to_owned(),
        created: Timestamp::now(),
        driver: driver.to_owned(),
        ipv4: true,
        ipv6: false,
        ipam: IpamSettings {
            driver: "default".into(),
            options: None,
            pools: Vec::new(),
        },
        internal: false,
        attachable: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        predefined: true,
        plan: None,
    }
}

/// `bridge`, after its plan. COMPAT: the options are those that Docker's own default network
/// shows (oracle api/list_shapes).
pub(super) fn default_bridge(plan: wharf_net::NetworkRecord) -> NetworkRecord {
    let option = |name: &str, value: String| (format!("com.docker.network.{name}"), value);
    let options = BTreeMap::from([
        option("bridge.default_bridge", "true".into()),
        option("bridge.enable_icc", plan.icc.to_string()),
        option("bridge.enable_ip_masquerade", plan.masquerade.to_string()),
        option("bridge.host_binding_ipv4", "0.0.0.0".into()),
        option("bridge.name", plan.bridge.clone()),
        option("driver.mtu", plan.mtu.unwrap_or(1500).to_string()),
    ]);
    NetworkRecord {
        id: NetworkId::new(plan.id.clone()),
        name: "bridge".into(),
        driver: "bridge".into(),
        ipv4: plan.has_ipv4(),
        ipv6: plan.has_ipv6(),
        ipam: IpamSettings {
            driver: "default".into(),
            options: None,
            pools: pools_of(&plan),
        },
        options,
        plan: Some(plan),
        ..without_bridge("bridge")
    }
}

/// The pools of a plan, as they are shown.
pub(super) fn pools_of(plan: &wharf_net::NetworkRecord) -> Vec<IpamPool> {
    let pool = |pool: &wharf_net::Pool| IpamPool {
        subnet: pool.subnet.to_string(),
        ip_range: pool.ip_range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: pool.gateway.to_string(),
        auxiliary: pool
            .auxiliary
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
    };
    plan.pools.iter().map(pool).collect()
}
