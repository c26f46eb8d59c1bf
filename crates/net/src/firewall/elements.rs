//! What networks and published ports are in the table: elements of its sets.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ruleset::Set;
use crate::model::{NetworkRecord, Protocol, PublishedPort};

/// One element of one set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Element {
    /// An interface name.
    Interface(Set, String),
    /// An interface paired with itself.
    Pair(Set, String),
    /// A subnet, as the range of its addresses.
    Subnet(Set, IpNet),
    /// A published port and where it leads.
    Port {
        set: Set,
        address: Option<IpAddr>,
        protocol: Protocol,
        port: u16,
        target: IpAddr,
        target_port: u16,
    },
}

impl Element {
    /// The set it belongs to.
    pub(crate) fn set(&self) -> Set {
        match self {
            Element::Interface(set, _) | Element::Pair(set, _) | Element::Subnet(set, _) => *set,
            Element::Port { set, .. } => *set,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Interface(set, name) => write!(f, "{} {{ {name:?} }}", set.name()),
            Element::Pair(set, name) => write!(f, "{} {{ {name:?} . {name:?} }}", set.name()),
            Element::Subnet(set, subnet) => write!(f, "{} {{ {subnet} }}", set.name()),
            Element::Port {
                set,
                address,
                protocol,
                port,
                target,
                target_port,
            } => {
                let address = address.map(|address| format!("{address} . ")).unwrap_or_default();
                write!(
                    f,
                    "{} {{ {address}{protocol} . {port} : {target} . {target_port} }}",
                    set.name()
                )
            }
        }
    }
}

/// Elements of one network.
pub(crate) fn network_elements(network: &NetworkRecord) -> Vec<Element> {
    let bridge = || network.bridge.clone();
    let mut elements = vec![Element::Interface(Set::Bridges, bridge())];
    if network.internal {
        elements.push(Element::Interface(Set::Internal, bridge()));
    }
    if network.icc {
        elements.push(Element::Pair(Set::Open, bridge()));
    }
    for subnet in network.pools.iter().map(|pool| pool.subnet) {
        let (masquerade, subnets) = match subnet {
            IpNet::V4(_) => (Set::Masquerade4, Set::Subnets4),
            IpNet::V6(_) => (Set::Masquerade6, Set::Subnets6),
        };
        elements.push(Element::Subnet(subnets, subnet));
        if network.masquerade && !network.internal {
            elements.push(Element::Subnet(masquerade, subnet));
        }
    }
    elements
}

/// The element of one published port, if the kernel can carry it: not for
/// loopback, and not from one IP version to the other (both are the proxy's).
pub(crate) fn port_element(port: &PublishedPort, target: IpAddr) -> Option<Element> {
    if port.host_ip.is_loopback() || port.host_ip.is_ipv4() != target.is_ipv4() {
        return None;
    }
    let set = match (port.host_ip.is_ipv4(), port.host_ip.is_unspecified()) {
        (true, false) => Set::Publish4,
        (true, true) => Set::PublishAny4,
        (false, false) => Set::Publish6,
        (false, true) => Set::PublishAny6,
    };
    Some(Element::Port {
        set,
        address: (!port.host_ip.is_unspecified()).then_some(port.host_ip),
        protocol: port.protocol,
        port: port.host_port,
        target,
        target_port: port.container_port,
    })
}
