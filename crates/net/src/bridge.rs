//! The bridge driver's hands: bridges and the veth pairs plugged into them.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;
use wharf_sys::failpoint;

use crate::error::NetError;
use crate::ipam;
use crate::model::{EndpointRecord, MacAddress, NetworkRecord};
use crate::netlink::route::{self, BridgeLink, PortMode, VethPair};
use crate::netlink::{BatchError, Message, Socket};

/// Marks every link of an instance, so that it can be found without records.
pub(crate) fn alias(instance: &str) -> String {
    format!("wharf:{instance}")
}

/// Stable, locally administered, and in a range no endpoint's address is in.
fn bridge_mac(bridge: &str) -> MacAddress {
    let [a, b, c, d, ..] = ipam::fingerprint(bridge).to_be_bytes();
    MacAddress([0x02, 0x57, a, b, c, d])
}

/// The host's end of a pair; the bridge has an address of its own, so this one
/// is never on the wire.
fn port_mac(host_interface: &str) -> MacAddress {
    let [a, b, c, d, ..] = ipam::fingerprint(host_interface).to_be_bytes();
    MacAddress([0x02, 0x58, a, b, c, d])
}

/// Derived from the address, as Docker does: an address that moves to another
/// container takes its hardware address along, and no cache goes stale.
pub(crate) fn endpoint_mac(address: Option<IpAddr>) -> MacAddress {
    let bytes = match address {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => {
            let octets = address.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
        None => [0; 4],
    };
    MacAddress([0x02, 0x42, bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn netlink_error(action: String) -> impl FnOnce(BatchError) -> NetError {
    move |error| NetError::Netlink {
        action,
        source: error.source,
    }
}

/// Index of a link that must exist.
pub(crate) fn index_of(socket: &Socket, name: &str) -> Result<u32, NetError> {
    let action = || format!("looking up {name}");
    route::index_by_name(socket, name).map_err(|source| NetError::Netlink {
        action: action(),
        source,
    })
}

/// Makes a network's bridge as its record says, or completes what is there;
/// answers its index.
pub(crate) fn ensure_bridge(socket: &mut Socket, instance: &str, network: &NetworkRecord) -> Result<u32, NetError> {
    let name = network.bridge.as_str();
    let link = BridgeLink {
        name,
        mac: bridge_mac(name),
        mtu: network.mtu,
    };
    match socket.batch(&[route::create_bridge(&link)]) {
        Err(error) if !error.is(Errno::EXIST) => {
            return Err(netlink_error(format!("creating bridge {name}"))(error));
        }
        Err(_) if is_ours(socket, instance, name) => {
            // One of an earlier version; without it, it is slower with many ports and no worse.
            let _ = socket.batch(&[route::forget_multicast(name)]);
        }
        _ => {}
    }
    let index = index_of(socket, name)?;
    let addresses = network.pools.iter().filter_map(|pool| {
        ipnet::IpNet::new(pool.gateway, pool.subnet.prefix_len())
            .ok()
            .map(|net| route::add_address(index, net))
    });
    let mut messages = vec![route::raise_link(name, Some(&alias(instance)), network.has_ipv6())];
    messages.extend(addresses);
    socket
        .batch(&messages)
        .map_err(netlink_error(format!("setting up bridge {name}")))?;
    allow_forwarding(network)?;
    Ok(index)
}

/// Whether a link bears the instance's mark.
fn is_ours(socket: &mut Socket, instance: &str, name: &str) -> bool {
    let link = route::link_by_name(socket, name).ok().flatten();
    link.is_some_and(|link| link.alias == alias(instance))
}

/// Removes a bridge; gone already is fine.
pub(crate) fn remove_link(socket: &mut Socket, name: &str) -> Result<(), NetError> {
    match socket.batch(&[route::delete_link(name)]) {
        Err(error) if !error.is(Errno::NODEV) => Err(netlink_error(format!("removing {name}"))(error)),
        _ => Ok(()),
    }
}

/// Switches forwarding on when a network first needs it: IPv4 for one with a
/// way out, IPv6 only for one with IPv6 (it makes the host stop accepting
/// router advertisements, so a host that needs none is spared).
fn allow_forwarding(network: &NetworkRecord) -> Result<(), NetError> {
    if network.internal {
        return Ok(());
    }
    if network.has_ipv4() {
        switch_on("/proc/sys/net/ipv4/ip_forward")?;
    }
    if network.has_ipv6() {
        switch_on("/proc/sys/net/ipv6/conf/all/forwarding")?;
    }
    Ok(())
}

fn switch_on(path: &str) -> Result<(), NetError> {
    if std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0") {
        return Ok(());
    }
    std::fs::write(path, "1").map_err(|source| NetError::File {
        action: "switching forwarding on in",
        path: Path::new(path).to_owned(),
        source,
    })
}

/// The two namespaces an endpoint stands in.
pub(crate) struct Sides<'a> {
    pub host: &'a mut Socket,
    pub container: &'a mut Socket,
    pub container_namespace: BorrowedFd<'a>,
}

/// Plugs an endpoint into its bridge: pair, port, neighbours, addresses. On
/// failure nothing is left of it.
pub(crate) fn attach(
    sides: &mut Sides,
    instance: &str,
    network: &NetworkRecord,
    bridge: u32,
    endpoint: &EndpointRecord,
) -> Result<(), NetError> {
    let result = make_pair(sides, &alias(instance), (network, bridge), endpoint)
        .and_then(|()| configure(sides.container, network, endpoint))
        .and_then(|()| plug_in(sides.host, network, bridge, endpoint));
    if result.is_err() {
        // The failure that matters is the first one.
        let _ = detach(sides.host, bridge, endpoint);
    }
    result
}

/// ORDER: pair and mark go to the kernel in one call, which handles both before it returns to a process that is killed.
/// A pair without the mark would be nobody's: a container whose namespace is kept for its restart would find its
/// interface there already.
fn make_pair(
    sides: &mut Sides,
    mark: &str,
    (network, bridge): (&NetworkRecord, u32),
    endpoint: &EndpointRecord,
) -> Result<(), NetError> {
    let pair = VethPair {
        host: &endpoint.host_interface,
        host_mac: port_mac(&endpoint.host_interface),
        bridge,
        peer: &endpoint.interface,
        peer_mac: endpoint.mac,
        peer_namespace: sides.container_namespace,
        mtu: network.mtu,
    };
    let action = format!("connecting {} to bridge {}", endpoint.host_interface, network.bridge);
    sides
        .host
        .batch(&[
            route::create_veth(&pair),
            route::mark_link(&endpoint.host_interface, mark),
        ])
        .map_err(netlink_error(action))?;
    failpoint::reach("net/connect/paired");
    leave_to_bridge(&endpoint.host_interface);
    Ok(())
}

/// Keeps IPv6 off the host's end of a pair: the bridge has the addresses. Each end that has it adds a route
/// to the same multicast prefix, and the kernel walks all of them whenever one comes or goes.
fn leave_to_bridge(host_interface: &str) {
    // Not there, or not to be written: then it only costs time.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{host_interface}/disable_ipv6"), "1");
}

/// Brings the host's end up as a port of the bridge.
///
/// ORDER: after the container's end, so that the port forwards at once. A port that comes up without its
/// peer is disabled and enabled again later, for which the kernel looks at all ports of the bridge.
fn plug_in(host: &mut Socket, network: &NetworkRecord, bridge: u32, endpoint: &EndpointRecord) -> Result<(), NetError> {
    let port = index_of(host, &endpoint.host_interface)?;
    let mut messages = vec![raise_port(network, endpoint)];
    messages.extend(addresses(endpoint).map(|address| route::add_neighbour(bridge, address, endpoint.mac)));
    // An earlier owner of this address may still be plugged in while the kernel takes its namespace down;
    // the bridge must not look for it there.
    messages.push(route::add_bridge_entry(port, endpoint.mac));
    let action = format!("connecting {} to bridge {}", endpoint.host_interface, network.bridge);
    host.batch(&messages).map_err(netlink_error(action))
}

/// Has the host's end of a pair forward as its network wants it, and brings it up.
fn raise_port(network: &NetworkRecord, endpoint: &EndpointRecord) -> Message {
    let mode = PortMode {
        hairpin: true,
        isolated: !network.icc,
    };
    route::raise_port(&endpoint.host_interface, &mode)
}

fn addresses(endpoint: &EndpointRecord) -> impl Iterator<Item = IpAddr> + '_ {
    [endpoint.ipv4, endpoint.ipv6]
        .into_iter()
        .flatten()
        .map(|net| net.addr())
}

/// Addresses and the gateway's neighbour entry inside the container.
fn configure(container: &mut Socket, network: &NetworkRecord, endpoint: &EndpointRecord) -> Result<(), NetError> {
    let index = index_of(container, &endpoint.interface)?;
    let mut messages = vec![route::raise_link(&endpoint.interface, None, endpoint.ipv6.is_some())];
    messages.extend(
        [endpoint.ipv4, endpoint.ipv6]
            .into_iter()
            .flatten()
            .map(|net| route::add_address(index, net)),
    );
    let gateways = [endpoint.gateway4, endpoint.gateway6].into_iter().flatten();
    messages.extend(gateways.map(|gateway| route::add_neighbour(index, gateway, bridge_mac(&network.bridge))));
    let action = format!(
        "configuring {} of container {}",
        endpoint.interface, endpoint.container_id
    );
    container.batch(&messages).map_err(netlink_error(action))
}

/// Unplugs an endpoint; goes on when parts of it are gone.
pub(crate) fn detach(host: &mut Socket, bridge: u32, endpoint: &EndpointRecord) -> Result<(), NetError> {
    forget_addresses(host, bridge, endpoint);
    remove_link(host, &endpoint.host_interface)
}

/// Forgets the neighbour entries of an endpoint.
pub(crate) fn forget_addresses(host: &mut Socket, bridge: u32, endpoint: &EndpointRecord) {
    for address in addresses(endpoint) {
        // Gone with the bridge or never made: nothing to report.
        let _ = host.batch(&[route::delete_neighbour(bridge, address)]);
    }
}

/// Plugs an existing pair into a bridge that was made anew.
pub(crate) fn plug_again(
    host: &mut Socket,
    network: &NetworkRecord,
    bridge: u32,
    endpoint: &EndpointRecord,
) -> Result<(), NetError> {
    let mut messages = vec![
        route::set_master(&endpoint.host_interface, bridge),
        raise_port(network, endpoint),
    ];
    messages.extend(addresses(endpoint).map(|address| route::add_neighbour(bridge, address, endpoint.mac)));
    let action = format!(
        "connecting {} to bridge {} again",
        endpoint.host_interface, network.bridge
    );
    host.batch(&messages).map_err(netlink_error(action))
}

/// The default routes of a container: those that its endpoints now decide on.
pub(crate) fn apply_default_routes(
    container: &mut Socket,
    before: &DefaultRoutes,
    after: &DefaultRoutes,
) -> Result<(), NetError> {
    for (old, new) in [(&before.ipv4, &after.ipv4), (&before.ipv6, &after.ipv6)] {
        match (old, new) {
            (old, new) if old == new => {}
            (_, Some(new)) => {
                let index = index_of(container, &new.interface)?;
                container
                    .batch(&[route::replace_default_route(index, new.gateway)])
                    .map_err(netlink_error(format!("setting the default route to {}", new.gateway)))?;
            }
            // Its interface is gone, and with it most likely the route.
            (Some(old), None) => drop(container.batch(&[route::delete_default_route(old.gateway)])),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Where packets for elsewhere go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub interface: String,
    pub gateway: IpAddr,
}

/// One per family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DefaultRoutes {
    pub ipv4: Option<Gateway>,
    pub ipv6: Option<Gateway>,
}

/// Among endpoints with a gateway the highest priority wins, then the first
/// name of a network.
pub(crate) fn plan_default_routes<'a>(endpoints: impl Iterator<Item = &'a EndpointRecord> + Clone) -> DefaultRoutes {
    let best = |gateway: fn(&EndpointRecord) -> Option<IpAddr>| {
        endpoints
            .clone()
            .filter(|endpoint| gateway(endpoint).is_some())
            .min_by_key(|endpoint| (std::cmp::Reverse(endpoint.gateway_priority), &endpoint.network_name))
            .and_then(|endpoint| {
                Some(Gateway {
                    interface: endpoint.interface.clone(),
                    gateway: gateway(endpoint)?,
                })
            })
    };
    DefaultRoutes {
        ipv4: best(|endpoint| endpoint.gateway4),
        ipv6: best(|endpoint| endpoint.gateway6),
    }
}
