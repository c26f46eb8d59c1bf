//! From a network request to a complete record. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::error::NetError;
use crate::ipam;
use crate::model::{NetworkRecord, NetworkRequest, Pool, PoolRequest};

const OPTION_PREFIX: &str = "com.docker.network.";
/// `IFNAMSIZ` without the terminating zero.
const INTERFACE_NAME_MAX: usize = 15;

/// What is there already.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// Subnets of the host's addresses and routes.
    pub host: Vec<IpNet>,
    /// The instance's networks.
    pub networks: Vec<NetworkRecord>,
}

impl Surroundings {
    fn own_subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.networks
            .iter()
            .flat_map(|network| network.pools.iter().map(|pool| pool.subnet))
    }
}

/// Name of the default network's bridge.
pub(crate) fn default_bridge_name(instance: &str) -> String {
    let name = format!("{instance}0");
    if name.len() <= INTERFACE_NAME_MAX {
        name
    } else {
        bridge_name(instance, &format!("{:x}", ipam::fingerprint(instance)))
    }
}

/// Name of a user network's bridge: the instance's, then part of its id.
pub(crate) fn bridge_name(instance: &str, id: &str) -> String {
    let prefix: String = instance.chars().filter(char::is_ascii).take(8).collect();
    let mut name = format!("{prefix}-{id}");
    name.truncate(INTERFACE_NAME_MAX);
    name
}

/// Completes a request; `instance` names bridges and the IPv6 prefix.
pub(crate) fn plan_network(
    instance: &str,
    request: &NetworkRequest,
    around: &Surroundings,
) -> Result<NetworkRecord, NetError> {
    check_drivers(request)?;
    let default_bridge = around.networks.iter().all(|network| !network.default_bridge) && request.name == "bridge";
    let mut record = NetworkRecord {
        id: request.id.clone(),
        name: request.name.clone(),
        bridge: if default_bridge {
            default_bridge_name(instance)
        } else {
            bridge_name(instance, &request.id)
        },
        default_bridge,
        internal: request.internal,
        icc: true,
        masquerade: true,
        mtu: None,
        host_binding_ipv4: None,
        container_prefix: "eth".to_owned(),
        pools: plan_pools(instance, request, around)?,
    };
    apply_options(&mut record, &request.options)?;
    match around.networks.iter().find(|network| network.bridge == record.bridge) {
        Some(other) => Err(NetError::BridgeNameInUse {
            id: record.id,
            bridge: record.bridge,
            other: other.id.clone(),
        }),
        None => Ok(record),
    }
}

fn check_drivers(request: &NetworkRequest) -> Result<(), NetError> {
    match request.driver.as_str() {
        "" | "bridge" => {}
        driver @ ("macvlan" | "ipvlan" | "overlay") => {
            return Err(NetError::UnsupportedDriver {
                driver: driver.to_owned(),
            });
        }
        driver => {
            return Err(NetError::UnknownDriver {
                driver: driver.to_owned(),
            });
        }
    }
    match request.ipam_driver.as_str() {
        "" | "default" => Ok(()),
        driver => Err(NetError::UnsupportedIpam {
            driver: driver.to_owned(),
        }),
    }
}

/// Pools as asked for; then, for each enabled family without one, a chosen one.
fn plan_pools(instance: &str, request: &NetworkRequest, around: &Surroundings) -> Result<Vec<Pool>, NetError> {
    let mut refusals = Vec::new();
    let mut pools: Vec<Pool> = Vec::new();
    let mut without_subnet = Vec::new();
    for wanted in &request.pools {
        match wanted.subnet.as_deref().filter(|subnet| !subnet.is_empty()) {
            Some(_) => match parse_pool(wanted) {
                Ok(pool) => pools.push(pool),
                Err(mut reasons) => refusals.append(&mut reasons),
            },
            None => without_subnet.push(wanted),
        }
    }
    if !refusals.is_empty() {
        return Err(NetError::InvalidConfig {
            reason: join_reasons(&refusals),
        });
    }
    if let Some(wanted) = without_subnet
        .iter()
        .find(|wanted| wanted.gateway.is_some() || wanted.ip_range.is_some())
    {
        let text = wanted.gateway.clone().or(wanted.ip_range.clone()).unwrap_or_default();
        return Err(NetError::InvalidSubnet {
            text,
            reason: "a gateway or ip-range needs a subnet".to_owned(),
        });
    }
    check_overlaps(&pools, around)?;

    let has = |pools: &[Pool], v4: bool| pools.iter().any(|pool| pool.subnet.addr().is_ipv4() == v4);
    let wants_ipv4 = request.enable_ipv4.unwrap_or(true);
    let wants_ipv6 = request.enable_ipv6.unwrap_or(has(&pools, false));
    pools.retain(|pool| {
        if pool.subnet.addr().is_ipv4() {
            wants_ipv4
        } else {
            wants_ipv6
        }
    });
    let taken: Vec<IpNet> = around
        .host
        .iter()
        .copied()
        .chain(around.own_subnets())
        .chain(pools.iter().map(|pool| pool.subnet))
        .collect();
    if wants_ipv4 && !has(&pools, true) {
        pools.insert(0, chosen_pool(IpNet::V4(ipam::choose_ipv4(&taken)?)));
    }
    if wants_ipv6 && !has(&pools, false) {
        pools.push(chosen_pool(IpNet::V6(ipam::choose_ipv6(instance, &taken)?)));
    }
    Ok(pools)
}

fn chosen_pool(subnet: IpNet) -> Pool {
    Pool {
        gateway: ipam::first_address(&subnet),
        subnet,
        ip_range: None,
        auxiliary: BTreeMap::new(),
        user_defined: false,
    }
}

fn check_overlaps(pools: &[Pool], around: &Surroundings) -> Result<(), NetError> {
    for (index, pool) in pools.iter().enumerate() {
        let mut others = pools[..index]
            .iter()
            .map(|other| other.subnet)
            .chain(around.own_subnets());
        if others.any(|other| ipam::overlap(&pool.subnet, &other)) {
            return Err(NetError::PoolOverlap { subnet: pool.subnet });
        }
    }
    Ok(())
}

fn join_reasons(reasons: &[String]) -> String {
    match reasons {
        [reason] => reason.clone(),
        reasons => reasons
            .iter()
            .map(|reason| format!("* {reason}"))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// One pool with everything wrong with it.
fn parse_pool(wanted: &PoolRequest) -> Result<Pool, Vec<String>> {
    let text = wanted.subnet.as_deref().unwrap_or_default();
    let given: IpNet = text
        .parse()
        .map_err(|_| vec![format!("invalid subnet {text}: invalid CIDR block notation")])?;
    let subnet = given.trunc();
    let mut reasons = Vec::new();
    if given != subnet {
        reasons.push(format!("invalid subnet {given}: it should be {subnet}"));
    }
    let ip_range = wanted
        .ip_range
        .as_deref()
        .filter(|range| !range.is_empty())
        .and_then(|range| {
            parse_range(range, &subnet)
                .map_err(|reason| reasons.push(format!("invalid ip-range {range}: {reason}")))
                .ok()
        });
    let gateway = wanted
        .gateway
        .as_deref()
        .filter(|gateway| !gateway.is_empty())
        .and_then(|gateway| {
            parse_address(gateway, &subnet)
                .map_err(|reason| reasons.push(format!("invalid gateway {gateway}: {reason}")))
                .ok()
        });
    let mut auxiliary = BTreeMap::new();
    for (name, address) in &wanted.auxiliary {
        match parse_address(address, &subnet) {
            Ok(address) => drop(auxiliary.insert(name.clone(), address)),
            Err(reason) => reasons.push(format!("invalid auxiliary address {name}: {reason}")),
        }
    }
    if !reasons.is_empty() {
        return Err(reasons);
    }
    let gateway = gateway.unwrap_or_else(|| default_gateway(&subnet, ip_range.as_ref(), &auxiliary));
    Ok(Pool {
        subnet,
        ip_range,
        gateway,
        auxiliary,
        user_defined: true,
    })
}

/// The first address of the range, else of the subnet, that has no other use.
fn default_gateway(subnet: &IpNet, range: Option<&IpNet>, auxiliary: &BTreeMap<String, IpAddr>) -> IpAddr {
    // The network's own address as a stand-in: it is never handed out anyway.
    let pool = Pool {
        subnet: *subnet,
        ip_range: range.copied(),
        gateway: subnet.network(),
        auxiliary: auxiliary.clone(),
        user_defined: true,
    };
    ipam::Addresses::new(&pool)
        .take_any()
        .unwrap_or_else(|| ipam::first_address(subnet))
}

fn parse_range(text: &str, subnet: &IpNet) -> Result<IpNet, String> {
    let range: IpNet = text.parse().map_err(|_| "invalid CIDR block notation".to_owned())?;
    same_family(range.addr(), subnet)?;
    if range.prefix_len() < subnet.prefix_len() {
        return Err(format!("CIDR block is bigger than its parent subnet {subnet}"));
    }
    if range != range.trunc() {
        return Err(format!("it should be {}", range.trunc()));
    }
    if !subnet.contains(&range) {
        return Err(format!("parent subnet {subnet} doesn't contain ip-range"));
    }
    Ok(range)
}

fn parse_address(text: &str, subnet: &IpNet) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    same_family(address, subnet)?;
    if subnet.contains(&address) {
        Ok(address)
    } else {
        Err(format!("parent subnet {subnet} doesn't contain this address"))
    }
}

fn same_family(address: IpAddr, subnet: &IpNet) -> Result<(), String> {
    match (address.is_ipv4(), subnet.addr().is_ipv4()) {
        (true, false) => Err("parent subnet is an IPv6 block".to_owned()),
        (false, true) => Err("parent subnet is an IPv4 block".to_owned()),
        _ => Ok(()),
    }
}

/// Driver options by Docker's names; one that would be ignored is refused.
fn apply_options(record: &mut NetworkRecord, options: &BTreeMap<String, String>) -> Result<(), NetError> {
    for (option, value) in options {
        let short = option.strip_prefix(OPTION_PREFIX).unwrap_or(option);
        match short {
            "bridge.name" => record.bridge = parse_bridge_name(option, value)?,
            "bridge.default_bridge" => record.default_bridge = parse_bool(option, value)?,
            "bridge.enable_icc" => record.icc = parse_bool(option, value)?,
            "bridge.enable_ip_masquerade" => record.masquerade = parse_bool(option, value)?,
            "bridge.host_binding_ipv4" | "host_ipv4" => record.host_binding_ipv4 = parse_ipv4(option, value)?,
            "driver.mtu" | "mtu" => record.mtu = parse_mtu(option, value)?,
            "container_iface_prefix" | "bridge.container_iface_prefix" => {
                record.container_prefix = parse_prefix(option, value)?;
            }
            // The only gateway mode so far is Docker's default.
            "bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6" if value == "nat" || value.is_empty() => {}
            "bridge.gateway_mode_ipv4"
            | "bridge.gateway_mode_ipv6"
            | "bridge.inhibit_ipv4"
            | "bridge.trusted_host_interfaces" => {
                return Err(NetError::UnsupportedOption {
                    option: format!("{option}={value}"),
                });
            }
            // Docker keeps options it does not know; so do the engine's records.
            _ => {}
        }
    }
    Ok(())
}

fn invalid(option: &str, value: &str, reason: &str) -> NetError {
    NetError::InvalidOption {
        option: option.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

fn parse_bool(option: &str, value: &str) -> Result<bool, NetError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(option, value, "not a boolean")),
    }
}

fn parse_ipv4(option: &str, value: &str) -> Result<Option<Ipv4Addr>, NetError> {
    if value.is_empty() {
        return Ok(None);
    }
    value
        .parse()
        .map(Some)
        .map_err(|_| invalid(option, value, "not an IPv4 address"))
}

fn parse_mtu(option: &str, value: &str) -> Result<Option<u32>, NetError> {
    match value.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(mtu) if (68..=65535).contains(&mtu) => Ok(Some(mtu)),
        _ => Err(invalid(option, value, "not an MTU between 68 and 65535")),
    }
}

fn parse_bridge_name(option: &str, value: &str) -> Result<String, NetError> {
    let is_fine = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if value.is_empty() || value.len() > INTERFACE_NAME_MAX || value.starts_with('.') || !value.chars().all(is_fine) {
        return Err(invalid(option, value, "not a valid interface name"));
    }
    Ok(value.to_owned())
}

fn parse_prefix(option: &str, value: &str) -> Result<String, NetError> {
    let fits = !value.is_empty() && value.len() <= INTERFACE_NAME_MAX - 3 && value != "lo";
    if fits && value.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(value.to_owned());
    }
    Err(invalid(option, value, "not a valid start of an interface name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(subnet: &str) -> NetworkRequest {
        let pool = PoolRequest {
            subnet: Some(subnet.to_owned()),
            ..PoolRequest::default()
        };
        NetworkRequest {
            id: "0123456789abcdef".repeat(4),
            name: "app".to_owned(),
            pools: if subnet.is_empty() { Vec::new() } else { vec![pool] },
            ..NetworkRequest::default()
        }
    }

    fn plan(request: &NetworkRequest) -> Result<NetworkRecord, NetError> {
        plan_network("wharf", request, &Surroundings::default())
    }

    #[test]
    fn bridges_are_named_by_instance_within_fifteen_bytes() {
        let check = |instance: &str, expected: (&str, &str)| {
            let names = (default_bridge_name(instance), bridge_name(instance, "0123456789abcdef"));
            assert_eq!((names.0.as_str(), names.1.as_str()), expected);
            assert!(names.0.len() <= 15 && names.1.len() <= 15);
        };
        check("wharf", ("wharf0", "wharf-012345678"));
        check("w", ("w0", "w-0123456789abc"));
        check("fourteen-bytes", ("fourteen-bytes0", "fourteen-012345"));
        let long = default_bridge_name("an-instance-with-a-long-name");
        assert!(long.starts_with("an-insta-") && long.len() == 15);
    }

    #[test]
    fn an_empty_request_gets_a_predefined_subnet_and_its_first_address_as_gateway() {
        let record = plan(&request("")).unwrap();
        assert_eq!(record.pools.len(), 1);
        assert_eq!(record.pools[0].subnet.to_string(), "172.17.0.0/16");
        assert_eq!(record.pools[0].gateway.to_string(), "172.17.0.1");
        assert!(record.icc && record.masquerade && !record.default_bridge && !record.pools[0].user_defined);
    }

    #[test]
    fn an_ipv6_subnet_enables_ipv6_and_ipv4_can_be_switched_off() {
        let record = plan(&request("fd12::/64")).unwrap();
        assert!(record.has_ipv4() && record.has_ipv6());
        let only = plan(&NetworkRequest {
            enable_ipv4: Some(false),
            ..request("fd12::/64")
        })
        .unwrap();
        assert!(!only.has_ipv4() && only.has_ipv6());
        assert_eq!(only.pools[0].gateway.to_string(), "fd12::1");
    }

    #[test]
    fn malformed_ipam_is_refused_in_dockers_words() {
        let check = |change: &dyn Fn(&mut PoolRequest), expected: &str| {
            let mut wanted = request("10.1.0.0/24");
            change(&mut wanted.pools[0]);
            assert_eq!(plan(&wanted).unwrap_err().to_string(), expected);
        };
        let text = |value: &str| Some(value.to_owned());
        check(
            &|pool| pool.subnet = text("banana"),
            "invalid network config:\ninvalid subnet banana: invalid CIDR block notation",
        );
        check(
            &|pool| pool.subnet = text("10.1.0.1/24"),
            "invalid network config:\ninvalid subnet 10.1.0.1/24: it should be 10.1.0.0/24",
        );
        check(
            &|pool| pool.gateway = text("10.9.9.9"),
            "invalid network config:\ninvalid gateway 10.9.9.9: parent subnet 10.1.0.0/24 doesn't contain this address",
        );
        check(
            &|pool| pool.ip_range = text("10.1.0.0/16"),
            "invalid network config:\ninvalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet 10.1.0.0/24",
        );
        check(
            &|pool| {
                pool.gateway = text("x");
                pool.ip_range = text("fd00::/64");
            },
            "invalid network config:\n* invalid ip-range fd00::/64: parent subnet is an IPv4 block\n* invalid gateway x: invalid address",
        );
    }

    #[test]
    fn overlapping_networks_are_refused() {
        let around = Surroundings {
            networks: vec![plan(&request("10.231.0.0/24")).unwrap()],
            ..Default::default()
        };
        let mut other = request("10.231.0.0/25");
        other.id = "f".repeat(64);
        let error = plan_network("wharf", &other, &around).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    }

    #[test]
    fn the_gateway_steps_over_auxiliary_addresses() {
        let mut wanted = request("10.1.0.0/24");
        wanted.pools[0]
            .auxiliary
            .insert("router".to_owned(), "10.1.0.1".to_owned());
        assert_eq!(plan(&wanted).unwrap().pools[0].gateway.to_string(), "10.1.0.2");
    }

    #[test]
    fn options_are_read_and_bad_ones_refused_by_name() {
        let mut wanted = request("");
        for (option, value) in [
            ("com.docker.network.bridge.name", "br-mine"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ("com.docker.network.driver.mtu", "1400"),
            ("mine.own", "kept"),
        ] {
            wanted.options.insert(option.to_owned(), value.to_owned());
        }
        let record = plan(&wanted).unwrap();
        assert_eq!(
            (record.bridge.as_str(), record.icc, record.masquerade),
            ("br-mine", false, false)
        );
        assert_eq!(
            (record.mtu, record.host_binding_ipv4),
            (Some(1400), Some(Ipv4Addr::LOCALHOST))
        );

        for (option, value) in [
            ("com.docker.network.bridge.name", "a/b"),
            ("com.docker.network.bridge.enable_icc", "maybe"),
            ("com.docker.network.driver.mtu", "7"),
        ] {
            let mut wanted = request("");
            wanted.options.insert(option.to_owned(), value.to_owned());
            let message = plan(&wanted).unwrap_err().to_string();
            assert!(message.contains(option) && message.contains(value), "{message}");
        }
    }

    #[test]
    fn drivers_we_do_not_have_are_named() {
        let with = |driver: &str| NetworkRequest {
            driver: driver.to_owned(),
            ..request("")
        };
        assert!(matches!(plan(&with("macvlan")), Err(NetError::UnsupportedDriver { driver }) if driver == "macvlan"));
        assert!(matches!(plan(&with("banana")), Err(NetError::UnknownDriver { .. })));
    }
}
