//! The requests of rtnetlink: links, addresses, routes, neighbours.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;

use super::message::{Attributes, F_CREATE, F_EXCL, F_REPLACE, Message};
use super::socket::Socket;
use crate::model::MacAddress;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NUD_NOARP: u16 = 0x40;
const NTF_MASTER: u8 = 0x04;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;

const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `struct ifinfomsg`
fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut bytes = [0; IFINFOMSG];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// What a bridge is made of.
pub(crate) struct BridgeLink<'a> {
    pub name: &'a str,
    pub mac: MacAddress,
    pub mtu: Option<u32>,
}

/// Makes a bridge, down. It learns nothing of multicast groups: what is sent to one reaches all ports, as
/// it does with learning while nobody on the bridge asks for memberships (and by default nobody does), and
/// no port's timers are looked at when another one comes or goes.
pub(crate) fn create_bridge(bridge: &BridgeLink) -> Message {
    let message = Message::new(RTM_NEWLINK, F_CREATE | F_EXCL, &ifinfomsg(0, 0, 0))
        .text(IFLA_IFNAME, bridge.name)
        .attribute(IFLA_ADDRESS, &bridge.mac.0);
    without_multicast_groups(with_mtu(message, bridge.mtu))
}

/// The same for a bridge that is there.
pub(crate) fn forget_multicast(bridge: &str) -> Message {
    without_multicast_groups(Message::new(RTM_NEWLINK, 0, &ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, bridge))
}

fn without_multicast_groups(message: Message) -> Message {
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge")
            .nest(IFLA_INFO_DATA, |data| data.attribute(IFLA_BR_MCAST_SNOOPING, &[0]))
    })
}

fn with_mtu(message: Message, mtu: Option<u32>) -> Message {
    match mtu {
        Some(mtu) => message.number(IFLA_MTU, mtu),
        None => message,
    }
}

/// What a veth pair is made of.
pub(crate) struct VethPair<'a> {
    pub host: &'a str,
    pub host_mac: MacAddress,
    pub bridge: u32,
    pub peer: &'a str,
    pub peer_mac: MacAddress,
    pub peer_namespace: BorrowedFd<'a>,
    pub mtu: Option<u32>,
}

/// Makes a pair whose peer is born inside the other namespace, both down.
pub(crate) fn create_veth(pair: &VethPair) -> Message {
    let message = Message::new(RTM_NEWLINK, F_CREATE | F_EXCL, &ifinfomsg(0, 0, 0))
        .text(IFLA_IFNAME, pair.host)
        .attribute(IFLA_ADDRESS, &pair.host_mac.0)
        .number(IFLA_MASTER, pair.bridge);
    with_mtu(message, pair.mtu).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest_after(VETH_INFO_PEER, &ifinfomsg(0, 0, 0), |peer| {
                let namespace = u32::try_from(pair.peer_namespace.as_raw_fd()).unwrap_or(u32::MAX);
                let peer = peer
                    .text(IFLA_IFNAME, pair.peer)
                    .attribute(IFLA_ADDRESS, &pair.peer_mac.0)
                    .number(IFLA_NET_NS_FD, namespace);
                with_mtu(peer, pair.mtu)
            })
        })
    })
}

/// How a port of a bridge forwards.
pub(crate) struct PortMode {
    /// May send a frame back to where it came from: a container that reaches
    /// its own published port under br_netfilter.
    pub hairpin: bool,
    /// Talks to the bridge only, not to other isolated ports.
    pub isolated: bool,
}

/// Marks a link as ours.
pub(crate) fn mark_link(name: &str, alias: &str) -> Message {
    Message::new(RTM_NEWLINK, 0, &ifinfomsg(0, 0, 0))
        .text(IFLA_IFNAME, name)
        .text(IFLA_IFALIAS, alias)
}

/// Sets the bridge port of a host-side veth and brings it up.
pub(crate) fn raise_port(name: &str, mode: &PortMode) -> Message {
    without_link_local(up_by_name(name)).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge")
            .nest(IFLA_INFO_SLAVE_DATA, |port| {
                port.attribute(IFLA_BRPORT_MODE, &[u8::from(mode.hairpin)])
                    .attribute(IFLA_BRPORT_ISOLATED, &[u8::from(mode.isolated)])
            })
    })
}

/// Marks a link as ours and brings it up; `link_local` lets IPv6 give it an
/// address of its own accord.
pub(crate) fn raise_link(name: &str, alias: Option<&str>, link_local: bool) -> Message {
    let message = up_by_name(name);
    let message = match alias {
        Some(alias) => message.text(IFLA_IFALIAS, alias),
        None => message,
    };
    if link_local {
        message
    } else {
        without_link_local(message)
    }
}

fn up_by_name(name: &str) -> Message {
    Message::new(RTM_NEWLINK, 0, &ifinfomsg(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name)
}

fn without_link_local(message: Message) -> Message {
    message.nest(IFLA_AF_SPEC, |families| {
        families.nest(u16::from(AF_INET6), |inet6| {
            inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])
        })
    })
}

/// Plugs a link into a bridge.
pub(crate) fn set_master(name: &str, bridge: u32) -> Message {
    Message::new(RTM_NEWLINK, 0, &ifinfomsg(0, 0, 0))
        .text(IFLA_IFNAME, name)
        .number(IFLA_MASTER, bridge)
}

/// Removes a link by name.
pub(crate) fn delete_link(name: &str) -> Message {
    Message::new(RTM_DELLINK, 0, &ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, name)
}

/// Adds an address; an existing one is kept.
pub(crate) fn add_address(index: u32, address: IpNet) -> Message {
    let mut fixed = [0; IFADDRMSG];
    fixed[0] = family_of(address.addr());
    fixed[1] = address.prefix_len();
    // ORDER: without duplicate detection, or the address could not be used for a second.
    fixed[2] = IFA_F_NODAD;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(address.addr());
    let message = Message::new(RTM_NEWADDR, F_CREATE | F_REPLACE, &fixed)
        .attribute(IFA_LOCAL, &bytes)
        .attribute(IFA_ADDRESS, &bytes);
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => message.attribute(IFA_BROADCAST, &net.broadcast().octets()),
        _ => message,
    }
}

fn rtmsg(family: u8) -> [u8; RTMSG] {
    let mut fixed = [0; RTMSG];
    fixed[0] = family;
    fixed[4] = RT_TABLE_MAIN;
    fixed[5] = RTPROT_BOOT;
    fixed[7] = RTN_UNICAST;
    fixed
}

/// Makes this the default route of its family.
pub(crate) fn replace_default_route(index: u32, gateway: IpAddr) -> Message {
    Message::new(RTM_NEWROUTE, F_CREATE | F_REPLACE, &rtmsg(family_of(gateway)))
        .attribute(RTA_GATEWAY, &octets(gateway))
        .number(RTA_OIF, index)
}

/// Removes the default route of the family of `gateway` through it.
pub(crate) fn delete_default_route(gateway: IpAddr) -> Message {
    Message::new(RTM_DELROUTE, 0, &rtmsg(family_of(gateway))).attribute(RTA_GATEWAY, &octets(gateway))
}

fn ndmsg(index: u32, address: IpAddr) -> [u8; 12] {
    let mut fixed = [0; 12];
    fixed[0] = family_of(address);
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    fixed
}

/// A neighbour that never has to be asked for.
pub(crate) fn add_neighbour(index: u32, address: IpAddr, mac: MacAddress) -> Message {
    Message::new(RTM_NEWNEIGH, F_CREATE | F_REPLACE, &ndmsg(index, address))
        .attribute(NDA_DST, &octets(address))
        .attribute(NDA_LLADDR, &mac.0)
}

/// Where a bridge finds a hardware address: behind this port, known before its
/// first frame.
pub(crate) fn add_bridge_entry(port: u32, mac: MacAddress) -> Message {
    let mut fixed = [0; 12];
    fixed[0] = AF_BRIDGE;
    fixed[4..8].copy_from_slice(&port.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_NOARP.to_ne_bytes());
    fixed[10] = NTF_MASTER;
    Message::new(RTM_NEWNEIGH, F_CREATE | F_REPLACE, &fixed).attribute(NDA_LLADDR, &mac.0)
}

/// Forgets a neighbour.
pub(crate) fn delete_neighbour(index: u32, address: IpAddr) -> Message {
    Message::new(RTM_DELNEIGH, 0, &ndmsg(index, address)).attribute(NDA_DST, &octets(address))
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
    pub is_bridge: bool,
    /// Index of the bridge it is plugged into; 0 is none.
    pub master: u32,
    /// Whether it is to be up.
    pub is_up: bool,
}

/// Looks a link up by name.
pub(crate) fn link_by_name(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    let request = Message::new(RTM_GETLINK, 0, &ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, name);
    Ok(socket.query(&request)?.as_deref().and_then(parse_link))
}

/// The index of a link of the socket's namespace. Other than asking for the link, this waits for no lock and
/// has the kernel carry out no pending changes of its carrier first.
pub(crate) fn index_by_name(socket: &Socket, name: &str) -> io::Result<u32> {
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

/// All links of the namespace.
pub(crate) fn links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let answers = socket.dump(&Message::new(RTM_GETLINK, 0, &ifinfomsg(0, 0, 0)))?;
    Ok(answers.iter().filter_map(|answer| parse_link(answer)).collect())
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let flags = u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?);
    let attributes = Attributes::after(payload, IFINFOMSG);
    let info = Attributes::after(attributes.value(IFLA_LINKINFO).unwrap_or_default(), 0);
    Some(Link {
        index,
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        alias: attributes.text(IFLA_IFALIAS).unwrap_or_default().to_owned(),
        is_bridge: info.text(IFLA_INFO_KIND) == Some("bridge"),
        master: attributes.number(IFLA_MASTER).unwrap_or(0),
        is_up: flags & IFF_UP != 0,
    })
}

/// Subnets in use in this namespace: every address and every route but the default.
pub(crate) fn used_subnets(socket: &mut Socket) -> io::Result<Vec<IpNet>> {
    let mut found = Vec::new();
    for payload in socket.dump(&Message::new(RTM_GETADDR, 0, &[0; IFADDRMSG]))? {
        let attributes = Attributes::after(&payload, IFADDRMSG);
        let address = attributes.value(IFA_LOCAL).or(attributes.value(IFA_ADDRESS));
        found.extend(subnet(payload.get(1), address));
    }
    for payload in socket.dump(&Message::new(RTM_GETROUTE, 0, &[0; RTMSG]))? {
        let (table, kind) = (payload.get(4), payload.get(7));
        if table != Some(&RT_TABLE_MAIN) || kind != Some(&RTN_UNICAST) || payload.get(1) == Some(&0) {
            continue;
        }
        found.extend(subnet(
            payload.get(1),
            Attributes::after(&payload, RTMSG).value(RTA_DST),
        ));
    }
    Ok(found)
}

fn subnet(prefix: Option<&u8>, address: Option<&[u8]>) -> Option<IpNet> {
    let address = match address? {
        bytes @ [_, _, _, _] => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        bytes => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(IpNet::new(address, *prefix?).ok()?.trunc())
}
