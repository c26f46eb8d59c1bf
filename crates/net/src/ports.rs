//! Host ports: what a binding asks for and which port it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::NetError;
use crate::model::{PortRequest, Protocol, PublishedPort};

/// See [`PortRequest::parse`].
pub(crate) fn parse_request(key: &str, host_ip: &str, host_port: &str) -> Result<PortRequest, NetError> {
    let invalid = |text: &str| NetError::InvalidPort { text: text.to_owned() };
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let container_port = port
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid(key))?;
    let host_ip = match host_ip.trim_matches(['[', ']']) {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| NetError::InvalidAddress { text: text.to_owned() })?,
        ),
    };
    Ok(PortRequest {
        container_port,
        protocol: protocol.parse()?,
        host_ip,
        host_ports: parse_range(host_port)?,
    })
}

/// `""` and `"0"` are any port, `"80"` is one, `"80-90"` a choice.
fn parse_range(text: &str) -> Result<Option<(u16, u16)>, NetError> {
    let invalid = || NetError::InvalidPort { text: text.to_owned() };
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    match (first, last) {
        (0, 0) => Ok(None),
        (first, last) if first == 0 || last < first => Err(invalid()),
        range => Ok(Some(range)),
    }
}

/// Ports tried when the kernel does not tell its own range.
const FALLBACK_RANGE: (u16, u16) = (49153, 65535);
const LISTEN_BACKLOG: i32 = 1024;

/// What holds a host port: a socket that the keeper serves. SCTP has none.
pub(crate) type Hold = Option<OwnedFd>;

/// A published port with the socket that holds it.
#[derive(Debug)]
pub(crate) struct Allocated {
    pub port: PublishedPort,
    pub hold: Hold,
}

/// Host ports in use by this instance.
#[derive(Debug, Default)]
pub(crate) struct PortTable {
    used: BTreeMap<(Protocol, u16), BTreeSet<IpAddr>>,
    /// The ephemeral port tried next.
    next: u16,
}

/// Where the ports of a container lead, and its network's wish.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    pub host_binding_ipv4: Option<Ipv4Addr>,
}

impl Target {
    /// The container's address a connection to `host` goes to.
    pub(crate) fn address_for(&self, host: IpAddr) -> Option<IpAddr> {
        if host.is_ipv4() {
            self.ipv4.or(self.ipv6)
        } else {
            self.ipv6.or(self.ipv4)
        }
    }
}

impl PortTable {
    /// Notes a port as used, as found in records.
    pub(crate) fn note(&mut self, port: &PublishedPort) {
        self.used
            .entry((port.protocol, port.host_port))
            .or_default()
            .insert(port.host_ip);
    }

    /// Frees a port.
    pub(crate) fn release(&mut self, port: &PublishedPort) {
        let key = (port.protocol, port.host_port);
        if let Some(addresses) = self.used.get_mut(&key) {
            addresses.remove(&port.host_ip);
            if addresses.is_empty() {
                self.used.remove(&key);
            }
        }
    }

    fn conflicts(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let same_family = |other: &&IpAddr| other.is_ipv4() == address.is_ipv4();
        self.used.get(&(protocol, port)).is_some_and(|addresses| {
            addresses
                .iter()
                .filter(same_family)
                .any(|other| *other == address || other.is_unspecified() || address.is_unspecified())
        })
    }

    /// Allocates and binds all requests or none.
    pub(crate) fn allocate(&mut self, requests: &[PortRequest], target: &Target) -> Result<Vec<Allocated>, NetError> {
        let mut done: Vec<Allocated> = Vec::new();
        for request in requests {
            match self.allocate_one(request, target) {
                Ok(mut allocated) => done.append(&mut allocated),
                Err(error) => {
                    done.iter().for_each(|allocated| self.release(&allocated.port));
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    /// One host port for every address of the request.
    fn allocate_one(&mut self, request: &PortRequest, target: &Target) -> Result<Vec<Allocated>, NetError> {
        let addresses = host_addresses(request, target);
        let (first, last) = request.host_ports.unwrap_or_else(ephemeral_range);
        let mut refusal = None;
        for port in self.candidates(request.host_ports, (first, last)) {
            match self.bind_all(request, target, &addresses, port) {
                Ok(allocated) => {
                    if request.host_ports.is_none() {
                        self.next = port.wrapping_add(1);
                    }
                    allocated.iter().for_each(|allocated| self.note(&allocated.port));
                    return Ok(allocated);
                }
                Err(error @ (NetError::PortAllocated { .. } | NetError::PortBusy { .. })) => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        match refusal {
            Some(error) if request.host_ports.is_some() => Err(error),
            _ => Err(NetError::PortsExhausted),
        }
    }

    /// Ports in the order they are tried: ephemeral ones go round.
    fn candidates(&self, wanted: Option<(u16, u16)>, (first, last): (u16, u16)) -> impl Iterator<Item = u16> + use<> {
        let start = if wanted.is_none() && (first..=last).contains(&self.next) {
            self.next
        } else {
            first
        };
        (start..=last).chain(first..start)
    }

    fn bind_all(
        &self,
        request: &PortRequest,
        target: &Target,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<Vec<Allocated>, NetError> {
        let mut allocated = Vec::new();
        for host_ip in addresses.iter().copied() {
            if self.conflicts(request.protocol, host_ip, port) {
                return Err(NetError::PortAllocated { address: host_ip, port });
            }
            let published = PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host_ip,
                host_port: port,
            };
            match hold(&published) {
                Ok(hold) => allocated.push(Allocated { port: published, hold }),
                // COMPAT: a host without IPv6 publishes on IPv4 only.
                Err(error) if request.host_ip.is_none() && host_ip.is_ipv6() && is_without_ipv6(&error) => {}
                Err(source) => return Err(bind_error(&published, target, source)),
            }
        }
        Ok(allocated)
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let unsupported = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(|errno| Some(errno.raw_os_error()));
    unsupported.contains(&error.raw_os_error())
}

fn bind_error(published: &PublishedPort, target: &Target, source: io::Error) -> NetError {
    let (address, port) = (published.host_ip, published.host_port);
    let (container_port, protocol) = (published.container_port, published.protocol);
    let target = target.address_for(address).unwrap_or(address);
    match source.kind() {
        io::ErrorKind::AddrInUse => NetError::PortBusy {
            address,
            port,
            target,
            container_port,
            protocol,
        },
        _ => NetError::PortBind {
            address,
            port,
            target,
            container_port,
            protocol,
            source,
        },
    }
}

/// A port that another program has taken.
pub(crate) fn busy(published: &PublishedPort, target: &Target) -> NetError {
    bind_error(published, target, io::ErrorKind::AddrInUse.into())
}

/// Which host addresses a request means.
fn host_addresses(request: &PortRequest, target: &Target) -> Vec<IpAddr> {
    match (request.host_ip, target.host_binding_ipv4) {
        (Some(address), _) => vec![address],
        (None, Some(address)) if !address.is_unspecified() => vec![IpAddr::V4(address)],
        (None, _) => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
    }
}

/// The host's own range of ephemeral ports, which is Docker's choice too.
fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first != 0 && first <= last => (first, last),
        _ => FALLBACK_RANGE,
    }
}

/// Takes a host port, so that every program of the host sees it in use.
pub(crate) fn hold(port: &PublishedPort) -> io::Result<Hold> {
    let address = SocketAddr::new(port.host_ip, port.host_port);
    match port.protocol {
        Protocol::Tcp => bind_tcp(address).map(Some),
        Protocol::Udp => bind_udp(address).map(Some),
        Protocol::Sctp => Ok(None),
    }
}

/// A listening socket, non-blocking.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open_socket(address, SocketType::STREAM)?;
    // Connections of an earlier container in TIME_WAIT are no other listener.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, LISTEN_BACKLOG)?;
    Ok(socket)
}

/// A bound datagram socket, non-blocking.
pub(crate) fn bind_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open_socket(address, SocketType::DGRAM)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

fn open_socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host_ip: &str, host_ports: &str) -> PortRequest {
        PortRequest::parse("80/tcp", host_ip, host_ports).unwrap()
    }

    const TARGET: Target = Target {
        ipv4: Some(IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2))),
        ipv6: None,
        host_binding_ipv4: None,
    };

    #[test]
    fn bindings_are_read_as_the_api_sends_them() {
        let parsed = request("", "8080");
        assert_eq!(
            (parsed.container_port, parsed.host_ip, parsed.host_ports),
            (80, None, Some((8080, 8080)))
        );
        assert_eq!(request("[::1]", "8000-8010").host_ports, Some((8000, 8010)));
        assert_eq!(request("::1", "").host_ip, Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(request("", "0").host_ports, None);
        for (key, host_ip, ports) in [
            ("0/tcp", "", ""),
            ("80/xyz", "", ""),
            ("80/tcp", "nowhere", ""),
            ("80", "", "9-8"),
            ("80", "", "70000"),
        ] {
            assert!(
                PortRequest::parse(key, host_ip, ports).is_err(),
                "{key} {host_ip} {ports}"
            );
        }
    }

    #[test]
    fn a_port_of_another_container_is_already_allocated() {
        let mut table = PortTable::default();
        let taken = table.allocate(&[request("127.0.0.1", "")], &TARGET).unwrap();
        let port = taken[0].port.host_port;
        for address in ["127.0.0.1", "0.0.0.0"] {
            let error = table
                .allocate(&[request(address, &port.to_string())], &TARGET)
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("Bind for {address}:{port} failed: port is already allocated")
            );
        }
        table.release(&taken[0].port);
        drop(taken);
        table
            .allocate(&[request("127.0.0.1", &port.to_string())], &TARGET)
            .unwrap();
    }

    #[test]
    fn a_port_of_another_program_is_in_use_and_nothing_is_kept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut table = PortTable::default();
        let requests = [request("127.0.0.1", ""), request("127.0.0.1", &port.to_string())];
        let error = table.allocate(&requests, &TARGET).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("failed to bind host port for 127.0.0.1:{port}:172.17.0.2:80/tcp: address already in use")
        );
        assert!(table.used.is_empty());
    }

    #[test]
    fn a_range_takes_its_first_free_port_and_runs_out_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let first = listener.local_addr().unwrap().port().min(65534);
        let mut table = PortTable::default();
        table.note(&PublishedPort {
            container_port: 1,
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::LOCALHOST.into(),
            host_port: first,
        });
        let error = table
            .allocate(&[request("127.0.0.1", &format!("{first}-{first}"))], &TARGET)
            .unwrap_err();
        assert!(matches!(error, NetError::PortAllocated { .. }));
        let range = format!("{first}-65535");
        let allocated = table.allocate(&[request("127.0.0.1", &range)], &TARGET).unwrap();
        assert!(allocated[0].port.host_port > first);
    }

    #[test]
    fn both_families_get_the_same_ephemeral_port_in_the_hosts_range() {
        let mut table = PortTable::default();
        let allocated = table.allocate(&[request("", ""), request("", "")], &TARGET).unwrap();
        let ports: Vec<u16> = allocated.iter().map(|allocated| allocated.port.host_port).collect();
        let (first, last) = ephemeral_range();
        assert!(ports.iter().all(|port| (first..=last).contains(port)));
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 2, "one per request: {ports:?}");
    }

    #[test]
    fn families_and_protocols_do_not_conflict_with_each_other() {
        let mut table = PortTable::default();
        let port = |host_ip: &str, protocol| PublishedPort {
            container_port: 1,
            protocol,
            host_ip: host_ip.parse().unwrap(),
            host_port: 80,
        };
        table.note(&port("0.0.0.0", Protocol::Tcp));
        assert!(table.conflicts(Protocol::Tcp, "10.0.0.1".parse().unwrap(), 80));
        assert!(!table.conflicts(Protocol::Udp, "10.0.0.1".parse().unwrap(), 80));
        assert!(!table.conflicts(Protocol::Tcp, "::".parse().unwrap(), 80));
    }
}
