//! The network of a container: which networks, endpoints, ports.
use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_net::{EndpointRequest, Net, NetError, PortRequest, PublishedPort};

use crate::Shared;
use crate::containers::blocking::blocking;
use crate::containers::happened;
use crate::error::{Error, Result};
use crate::model::{
    ContainerRecord, EndpointRecord, NetworkId, NetworkMode, NetworkRecord, PortBinding, ids::random_hex_id,
};

/// The networks of one container, by the name its record uses.
pub(crate) type Networks = BTreeMap<String, Arc<NetworkRecord>>;

/// What becomes of the network namespace when the network is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// It stays pinned: the container starts again, or another one is in it.
    Keep,
    /// It goes.
    Remove,
}

/// What connecting yields.
#[derive(Clone, Debug, Default)]
pub(super) struct Connected {
    endpoints: BTreeMap<String, (NetworkId, String, Option<wharf_net::EndpointRecord>)>,
    published: Vec<PublishedPort>,
}

/// Looks up every network of the container.
pub(super) fn resolve_networks(shared: &Shared, record: &ContainerRecord) -> Result<Networks> {
    record
        .endpoints
        .iter()
        .map(|(name, endpoint)| {
            // A network that was removed and made again is found by its name.
            let by_id = Some(endpoint.network_id.as_str()).filter(|id| !id.is_empty());
            let network = match by_id.map(|id| shared.networks.resolve(id)) {
                Some(Ok(network)) => network,
                _ => shared.networks.resolve(name)?,
            };
            Ok((name.clone(), network))
        })
        .collect()
}

/// What a container wants of its networks.
#[derive(Debug)]
pub(super) struct Wanted {
    container: String,
    /// With the requests to those that have links.
    networks: Vec<(String, NetworkId, Option<EndpointRequest>)>,
    ports: Vec<PortRequest>,
}

impl Wanted {
    pub(super) fn of(record: &ContainerRecord, networks: &Networks) -> Result<Self> {
        let wanted = networks.iter().map(|(name, network)| {
            let endpoint = record.endpoints.get(name).cloned().unwrap_or_default();
            let request = || endpoint_request(record, network, &endpoint);
            (name.clone(), network.id.clone(), network.plan.is_some().then(request))
        });
        Ok(Self {
            container: record.id.to_string(),
            networks: wanted.collect(),
            ports: port_requests(record)?,
        })
    }

    fn has_links(&self) -> bool {
        self.networks.iter().any(|(_, _, request)| request.is_some())
    }

    fn connect(self, net: &Net) -> Result<Connected> {
        let has_links = self.has_links();
        let mut connected = Connected::default();
        for (name, network_id, request) in self.networks {
            let live = match request {
                Some(request) => Some(net.connect(network_id.as_str(), &request)?),
                None => None,
            };
            let endpoint_id = live.as_ref().map_or_else(random_hex_id, |l| l.id.clone());
            connected.endpoints.insert(name, (network_id, endpoint_id, live));
        }
        if has_links && !self.ports.is_empty() {
            connected.published = net.publish(&self.container, &self.ports).map_err(port_error)?;
        }
        Ok(connected)
    }
}

/// Connects the container to all its networks and publishes its ports, all or nothing.
pub(super) async fn connect_all(shared: &Arc<Shared>, wanted: Wanted) -> Result<Connected> {
    let net = Arc::clone(&shared.net);
    match wanted.has_links() {
        true => blocking("connecting the networks", move || wanted.connect(&net)).await,
        false => wanted.connect(&net),
    }
}

/// COMPAT: Docker puts this sentence before a failure to publish.
fn port_error(error: NetError) -> Error {
    let error = Error::from(error);
    let message = format!("failed to set up container networking: {}", error.message());
    Error::new(error.kind(), message).with_source(error)
}

/// Writes what connecting yielded into the record.
pub(super) fn note_connected(record: &mut ContainerRecord, connected: Connected) {
    for (name, (network_id, endpoint_id, live)) in connected.endpoints {
        let endpoint = record.endpoints.entry(name).or_default();
        endpoint.network_id = network_id;
        endpoint.endpoint_id = endpoint_id;
        endpoint.live = live;
    }
    record.published = connected.published;
}

/// What a container wants of one network.
pub(crate) fn endpoint_request(
    record: &ContainerRecord,
    network: &NetworkRecord,
    endpoint: &EndpointRecord,
) -> EndpointRequest {
    let nonempty = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let ipam = endpoint.settings.ipam.clone().unwrap_or_default();
    let own_mac = nonempty(&endpoint.settings.mac_address);
    EndpointRequest {
        container_id: record.id.to_string(),
        dns_names: match network.predefined {
            true => Vec::new(),
            false => endpoint.dns_names.clone(),
        },
        links: match network.predefined {
            true => BTreeMap::new(),
            false => links_of(endpoint),
        },
        mac: own_mac.or_else(|| nonempty(&record.config.mac_address)),
        ipv4: nonempty(&ipam.ipv4_address),
        ipv6: nonempty(&ipam.ipv6_address),
        gateway_priority: endpoint.settings.gw_priority,
    }
}

/// The links of an endpoint: alias and whom it means.
fn links_of(endpoint: &EndpointRecord) -> BTreeMap<String, String> {
    endpoint
        .settings
        .links
        .iter()
        .flatten()
        .map(|link| {
            let (target, alias) = crate::containers::links::split(link);
            (alias.to_owned(), target.to_owned())
        })
        .collect()
}

/// Every port that is to be published.
fn port_requests(record: &ContainerRecord) -> Result<Vec<PortRequest>> {
    let parse = |key: &str, binding: &PortBinding| {
        PortRequest::parse(key, &binding.host_ip, &binding.host_port).map_err(|e| Error::invalid(e.to_string()))
    };
    let mut requests = Vec::new();
    let mut asked: Vec<(u16, wharf_net::Protocol)> = Vec::new();
    for (key, bindings) in record.host.port_bindings.iter().flatten() {
        for binding in bindings.iter().flatten() {
            let request = parse(key, binding)?;
            asked.push((request.container_port, request.protocol));
            requests.push(request);
        }
    }
    if record.host.publish_all_ports {
        for key in record.config.exposed_ports.iter().flat_map(|m| m.keys()) {
            for single in single_ports(key) {
                let request = parse(&single, &PortBinding::default())?;
                if !asked.contains(&(request.container_port, request.protocol)) {
                    requests.push(request);
                }
            }
        }
    }
    Ok(requests)
}

/// `8000-8002/udp` as its three ports.
fn single_ports(key: &str) -> Vec<String> {
    let (ports, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).map(|p| format!("{p}/{protocol}")).collect(),
        _ => Vec::new(),
    }
}

/// Takes the container off all its networks; answers after the kernel did it, whatever failed.
pub(crate) async fn release_network(
    shared: &Arc<Shared>,
    record: &mut ContainerRecord,
    namespace: Namespace,
) -> Result<()> {
    let live: Vec<String> = record
        .endpoints
        .values()
        .filter(|e| e.live.is_some())
        .map(|e| e.network_id.to_string())
        .collect();
    for endpoint in record.endpoints.values_mut() {
        endpoint.live = None;
        endpoint.endpoint_id.clear();
    }
    let published = !std::mem::take(&mut record.published).is_empty();
    if !has_own_namespace(record) {
        return Ok(());
    }
    let net = Arc::clone(&shared.net);
    let id = record.id.to_string();
    blocking("releasing the network", move || match namespace {
        Namespace::Remove => Ok(net.remove_namespace(&id)?),
        Namespace::Keep => {
            net.hide_namespace(&id);
            if published {
                net.unpublish(&id)?;
            }
            for network in live {
                net.disconnect(&network, &id)?;
            }
            Ok(())
        }
    })
    .await
}

/// Lets clients find the network namespace of a container that runs. What cannot be shown is there all the same.
pub(crate) async fn show_namespace(shared: &Arc<Shared>, record: &ContainerRecord) {
    if !has_own_namespace(record) {
        return;
    }
    let (net, id, process) = (Arc::clone(&shared.net), record.id.to_string(), record.state.pid);
    // Another container's links may be made meanwhile, which this waits for.
    let show = move || Ok(net.show_namespace(&id, process)?);
    if let Err(error) = blocking("showing the network namespace", show).await {
        tracing::warn!(container = record.id.short(), "{}", error.chain());
    }
}

/// Whether the engine pins a network namespace for this container.
pub(crate) fn has_own_namespace(record: &ContainerRecord) -> bool {
    matches!(
        record.host.network(),
        NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_)
    )
}

/// Connects a running container to one more network.
pub(crate) async fn connect_one(
    shared: &Arc<Shared>,
    record: &ContainerRecord,
    network: &NetworkRecord,
    endpoint: &EndpointRecord,
) -> Result<wharf_net::EndpointRecord> {
    let request = endpoint_request(record, network, endpoint);
    let (net, id) = (Arc::clone(&shared.net), network.id.to_string());
    let live = blocking("connecting the network", move || Ok(net.connect(&id, &request)?)).await?;
    happened::publish_network(&shared.events, record, network, "connect");
    Ok(live)
}

/// Takes a running container off one network.
pub(crate) async fn disconnect_one(
    shared: &Arc<Shared>,
    record: &ContainerRecord,
    network: &NetworkRecord,
) -> Result<()> {
    let (net, network_id, id) = (Arc::clone(&shared.net), network.id.to_string(), record.id.to_string());
    blocking("disconnecting the network", move || {
        Ok(net.disconnect(&network_id, &id)?)
    })
    .await?;
    happened::publish_network(&shared.events, record, network, "disconnect");
    Ok(())
}
