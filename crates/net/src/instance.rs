//! The networks of one instance: every operation as a list of steps.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use std::os::fd::{AsFd, OwnedFd};
use wharf_sys::failpoint;

use crate::bridge::{self, DefaultRoutes, Sides};
use crate::error::NetError;
use crate::firewall::elements::network_elements;
use crate::firewall::{Firewall, conntrack};
use crate::keeper::{self, Change, Home, Keeper, PortKey};
use crate::model::{
    EndpointRecord, EndpointRequest, NamespaceRequest, NetworkRecord, NetworkRequest, Pinning, PortRequest,
    PublishedPort,
};
use crate::namespace::{self, NamespaceHold};
use crate::netlink::{BatchError, Socket, route};
use crate::pins::{self, Pins};
use crate::plan::{self, Surroundings};
use crate::ports::{self, Allocated, Target};
use crate::state::{Container, Network, State, port_key};
use crate::sweeper::Sweeper;

/// Where an instance lives.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Names bridge `<instance>0`, the nft table and every veth.
    pub instance: String,
    /// Run directory: `netns/` and `keeper/` are made in it.
    pub run: PathBuf,
    /// The shim binary, which has the keeper's role.
    pub shim_binary: PathBuf,
}

/// The networks of one instance. Cheap to share behind an `Arc`; every method
/// may be called from several threads at once.
#[derive(Debug)]
pub struct Net {
    pub(crate) inner: Arc<Mutex<Inner>>,
    pub(crate) pins: Arc<Pins>,
    netns: PathBuf,
    sweeper: Sweeper,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct Inner {
    pub config: NetConfig,
    pub pins: Arc<Pins>,
    pub home: Home,
    pub state: State,
    pub host: Socket,
    pub firewall: Firewall,
    pub keeper: Option<Keeper>,
    /// Ourselves, for the thread that watches the keeper.
    this: Weak<Mutex<Inner>>,
}

pub(crate) fn firewall_error(action: &str) -> impl FnOnce(BatchError) -> NetError {
    let action = format!("{action} in the firewall");
    move |error| {
        let at = error
            .index
            .map(|index| format!(" (request {index})"))
            .unwrap_or_default();
        NetError::Netlink {
            action: format!("{action}{at}"),
            source: error.source,
        }
    }
}

/// A fresh endpoint id: 64 hexadecimal digits.
fn random_id() -> Result<String, NetError> {
    use std::fmt::Write;
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|errno| {
        NetError::Namespace {
            action: "reading random bytes",
            source: errno.into(),
        }
    })?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

impl Net {
    /// Prepares the run directory and netlink sockets; touches nothing else.
    /// [`Net::reconcile`] comes next, before anything is asked for.
    pub fn open(config: NetConfig) -> Result<Net, NetError> {
        let netns = config.run.join("netns");
        std::fs::create_dir_all(&netns).map_err(|source| NetError::File {
            action: "creating",
            path: netns.clone(),
            source,
        })?;
        let host = namespace::open_route_socket()?;
        let firewall = Firewall::open(&config.instance).map_err(|source| NetError::Netlink {
            action: "opening a netlink socket".to_owned(),
            source,
        })?;
        let home = Home::new(&config.instance, &config.run, &config.shim_binary);
        let pins = Arc::new(Pins::new(&config.run));
        let ours = Arc::clone(&pins);
        let inner = Arc::new_cyclic(|this| {
            let this = this.clone();
            Mutex::new(Inner {
                config,
                pins: ours,
                home,
                state: State::default(),
                host,
                firewall,
                keeper: None,
                this,
            })
        });
        Ok(Net {
            inner,
            pins,
            netns,
            sweeper: Sweeper::start()?,
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic between two steps leaves records that the next call can still judge.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request of the instance's default network `bridge`
    /// (`<instance>0`, 172.17.0.0/16 if that is free).
    pub fn default_network_request(&self, id: &str) -> NetworkRequest {
        let bridge = plan::default_bridge_name(&self.lock().config.instance);
        let options = [
            ("com.docker.network.bridge.default_bridge", "true"),
            ("com.docker.network.bridge.enable_icc", "true"),
            ("com.docker.network.bridge.enable_ip_masquerade", "true"),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0"),
            ("com.docker.network.bridge.name", bridge.as_str()),
            ("com.docker.network.driver.mtu", "1500"),
        ];
        NetworkRequest {
            id: id.to_owned(),
            name: "bridge".to_owned(),
            driver: "bridge".to_owned(),
            options: options
                .map(|(option, value)| (option.to_owned(), value.to_owned()))
                .into(),
            ..NetworkRequest::default()
        }
    }

    /// Checks a request and fills in every default: subnets that collide with
    /// no network, route or address of the host. Reserves nothing.
    pub fn plan_network(&self, request: &NetworkRequest) -> Result<NetworkRecord, NetError> {
        let mut inner = self.lock();
        let host = route::used_subnets(&mut inner.host).map_err(|source| NetError::Netlink {
            action: "listing the host's routes".to_owned(),
            source,
        })?;
        let networks = inner
            .state
            .networks
            .values()
            .map(|network| network.record.clone())
            .collect();
        plan::plan_network(&inner.config.instance, request, &Surroundings { host, networks })
    }

    /// Makes the bridge and its rules. Conflicts with another network that
    /// was created meanwhile are found again here.
    pub fn create_network(&self, record: &NetworkRecord) -> Result<(), NetError> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.check_conflicts(record)?;
        let known = inner.state.networks.contains_key(&record.id);
        let bridge = bridge::ensure_bridge(&mut inner.host, &inner.config.instance, record)?;
        failpoint::reach("net/network/bridge");
        if !known && let Err(error) = inner.firewall.change(&[], &network_elements(record)) {
            // The failure that matters is the first one.
            let _ = bridge::remove_link(&mut inner.host, &record.bridge);
            return Err(firewall_error("adding a network")(error));
        }
        inner
            .state
            .networks
            .entry(record.id.clone())
            .or_insert_with(|| Network::new(record.clone(), bridge));
        Ok(())
    }

    /// Removes bridge and rules; gone already is fine. Refused while endpoints exist.
    pub fn remove_network(&self, id: &str) -> Result<(), NetError> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(network) = inner.state.networks.get(id) else {
            return Ok(());
        };
        if inner.state.endpoint_count(id) > 0 {
            return Err(NetError::ActiveEndpoints {
                network: network.record.name.clone(),
            });
        }
        bridge::remove_link(&mut inner.host, &network.record.bridge)?;
        failpoint::reach("net/network/unlinked");
        let elements = network_elements(&network.record);
        inner
            .firewall
            .change(&elements, &[])
            .map_err(firewall_error("removing a network"))?;
        inner.state.networks.remove(id);
        Ok(())
    }

    /// Makes a namespace with `lo` up and pins it; idempotent for an existing one.
    /// What is answered tells the path to join it by. Networks `none`, and the base of all others.
    pub fn create_namespace(&self, request: &NamespaceRequest) -> Result<NamespaceHold, NetError> {
        let path = self.namespace_path(&request.container_id);
        // ORDER: the slow step, so without the lock.
        let (standing, visible_at) = self.ensure_pinned(request, &path)?;
        failpoint::reach("net/namespace/pinned");
        let hold = NamespaceHold::new(standing.fd, visible_at);
        namespace::link(&path, &hold.path())?;
        let mut inner = self.lock();
        let container = inner.state.containers.entry(request.container_id.clone()).or_default();
        container.namespace = request.clone();
        container.socket = standing.socket.or(container.socket.take());
        container.hold = Some(hold.clone());
        Ok(hold)
    }

    /// The namespace, pinned, and where it is if the host sees the pin: an earlier version has made
    /// it, it is wanted so, or there is no other way here.
    fn ensure_pinned(
        &self,
        request: &NamespaceRequest,
        path: &Path,
    ) -> Result<(namespace::Standing, Option<PathBuf>), NetError> {
        if request.pinning == Pinning::Apart && !namespace::is_pinned(path) {
            let inside = pins::path_inside(&request.container_id);
            match self.pins.within(|| namespace::ensure(&inside)).flatten() {
                Ok(standing) => return Ok((standing, None)),
                Err(error) => {
                    static TOLD: std::sync::Once = std::sync::Once::new();
                    TOLD.call_once(|| tracing::warn!(%error, "namespaces are pinned where the host sees them"));
                }
            }
        }
        let standing = namespace::on_own_thread(|| namespace::ensure(path)).flatten()?;
        Ok((standing, Some(path.to_owned())))
    }

    /// Where a container's namespace can be found from outside, while the container runs.
    pub fn namespace_path(&self, container_id: &str) -> PathBuf {
        self.netns.join(container_id)
    }

    /// A container's namespace, for somebody who is to join it.
    pub fn hold_namespace(&self, container_id: &str) -> Result<NamespaceHold, NetError> {
        let held = self.lock().state.container(container_id)?.hold.clone();
        match held {
            Some(hold) => Ok(hold),
            None => Ok(NamespaceHold::new(
                open_pinned(&self.pins, &self.namespace_path(container_id), container_id)?,
                None,
            )),
        }
    }

    /// Lets [`Net::namespace_path`] lead to the namespace through a process that lives in it, which
    /// takes no descriptor of this process.
    pub fn show_namespace(&self, container_id: &str, process: i32) -> Result<(), NetError> {
        let target = PathBuf::from(format!("/proc/{process}/ns/net"));
        namespace::link(&self.namespace_path(container_id), &target)?;
        if let Ok(container) = self.lock().state.container(container_id) {
            container.hold = None;
            container.socket = None;
        }
        Ok(())
    }

    /// Takes note that nothing runs in a container's namespace, which stays pinned.
    pub fn hide_namespace(&self, container_id: &str) {
        namespace::unlink(&self.namespace_path(container_id));
    }

    /// Unpublishes, disconnects and unpins all that is left of a container.
    /// Idempotent; goes on past failures and reports them all.
    pub fn remove_namespace(&self, container_id: &str) -> Result<(), NetError> {
        let path = self.namespace_path(container_id);
        let mut inner = self.lock();
        let mut failures = Vec::new();
        failures.extend(inner.unpublish(container_id).err());
        failpoint::reach("net/release/ports");
        failures.extend(inner.drop_resolver(container_id).err());
        let endpoints = inner.endpoints_of(container_id);
        for endpoint in &endpoints {
            inner.forget(endpoint);
        }
        inner.state.containers.remove(container_id);
        drop(inner);
        failures.extend(namespace::remove(&path).err());
        let inside = pins::path_inside(container_id);
        match self.pins.within_existing(|| namespace::remove(&inside)) {
            Ok(Some(Err(error))) | Err(error) => failures.push(error),
            Ok(Some(Ok(())) | None) => {}
        }
        failpoint::reach("net/release/unpinned");
        self.sweeper
            .sweep(endpoints.into_iter().map(|endpoint| endpoint.host_interface));
        NetError::all(failures)
    }

    /// Puts a container into a network, running or not yet started.
    pub fn connect(&self, network_id: &str, request: &EndpointRequest) -> Result<EndpointRecord, NetError> {
        let id = random_id()?;
        let mut inner = self.lock();
        let instance = inner.config.instance.clone();
        let endpoint = inner.state.plan_endpoint(&instance, network_id, request, id)?;
        if let Err(error) = inner.plug(&endpoint) {
            inner.state.release(&endpoint);
            return Err(error);
        }
        inner
            .state
            .container(&request.container_id)?
            .endpoints
            .insert(network_id.to_owned(), endpoint.clone());
        failpoint::reach("net/connect/plugged");
        if let Err(error) = inner.publish_names(&endpoint) {
            // The failure that matters is the first one.
            let _ = inner.unplug(&endpoint);
            return Err(error);
        }
        Ok(endpoint)
    }

    /// Takes it out again, with the ports that were published through this endpoint.
    pub fn disconnect(&self, network_id: &str, container_id: &str) -> Result<(), NetError> {
        let mut inner = self.lock();
        let network = inner.state.network(network_id)?.record.name.clone();
        let container = inner.state.container(container_id)?;
        let before = container.default_routes();
        let endpoint = container.endpoints.get(network_id).cloned();
        let missing = || NetError::NotConnected {
            network,
            container: container_id.to_owned(),
        };
        let endpoint = endpoint.ok_or_else(missing)?;
        inner.with_ports_moved(container_id, |inner| inner.unplug(&endpoint))?;
        failpoint::reach("net/disconnect/unplugged");
        inner.move_default_routes(container_id, &before)
    }

    /// Changes the names a container answers to on one network.
    pub fn rename(&self, network_id: &str, container_id: &str, dns_names: &[String]) -> Result<(), NetError> {
        let mut inner = self.lock();
        let network = inner.state.network(network_id)?.record.name.clone();
        let missing = || NetError::NotConnected {
            network,
            container: container_id.to_owned(),
        };
        let container = inner.state.container(container_id)?;
        let endpoint = container.endpoints.get_mut(network_id).ok_or_else(missing)?;
        endpoint.dns_names = dns_names.to_vec();
        let endpoint = endpoint.clone();
        inner.publish_names(&endpoint)
    }

    /// Publishes ports of a container through its default-route endpoint: all
    /// or none, in addition to those it has. Answers one entry per host address
    /// family, in the order of the requests. A container without an endpoint
    /// that can be reached (internal networks only) publishes nothing.
    pub fn publish(&self, container_id: &str, ports: &[PortRequest]) -> Result<Vec<PublishedPort>, NetError> {
        let mut inner = self.lock();
        inner.state.container(container_id)?;
        let container = &inner.state.containers[container_id];
        let Some(target) = inner.state.port_target(container).filter(|_| !ports.is_empty()) else {
            return Ok(Vec::new());
        };
        let allocated = inner.state.ports.allocate(ports, &target)?;
        let published: Vec<PublishedPort> = allocated.iter().map(|allocated| allocated.port.clone()).collect();
        if let Err(error) = inner.open_ports(allocated, &target) {
            published.iter().for_each(|port| inner.state.ports.release(port));
            return Err(error);
        }
        failpoint::reach("net/ports/open");
        inner
            .state
            .container(container_id)?
            .ports
            .extend(published.iter().cloned());
        Ok(published)
    }

    /// Takes back every published port of a container.
    pub fn unpublish(&self, container_id: &str) -> Result<(), NetError> {
        self.lock().unpublish(container_id)
    }

    /// What `host-gateway` means: the default bridge's addresses.
    pub fn host_gateway(&self) -> Vec<IpAddr> {
        let inner = self.lock();
        let default = inner
            .state
            .networks
            .values()
            .find(|network| network.record.default_bridge);
        default
            .map(|network| network.record.pools.iter().map(|pool| pool.gateway).collect())
            .unwrap_or_default()
    }
}

impl Inner {
    fn check_conflicts(&self, record: &NetworkRecord) -> Result<(), NetError> {
        for other in self
            .state
            .networks
            .values()
            .map(|network| &network.record)
            .filter(|other| other.id != record.id)
        {
            if other.bridge == record.bridge {
                let (id, bridge) = (record.id.clone(), record.bridge.clone());
                return Err(NetError::BridgeNameInUse {
                    id,
                    bridge,
                    other: other.id.clone(),
                });
            }
            let meets = |pool: &&crate::Pool| {
                other
                    .pools
                    .iter()
                    .any(|o| crate::ipam::overlap(&o.subnet, &pool.subnet))
            };
            if let Some(pool) = record.pools.iter().find(meets) {
                return Err(NetError::PoolOverlap { subnet: pool.subnet });
            }
        }
        Ok(())
    }

    fn endpoints_of(&self, container_id: &str) -> Vec<EndpointRecord> {
        let container = self.state.containers.get(container_id);
        container
            .map(|container| container.endpoints.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The namespace of a container: the descriptor from its making, else its pin is opened.
    fn namespace_of(&self, container_id: &str) -> Result<Arc<OwnedFd>, NetError> {
        let held = self.state.containers.get(container_id).and_then(|c| c.hold.as_ref());
        match held {
            Some(hold) => Ok(Arc::clone(&hold.fd)),
            None => {
                let path = self.config.run.join("netns").join(container_id);
                open_pinned(&self.pins, &path, container_id).map(Arc::new)
            }
        }
    }

    /// A netlink socket in a container: the one from its making, else a new one.
    fn container_socket(&mut self, container_id: &str, namespace: &OwnedFd) -> Result<Socket, NetError> {
        match self.state.container(container_id)?.socket.take() {
            Some(socket) => Ok(socket),
            None => namespace::inside(namespace, namespace::open_route_socket)?,
        }
    }

    /// The kernel's part of a new endpoint; nothing is left of it on failure.
    pub(crate) fn plug(&mut self, endpoint: &EndpointRecord) -> Result<(), NetError> {
        let pinned = self.namespace_of(&endpoint.container_id)?;
        let mut container = self.container_socket(&endpoint.container_id, &pinned)?;
        let network = self.state.network(&endpoint.network_id)?;
        let (record, bridge) = (network.record.clone(), network.bridge);
        let mut sides = Sides {
            host: &mut self.host,
            container: &mut container,
            container_namespace: pinned.as_fd(),
        };
        bridge::attach(&mut sides, &self.config.instance, &record, bridge, endpoint)?;
        failpoint::reach("net/connect/attached");
        let known = &self.state.containers[&endpoint.container_id];
        let before = known.default_routes();
        let after = bridge::plan_default_routes(known.endpoints.values().chain([endpoint]));
        let routed = bridge::apply_default_routes(&mut container, &before, &after);
        if routed.is_err() {
            // The failure that matters is the first one.
            let _ = bridge::detach(&mut self.host, bridge, endpoint);
        }
        routed
    }

    /// Removes an endpoint from the keeper, the kernel and the state, in spite of failures.
    fn unplug(&mut self, endpoint: &EndpointRecord) -> Result<(), NetError> {
        let mut failures = Vec::new();
        let resolver = self
            .state
            .containers
            .get(&endpoint.container_id)
            .is_some_and(|container| container.resolver);
        if let Some(container) = self.state.containers.get_mut(&endpoint.container_id) {
            container.endpoints.remove(&endpoint.network_id);
        }
        if resolver {
            let (network, container) = (endpoint.network_id.clone(), endpoint.container_id.clone());
            failures.extend(
                self.tell_if_running(&[Change::DropEndpoint { network, container }])
                    .err(),
            );
        }
        failures.extend(bridge::remove_link(&mut self.host, &endpoint.host_interface).err());
        self.forget(endpoint);
        NetError::all(failures)
    }

    /// Gives the addresses of an endpoint back; its link goes its own way.
    fn forget(&mut self, endpoint: &EndpointRecord) {
        if let Some(network) = self.state.networks.get(&endpoint.network_id) {
            bridge::forget_addresses(&mut self.host, network.bridge, endpoint);
        }
        self.state.release(endpoint);
    }

    /// Makes `change` to the endpoints of a container and leads its ports to
    /// where its default route goes then.
    fn with_ports_moved(
        &mut self,
        container_id: &str,
        change: impl FnOnce(&mut Inner) -> Result<(), NetError>,
    ) -> Result<(), NetError> {
        let ports = self.state.container(container_id)?.ports.clone();
        let target = |inner: &Inner| inner.state.port_target(&inner.state.containers[container_id]);
        let before = target(self);
        let changed = change(self);
        let after = target(self);
        let addresses = |target: &Option<Target>| target.map(|target| (target.ipv4, target.ipv6));
        if ports.is_empty() || addresses(&before) == addresses(&after) {
            return changed;
        }
        let removed = before
            .map(|target| State::port_elements(&ports, &target))
            .unwrap_or_default();
        let added = after
            .map(|target| State::port_elements(&ports, &target))
            .unwrap_or_default();
        let moved = self
            .firewall
            .change(&removed, &added)
            .map_err(firewall_error("moving published ports"));
        // The sockets stay where they are unless nothing is behind them any more.
        let retold = match after {
            Some(target) => self.retarget(&ports, &target),
            None => self.unpublish(container_id),
        };
        NetError::all([changed, moved, retold].into_iter().filter_map(Result::err).collect())
    }

    fn retarget(&mut self, ports: &[PublishedPort], target: &Target) -> Result<(), NetError> {
        let retargeted = |port: &PublishedPort| {
            let address = target.address_for(port.host_ip)?;
            Some(Change::Retarget {
                key: port_key(port)?,
                target: SocketAddr::new(address, port.container_port),
            })
        };
        let changes: Vec<Change> = ports.iter().filter_map(retargeted).collect();
        self.tell_if_running(&changes)
    }

    pub(crate) fn move_default_routes(&mut self, container_id: &str, before: &DefaultRoutes) -> Result<(), NetError> {
        let after = self.state.container(container_id)?.default_routes();
        if *before == after {
            return Ok(());
        }
        let namespace = match self.namespace_of(container_id) {
            Err(NetError::NamespaceNotFound { .. }) => return Ok(()),
            found => found?,
        };
        let mut socket = self.container_socket(container_id, &namespace)?;
        bridge::apply_default_routes(&mut socket, before, &after)
    }

    /// Tells the keeper what an endpoint is called; on user networks only.
    fn publish_names(&mut self, endpoint: &EndpointRecord) -> Result<(), NetError> {
        if self.state.network(&endpoint.network_id)?.record.default_bridge {
            return Ok(());
        }
        let mut changes = Vec::new();
        let container = self.state.container(&endpoint.container_id)?;
        let first = !container.resolver;
        if first {
            let upstream = container.namespace.upstream.clone();
            let sockets = namespace::resolver_sockets(&*self.namespace_of(&endpoint.container_id)?)?;
            changes.push(Change::Namespace {
                id: endpoint.container_id.clone(),
                upstream,
                sockets,
            });
        }
        changes.push(names_of(endpoint));
        self.tell(&changes)?;
        self.state.container(&endpoint.container_id)?.resolver = true;
        Ok(())
    }

    fn drop_resolver(&mut self, container_id: &str) -> Result<(), NetError> {
        let Some(container) = self.state.containers.get_mut(container_id) else {
            return Ok(());
        };
        if !std::mem::take(&mut container.resolver) {
            return Ok(());
        }
        let mut changes: Vec<Change> = container
            .endpoints
            .keys()
            .map(|network| Change::DropEndpoint {
                network: network.clone(),
                container: container_id.to_owned(),
            })
            .collect();
        changes.push(Change::DropNamespace {
            id: container_id.to_owned(),
        });
        self.tell_if_running(&changes)
    }

    /// Makes allocated ports reachable: first held, then translated.
    fn open_ports(&mut self, allocated: Vec<Allocated>, target: &Target) -> Result<(), NetError> {
        let ports: Vec<PublishedPort> = allocated.iter().map(|allocated| allocated.port.clone()).collect();
        let changes: Vec<Change> = allocated
            .into_iter()
            .filter_map(|allocated| port_change(allocated, target))
            .collect();
        self.tell(&changes)?;
        let elements = State::port_elements(&ports, target);
        if let Err(error) = self.firewall.change(&[], &elements) {
            // The failure that matters is the first one.
            let _ = self.tell_if_running(&drop_ports(&ports));
            return Err(firewall_error("publishing ports")(error));
        }
        forget_datagrams(&ports);
        Ok(())
    }

    fn unpublish(&mut self, container_id: &str) -> Result<(), NetError> {
        let Some(container) = self.state.containers.get(container_id) else {
            return Ok(());
        };
        if container.ports.is_empty() {
            return Ok(());
        }
        let target = self.state.port_target(container);
        let ports = container.ports.clone();
        let elements = target
            .map(|target| State::port_elements(&ports, &target))
            .unwrap_or_default();
        let removed = self
            .firewall
            .change(&elements, &[])
            .map_err(firewall_error("unpublishing ports"));
        let released = self.tell_if_running(&drop_ports(&ports));
        ports.iter().for_each(|port| self.state.ports.release(port));
        self.state.container(container_id)?.ports.clear();
        forget_datagrams(&ports);
        NetError::all([removed, released].into_iter().filter_map(Result::err).collect())
    }

    /// Sends changes to the keeper, which is started or replaced if need be.
    fn tell(&mut self, changes: &[Change]) -> Result<(), NetError> {
        if changes.is_empty() {
            return Ok(());
        }
        for is_last_try in [false, true] {
            self.ensure_keeper()?;
            let keeper = self.keeper.as_mut().expect("invariant: a keeper was just ensured");
            match keeper.apply(changes) {
                Err(NetError::Keeper { .. }) if !is_last_try => self.keeper = None,
                result => return result,
            }
        }
        Ok(())
    }

    /// The same for changes that only take away: no keeper has nothing to lose.
    fn tell_if_running(&mut self, changes: &[Change]) -> Result<(), NetError> {
        let Some(keeper) = self.keeper.as_mut().filter(|_| !changes.is_empty()) else {
            return Ok(());
        };
        match keeper.apply(changes) {
            Err(NetError::Keeper { .. }) => {
                self.keeper = None;
                Ok(())
            }
            result => result,
        }
    }

    /// Opens the keeper and brings it to what it should hold.
    pub(crate) fn ensure_keeper(&mut self) -> Result<(), NetError> {
        if self.keeper.is_some() {
            return Ok(());
        }
        let (mut keeper, held) = Keeper::open(&self.home)?;
        let (changes, refused) = self.keeper_changes(&held)?;
        keeper.ports_refused = refused;
        keeper.apply(&changes)?;
        let this = self.this.clone();
        let pid = keeper.pid;
        keeper::watch(pid, move || replace_keeper(&this, pid))?;
        self.keeper = Some(keeper);
        Ok(())
    }

    /// From what a keeper holds to what it should.
    fn keeper_changes(&self, held: &keeper::Answer) -> Result<(Vec<Change>, Vec<PortKey>), NetError> {
        let wanted_ports = self.state.keeper_ports();
        let wanted_namespaces = self.state.keeper_namespaces();
        let mut changes = vec![Change::ForgetNames];
        changes.extend(
            held.namespaces
                .iter()
                .filter(|id| !wanted_namespaces.contains(*id))
                .map(|id| Change::DropNamespace { id: id.clone() }),
        );
        changes.extend(
            held.ports
                .iter()
                .filter(|key| !wanted_ports.contains_key(key))
                .map(|key| Change::DropPort { key: *key }),
        );
        for id in wanted_namespaces.iter().filter(|id| !held.namespaces.contains(id)) {
            let upstream = self.state.containers[id].namespace.upstream.clone();
            let sockets = namespace::resolver_sockets(&*self.namespace_of(id)?)?;
            changes.push(Change::Namespace {
                id: id.clone(),
                upstream,
                sockets,
            });
        }
        let mut refused = Vec::new();
        for (key, (port, target)) in wanted_ports {
            if held.ports.contains(&key) {
                changes.push(Change::Retarget { key, target });
                continue;
            }
            match ports::hold(&port) {
                Ok(socket) => changes.extend(socket.map(|socket| Change::Port { key, target, socket })),
                Err(_) => refused.push(key),
            }
        }
        changes.extend(self.named_endpoints().map(names_of));
        Ok((changes, refused))
    }

    /// Endpoints on networks with a name service.
    fn named_endpoints(&self) -> impl Iterator<Item = &EndpointRecord> {
        let is_named = |endpoint: &&EndpointRecord| {
            self.state
                .networks
                .get(&endpoint.network_id)
                .is_some_and(|network| !network.record.default_bridge)
        };
        self.state
            .containers
            .values()
            .flat_map(|container| container.endpoints.values())
            .filter(is_named)
    }

    /// Whether there is anything for a keeper to do.
    pub(crate) fn needs_keeper(&self) -> bool {
        let needs = |container: &Container| container.resolver || !container.ports.is_empty();
        self.state.containers.values().any(needs)
    }
}

/// Opens a pinned namespace, wherever the pin is.
fn open_pinned(pins: &Pins, path: &Path, container_id: &str) -> Result<OwnedFd, NetError> {
    let inside = pins::path_inside(container_id);
    let open = |path: &Path| namespace::is_pinned(path).then(|| wharf_sys::namespace::open(path));
    let opened = match open(path) {
        None => pins.within_existing(|| open(&inside))?.flatten(),
        opened => opened,
    };
    let missing = || NetError::NamespaceNotFound {
        container: container_id.to_owned(),
    };
    opened
        .ok_or_else(missing)?
        .map_err(|errno| namespace::file_error("opening network namespace", path, errno))
}

/// What to do when a keeper has ended.
fn replace_keeper(inner: &Weak<Mutex<Inner>>, pid: i32) {
    let Some(inner) = inner.upgrade() else { return };
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    if inner.keeper.as_ref().is_none_or(|keeper| keeper.pid != pid) {
        return;
    }
    inner.keeper = None;
    if inner.needs_keeper()
        && let Err(error) = inner.ensure_keeper()
    {
        tracing::error!(%error, "the name service of the instance ended and could not be replaced");
    }
}

/// Clients that have sent datagrams already must be judged anew.
fn forget_datagrams(ports: &[PublishedPort]) {
    if let Err(error) = conntrack::forget_datagrams(ports) {
        // The port works for everybody else.
        tracing::warn!(%error, "earlier datagram flows could not be forgotten");
    }
}

fn names_of(endpoint: &EndpointRecord) -> Change {
    Change::Endpoint {
        network: endpoint.network_id.clone(),
        network_name: endpoint.network_name.clone(),
        container: endpoint.container_id.clone(),
        names: endpoint.dns_names.clone(),
        links: endpoint.links.clone(),
        addresses: [endpoint.ipv4, endpoint.ipv6]
            .into_iter()
            .flatten()
            .map(|net| net.addr())
            .collect(),
    }
}

fn port_change(allocated: Allocated, target: &Target) -> Option<Change> {
    let key = port_key(&allocated.port)?;
    let address = target.address_for(allocated.port.host_ip)?;
    let socket = allocated.hold?;
    Some(Change::Port {
        key,
        target: SocketAddr::new(address, allocated.port.container_port),
        socket,
    })
}

fn drop_ports(ports: &[PublishedPort]) -> Vec<Change> {
    ports
        .iter()
        .filter_map(port_key)
        .map(|key| Change::DropPort { key })
        .collect()
}
