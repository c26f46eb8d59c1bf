//! What an instance has right now, in memory: the plans of every change are
//! made here, without touching the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::error::NetError;
use crate::firewall::elements::{self, Element};
use crate::ipam::Addresses;
use crate::keeper::PortKey;
use crate::model::{EndpointRecord, EndpointRequest, MacAddress, NamespaceRequest, NetworkRecord, PublishedPort};
use crate::namespace::NamespaceHold;
use crate::netlink::Socket;
use crate::ports::{PortTable, Target};
use crate::{bridge, model};

/// A network and who has which address in it.
#[derive(Debug)]
pub(crate) struct Network {
    pub record: NetworkRecord,
    /// Index of its bridge.
    pub bridge: u32,
    addresses: Vec<Addresses>,
}

impl Network {
    pub(crate) fn new(record: NetworkRecord, bridge: u32) -> Network {
        let addresses = record.pools.iter().map(Addresses::new).collect();
        Network {
            record,
            bridge,
            addresses,
        }
    }

    /// Takes an address of one family: the wanted one, else the lowest free.
    fn take(&mut self, wanted: Option<IpAddr>, is_ipv4: bool) -> Result<Option<IpNet>, NetError> {
        let mut pools = self
            .addresses
            .iter_mut()
            .filter(|pool| pool.subnet().addr().is_ipv4() == is_ipv4)
            .peekable();
        if pools.peek().is_none() {
            return match wanted {
                Some(address) => Err(NetError::AddressOutsideSubnets { address }),
                None => Ok(None),
            };
        }
        for pool in pools {
            let length = pool.subnet().prefix_len();
            let taken = match wanted {
                Some(address) if pool.subnet().contains(&address) => pool.take(address).map(|()| Some(address))?,
                Some(_) => None,
                None => pool.take_any(),
            };
            if let Some(address) = taken {
                return Ok(IpNet::new(address, length).ok());
            }
        }
        Err(match wanted {
            Some(address) => NetError::AddressOutsideSubnets { address },
            None => NetError::AddressesExhausted {
                network: self.record.name.clone(),
                id: self.record.id.clone(),
            },
        })
    }

    /// Notes the addresses of an endpoint found in records.
    pub(crate) fn adopt(&mut self, endpoint: &EndpointRecord) {
        for address in [endpoint.ipv4, endpoint.ipv6].into_iter().flatten() {
            for pool in self
                .addresses
                .iter_mut()
                .filter(|pool| pool.subnet().contains(&address.addr()))
            {
                // Twice in the records is for the engine to find.
                let _ = pool.take(address.addr());
            }
        }
    }

    fn release(&mut self, address: Option<IpNet>) {
        let Some(address) = address.map(|net| net.addr()) else {
            return;
        };
        for pool in self
            .addresses
            .iter_mut()
            .filter(|pool| pool.subnet().contains(&address))
        {
            pool.release(address);
        }
    }

    /// The gateway of a family, where there is a way out.
    fn gateway(&self, is_ipv4: bool) -> Option<IpAddr> {
        let pool = self
            .record
            .pools
            .iter()
            .find(|pool| pool.subnet.addr().is_ipv4() == is_ipv4)?;
        (!self.record.internal).then_some(pool.gateway)
    }
}

/// A container's namespace and what is in it.
#[derive(Debug, Default)]
pub(crate) struct Container {
    pub namespace: NamespaceRequest,
    /// A netlink socket in the namespace, kept from its making for the first endpoint.
    pub socket: Option<Socket>,
    /// The namespace itself, until a process in it leads there.
    pub hold: Option<NamespaceHold>,
    /// By network id.
    pub endpoints: BTreeMap<String, EndpointRecord>,
    pub ports: Vec<PublishedPort>,
    /// Whether the keeper serves names in it.
    pub resolver: bool,
}

impl Container {
    /// The first free interface name of a prefix.
    fn free_interface(&self, prefix: &str) -> String {
        let used: BTreeSet<&str> = self
            .endpoints
            .values()
            .map(|endpoint| endpoint.interface.as_str())
            .collect();
        (0..)
            .map(|number| format!("{prefix}{number}"))
            .find(|name| !used.contains(name.as_str()))
            .expect("invariant: endless numbers, finite interfaces")
    }

    /// The default routes its endpoints decide on.
    pub(crate) fn default_routes(&self) -> bridge::DefaultRoutes {
        bridge::plan_default_routes(self.endpoints.values())
    }
}

/// Everything of an instance.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By id.
    pub networks: BTreeMap<String, Network>,
    /// By id.
    pub containers: BTreeMap<String, Container>,
    pub ports: PortTable,
}

impl State {
    pub(crate) fn network(&self, id: &str) -> Result<&Network, NetError> {
        self.networks
            .get(id)
            .ok_or_else(|| NetError::NetworkNotFound { id: id.to_owned() })
    }

    pub(crate) fn network_mut(&mut self, id: &str) -> Result<&mut Network, NetError> {
        self.networks
            .get_mut(id)
            .ok_or_else(|| NetError::NetworkNotFound { id: id.to_owned() })
    }

    pub(crate) fn container(&mut self, id: &str) -> Result<&mut Container, NetError> {
        self.containers.get_mut(id).ok_or_else(|| NetError::NamespaceNotFound {
            container: id.to_owned(),
        })
    }

    /// Plans an endpoint and reserves its addresses; [`State::release`] undoes it.
    pub(crate) fn plan_endpoint(
        &mut self,
        instance: &str,
        network_id: &str,
        request: &EndpointRequest,
        id: String,
    ) -> Result<EndpointRecord, NetError> {
        let mac: Option<MacAddress> = request
            .mac
            .as_deref()
            .filter(|mac| !mac.is_empty())
            .map(str::parse)
            .transpose()?;
        let wanted4 = parse_fixed(request.ipv4.as_deref())?;
        let wanted6 = parse_fixed(request.ipv6.as_deref())?;
        let container = self.containers.get(&request.container_id);
        let missing = || NetError::NamespaceNotFound {
            container: request.container_id.clone(),
        };
        let container = container.ok_or_else(missing)?;
        let network = self.networks.get_mut(network_id);
        let network = network.ok_or_else(|| NetError::NetworkNotFound {
            id: network_id.to_owned(),
        })?;
        if container.endpoints.contains_key(network_id) {
            let (network, container) = (network.record.name.clone(), request.container_id.clone());
            return Err(NetError::EndpointExists { network, container });
        }
        check_fixed(&network.record, wanted4)?;
        check_fixed(&network.record, wanted6)?;
        let ipv4 = network.take(wanted4, true)?;
        let ipv6 = network.take(wanted6, false).inspect_err(|_| network.release(ipv4))?;
        let address = ipv4.or(ipv6).map(|net| net.addr());
        let prefix: String = instance.chars().filter(char::is_ascii).take(4).collect();
        Ok(EndpointRecord {
            network_id: network_id.to_owned(),
            network_name: network.record.name.clone(),
            container_id: request.container_id.clone(),
            interface: container.free_interface(&network.record.container_prefix),
            host_interface: format!("{prefix}{}", &id[..11]),
            mac: mac.unwrap_or_else(|| bridge::endpoint_mac(address)),
            gateway4: ipv4.and(network.gateway(true)),
            gateway6: ipv6.and(network.gateway(false)),
            ipv4,
            ipv6,
            gateway_priority: request.gateway_priority,
            dns_names: request.dns_names.clone(),
            links: request
                .links
                .iter()
                .map(|(alias, target)| (alias.to_lowercase(), target.clone()))
                .collect(),
            id,
        })
    }

    /// Gives the addresses of an endpoint back.
    pub(crate) fn release(&mut self, endpoint: &EndpointRecord) {
        if let Some(network) = self.networks.get_mut(&endpoint.network_id) {
            network.release(endpoint.ipv4);
            network.release(endpoint.ipv6);
        }
    }

    /// How many endpoints a network has.
    pub(crate) fn endpoint_count(&self, network_id: &str) -> usize {
        self.containers
            .values()
            .filter(|container| container.endpoints.contains_key(network_id))
            .count()
    }

    /// The endpoints through which the ports of a container are published:
    /// those that give it its default routes.
    pub(crate) fn port_target(&self, container: &Container) -> Option<Target> {
        let best = |has: fn(&EndpointRecord) -> bool| {
            container
                .endpoints
                .values()
                .filter(|endpoint| has(endpoint))
                .min_by_key(|endpoint| (std::cmp::Reverse(endpoint.gateway_priority), &endpoint.network_name))
        };
        let ipv4 = best(|endpoint| endpoint.gateway4.is_some());
        let ipv6 = best(|endpoint| endpoint.gateway6.is_some());
        let main = ipv4.or(ipv6)?;
        Some(Target {
            ipv4: ipv4.and_then(|endpoint| endpoint.ipv4).map(|net| net.addr()),
            ipv6: ipv6.and_then(|endpoint| endpoint.ipv6).map(|net| net.addr()),
            host_binding_ipv4: self
                .networks
                .get(&main.network_id)
                .and_then(|network| network.record.host_binding_ipv4),
        })
    }

    /// What the published ports of a container are in the firewall.
    pub(crate) fn port_elements(ports: &[PublishedPort], target: &Target) -> Vec<Element> {
        let element = |port: &PublishedPort| elements::port_element(port, target.address_for(port.host_ip)?);
        ports.iter().filter_map(element).collect()
    }

    /// Every element of the firewall.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let mut all: Vec<Element> = self
            .networks
            .values()
            .flat_map(|network| elements::network_elements(&network.record))
            .collect();
        for container in self.containers.values() {
            if let Some(target) = self.port_target(container) {
                all.extend(State::port_elements(&container.ports, &target));
            }
        }
        all
    }

    /// Every port that the keeper should hold, with what it leads to.
    pub(crate) fn keeper_ports(&self) -> BTreeMap<PortKey, (PublishedPort, SocketAddr)> {
        let mut all = BTreeMap::new();
        for container in self.containers.values() {
            let Some(target) = self.port_target(container) else {
                continue;
            };
            for port in &container.ports {
                if let (Some(key), Some(address)) = (port_key(port), target.address_for(port.host_ip)) {
                    all.insert(key, (port.clone(), SocketAddr::new(address, port.container_port)));
                }
            }
        }
        all
    }

    /// Containers whose namespace the keeper should serve.
    pub(crate) fn keeper_namespaces(&self) -> BTreeSet<String> {
        self.containers
            .iter()
            .filter(|(_, container)| container.resolver)
            .map(|(id, _)| id.clone())
            .collect()
    }
}

/// What the keeper calls a port; SCTP is none of its business.
pub(crate) fn port_key(port: &PublishedPort) -> Option<PortKey> {
    (port.protocol != model::Protocol::Sctp).then(|| PortKey {
        protocol: port.protocol,
        host: SocketAddr::new(port.host_ip, port.host_port),
    })
}

fn parse_fixed(text: Option<&str>) -> Result<Option<IpAddr>, NetError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|_| NetError::InvalidAddress { text: text.to_owned() })
}

/// COMPAT: a fixed address needs a subnet the user has chosen.
fn check_fixed(network: &NetworkRecord, wanted: Option<IpAddr>) -> Result<(), NetError> {
    let Some(address) = wanted else { return Ok(()) };
    let is_same_family = |pool: &&model::Pool| pool.subnet.addr().is_ipv4() == address.is_ipv4();
    let mut pools = network.pools.iter().filter(is_same_family).peekable();
    if pools.peek().is_some() && !pools.clone().any(|pool| pool.user_defined) {
        return Err(NetError::FixedAddressUnsupported);
    }
    match pools.any(|pool| pool.subnet.contains(&address)) {
        true => Ok(()),
        false => Err(NetError::AddressOutsideSubnets { address }),
    }
}
