//! The values that cross the border of this crate: what the engine asks for
//! (requests) and what it keeps (records, stored by the engine as JSON).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::NetError;

/// What is asked of a new network; every string is the user's own, parsed and
/// judged by [`crate::Net::plan_network`].
#[derive(Debug, Clone, Default)]
pub struct NetworkRequest {
    /// The identifier the engine has chosen (64 hexadecimal digits).
    pub id: String,
    /// The user's name of the network.
    pub name: String,
    /// `bridge` (or empty), anything else is refused by name.
    pub driver: String,
    /// Driver options, such as `com.docker.network.bridge.name`.
    pub options: BTreeMap<String, String>,
    /// No way out of this network and none in.
    pub internal: bool,
    /// `None` is the default: yes.
    pub enable_ipv4: Option<bool>,
    /// `None` is the default: no, unless an IPv6 subnet is asked for.
    pub enable_ipv6: Option<bool>,
    /// IPAM driver, `default` or empty.
    pub ipam_driver: String,
    /// Wanted subnets; a family that is enabled and not listed gets one chosen.
    pub pools: Vec<PoolRequest>,
}

/// One entry of `IPAM.Config`.
#[derive(Debug, Clone, Default)]
pub struct PoolRequest {
    /// Subnet in CIDR form.
    pub subnet: Option<String>,
    /// Part of the subnet that addresses are chosen from.
    pub ip_range: Option<String>,
    /// Address of the bridge; the first usable one by default.
    pub gateway: Option<String>,
    /// Reserved addresses by name.
    pub auxiliary: BTreeMap<String, String>,
}

/// A network as planned: complete, valid, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Identifier (64 hexadecimal digits).
    pub id: String,
    /// The user's name.
    pub name: String,
    /// Name of the bridge interface on the host.
    pub bridge: String,
    /// True for the instance's own default network (`bridge`): no name
    /// service, the host's resolv.conf is copied instead.
    pub default_bridge: bool,
    /// No way out and none in.
    pub internal: bool,
    /// Containers of this network may talk to each other.
    pub icc: bool,
    /// Outgoing IPv4 and IPv6 connections take the host's address.
    pub masquerade: bool,
    /// MTU of the bridge and its endpoints; `None` leaves the kernel's 1500.
    pub mtu: Option<u32>,
    /// Where ports without a host address are published.
    pub host_binding_ipv4: Option<Ipv4Addr>,
    /// Start of the interface names inside containers, `eth` by default.
    pub container_prefix: String,
    /// At most one pool per family comes first; more are extra ranges.
    pub pools: Vec<Pool>,
}

impl NetworkRecord {
    /// Whether endpoints get an IPv4 address.
    pub fn has_ipv4(&self) -> bool {
        self.pools.iter().any(|pool| pool.subnet.addr().is_ipv4())
    }

    /// Whether endpoints get an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.pools.iter().any(|pool| pool.subnet.addr().is_ipv6())
    }
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet (network address, host bits zero).
    pub subnet: IpNet,
    /// Addresses are chosen from this part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<IpNet>,
    /// Address of the bridge.
    pub gateway: IpAddr,
    /// Chosen by the user, so that fixed addresses are allowed.
    #[serde(default)]
    pub user_defined: bool,
    /// Addresses never handed out, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let invalid = || NetError::InvalidMac { text: text.to_owned() };
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let mut bytes = [0u8; 6];
        if parts.len() != bytes.len() {
            return Err(invalid());
        }
        for (byte, part) in bytes.iter_mut().zip(parts) {
            if part.len() != 2 {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        Ok(MacAddress(bytes))
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

/// What a container wants of one network.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// Whose namespace (made before by [`crate::Net::create_namespace`]).
    pub container_id: String,
    /// Every name it answers to on this network: container name, aliases,
    /// short id, the host name if it is the user's choice. The first one is the
    /// answer to a reverse query.
    pub dns_names: Vec<String>,
    /// Names that only this container knows, and which name of the network each means.
    pub links: BTreeMap<String, String>,
    /// Hardware address, derived from the IPv4 address by default.
    pub mac: Option<String>,
    /// Fixed address.
    pub ipv4: Option<String>,
    /// Fixed address.
    pub ipv6: Option<String>,
    /// Among several networks the highest gives the default route; equal ones
    /// decide by name of the network, as in Docker.
    pub gateway_priority: i64,
}

/// A container's place in a network, as it is now; kept by the engine while
/// the container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Identifier of this endpoint (64 hexadecimal digits).
    pub id: String,
    /// The network.
    pub network_id: String,
    /// The network's name, which takes part in the choice of the default route.
    pub network_name: String,
    /// The container.
    pub container_id: String,
    /// Interface inside the container (`eth0`).
    pub interface: String,
    /// The other end, on the host.
    pub host_interface: String,
    /// Hardware address.
    pub mac: MacAddress,
    /// Address with the subnet's prefix length.
    pub ipv4: Option<IpNet>,
    /// Address with the subnet's prefix length.
    pub ipv6: Option<IpNet>,
    /// Gateway, absent on internal networks.
    pub gateway4: Option<IpAddr>,
    /// Gateway, absent on internal networks.
    pub gateway6: Option<IpAddr>,
    /// See [`EndpointRequest::gateway_priority`].
    pub gateway_priority: i64,
    /// See [`EndpointRequest::dns_names`].
    pub dns_names: Vec<String>,
    /// See [`EndpointRequest::links`].
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" | "" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(NetError::InvalidProtocol { text: text.to_owned() }),
        }
    }
}

/// One wanted binding of a container's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// Port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Host address; `None` means every address of both families.
    pub host_ip: Option<IpAddr>,
    /// First and last host port allowed; `None` means any free one.
    pub host_ports: Option<(u16, u16)>,
}

impl PortRequest {
    /// Reads one entry of `PortBindings`: key `80/tcp`, `HostIp` and `HostPort`
    /// (`""`, `"8080"`, `"8080-8090"`).
    pub fn parse(key: &str, host_ip: &str, host_port: &str) -> Result<PortRequest, NetError> {
        crate::ports::parse_request(key, host_ip, host_port)
    }
}

/// One published port: there is one per host address family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Port inside the container.
    pub container_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Host address, unspecified (`0.0.0.0`, `::`) for all.
    pub host_ip: IpAddr,
    /// Host port.
    pub host_port: u16,
}

/// What a namespace is made for.
#[derive(Debug, Clone, Default)]
pub struct NamespaceRequest {
    /// Name of the namespace: the container's id.
    pub container_id: String,
    /// Where the name service forwards what it does not know, from inside
    /// this namespace ([`crate::resolv::ResolvConf::upstream`]).
    pub upstream: Vec<Upstream>,
    /// Where it is pinned.
    pub pinning: Pinning,
}

/// Where a namespace is pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Out of the host's mount namespace, which stays as small as it is.
    #[default]
    Apart,
    /// At [`crate::Net::namespace_path`] in the host's mount namespace, for a runtime of somebody else
    /// that may come back to the path later.
    InPlace,
}

/// A name server to forward to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its address.
    pub address: IpAddr,
    /// True when the queries must leave from the host's namespace (the host's
    /// own loopback resolver, for instance), false for the container's.
    pub from_host: bool,
}

/// One container's state as the engine's records have it, for
/// [`crate::Net::reconcile`].
#[derive(Debug, Clone, Default)]
pub struct DesiredContainer {
    /// As it was given to [`crate::Net::create_namespace`].
    pub namespace: NamespaceRequest,
    /// Its endpoints.
    pub endpoints: Vec<EndpointRecord>,
    /// Its published ports.
    pub ports: Vec<PublishedPort>,
}

/// Everything that should exist.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// All networks with kernel objects (bridge networks).
    pub networks: Vec<NetworkRecord>,
    /// All containers whose namespace should exist.
    pub containers: Vec<DesiredContainer>,
}

/// What [`crate::Net::reconcile`] found and could not mend.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Containers whose namespace or endpoint is gone: their network has to
    /// be made anew at their next start.
    pub lost: Vec<String>,
    /// Containers whose published ports could not be taken back, and why.
    pub ports_lost: Vec<(String, NetError)>,
    /// Names of removed leftovers.
    pub removed: Vec<String>,
    /// Host interfaces that were missing and are made again.
    pub plugged: Vec<String>,
}
