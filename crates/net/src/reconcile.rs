//! From whatever the kernel has to what the records want: after a restart of
//! the engine, and at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wharf_sys::failpoint;

use crate::bridge;
use crate::error::NetError;
use crate::firewall::Firewall;
use crate::instance::{Inner, Net, firewall_error};
use crate::keeper::{self, Home};
use crate::model::{Desired, DesiredContainer, EndpointRecord, PublishedPort, Reconciled};
use crate::namespace;
use crate::netlink::Socket;
use crate::netlink::route::{self, Link};
use crate::pins::{self, Pins};
use crate::plan;
use crate::ports;
use crate::state::{Container, Network};

fn list_links(socket: &mut Socket) -> Result<Vec<Link>, NetError> {
    route::links(socket).map_err(|source| NetError::Netlink {
        action: "listing the host's links".to_owned(),
        source,
    })
}

impl Net {
    /// Brings the kernel to `desired` after a restart of the engine: rebuilds
    /// missing bridges, replaces the ruleset in one transaction, removes what
    /// nobody wants, adopts or starts the keeper and takes the ports again.
    /// Also how the very first start is made (with an empty or default `desired`).
    pub fn reconcile(&self, desired: &Desired) -> Result<Reconciled, NetError> {
        let mut inner = self.lock();
        let mut found = Reconciled::default();
        inner.adopt_networks(desired)?;
        failpoint::reach("recover/net/bridges");
        let links = list_links(&mut inner.host)?;
        let links_by_name = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let pinned = self.pinned()?;
        for container in &desired.containers {
            let stands = pinned.contains(&container.namespace.container_id);
            if !(stands && inner.adopt_container(container, &links_by_name, &mut found)?) {
                found.lost.push(container.namespace.container_id.clone());
            }
        }
        failpoint::reach("recover/net/containers");
        inner.remove_strays(&links, &mut found)?;
        failpoint::reach("recover/net/strays");
        if !found.removed.is_empty() || !found.plugged.is_empty() {
            inner.repair_routes();
        }
        self.remove_stray_namespaces(&pinned, &inner, &mut found)?;
        failpoint::reach("recover/net/namespaces");
        let elements = inner.state.elements();
        inner
            .firewall
            .replace(&elements)
            .map_err(firewall_error("replacing the ruleset"))?;
        failpoint::reach("recover/net/ruleset");
        inner.settle_keeper(&mut found)?;
        Ok(found)
    }

    /// The containers whose namespaces are pinned, wherever that is.
    fn pinned(&self) -> Result<BTreeSet<String>, NetError> {
        let mut pinned = self.pins.names()?;
        let directory = self.namespace_path("");
        let visible = names_in(&directory)?.into_iter();
        pinned.extend(visible.filter(|name| namespace::is_pinned(&directory.join(name))));
        Ok(pinned)
    }

    /// Unpins namespaces of containers that nobody knows.
    fn remove_stray_namespaces(
        &self,
        pinned: &BTreeSet<String>,
        inner: &Inner,
        found: &mut Reconciled,
    ) -> Result<(), NetError> {
        let directory = self.namespace_path("");
        let named: BTreeSet<String> = names_in(&directory)?
            .into_iter()
            .chain(pinned.iter().cloned())
            .collect();
        let known = &inner.state.containers;
        let strays: Vec<String> = named.into_iter().filter(|name| !known.contains_key(name)).collect();
        for name in &strays {
            namespace::remove(&directory.join(name))?;
        }
        let remove_pins = || -> Result<(), NetError> {
            strays
                .iter()
                .try_for_each(|name| namespace::remove(&pins::path_inside(name)))
        };
        if !strays.is_empty() {
            self.pins.within_existing(remove_pins)?.transpose()?;
        }
        found
            .removed
            .extend(strays.into_iter().map(|name| format!("netns/{name}")));
        Ok(())
    }
}

impl Inner {
    fn adopt_networks(&mut self, desired: &Desired) -> Result<(), NetError> {
        for record in &desired.networks {
            let bridge = bridge::ensure_bridge(&mut self.host, &self.config.instance, record)?;
            self.state
                .networks
                .insert(record.id.clone(), Network::new(record.clone(), bridge));
        }
        Ok(())
    }

    /// Takes a container over, whose namespace stands. An endpoint whose link is gone (an engine
    /// was killed while it took it away, or somebody removed it) or half made is made again as the record has it.
    fn adopt_container(
        &mut self,
        wanted: &DesiredContainer,
        links: &BTreeMap<&str, &Link>,
        found: &mut Reconciled,
    ) -> Result<bool, NetError> {
        let networks = &self.state.networks;
        if !wanted.endpoints.iter().all(|e| networks.contains_key(&e.network_id)) {
            return Ok(false);
        }
        let id = &wanted.namespace.container_id;
        let container = Container {
            namespace: wanted.namespace.clone(),
            ports: wanted.ports.clone(),
            ..Container::default()
        };
        self.state.containers.insert(id.clone(), container);
        wanted.ports.iter().for_each(|port| self.state.ports.note(port));
        for endpoint in &wanted.endpoints {
            let link = links.get(endpoint.host_interface.as_str()).copied();
            if let Err(error) = self.adopt_endpoint(endpoint, link, found) {
                tracing::warn!(container = id, "its endpoint could not be made again: {error}");
                wanted.ports.iter().for_each(|port| self.state.ports.release(port));
                self.state.containers.remove(id);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn adopt_endpoint(
        &mut self,
        endpoint: &EndpointRecord,
        link: Option<&Link>,
        found: &mut Reconciled,
    ) -> Result<(), NetError> {
        let network = self.state.network_mut(&endpoint.network_id)?;
        network.adopt(endpoint);
        let bridge = network.bridge;
        // It is brought up last. An engine that was killed before has left half of it.
        let is_half = link.is_some_and(|link| !link.is_up);
        if is_half {
            bridge::remove_link(&mut self.host, &endpoint.host_interface)?;
        }
        match link.filter(|_| !is_half) {
            None => {
                self.plug(endpoint)?;
                failpoint::reach("recover/net/plugged");
                found.plugged.push(endpoint.host_interface.clone());
            }
            Some(link) if link.master != bridge => {
                let record = self.state.network(&endpoint.network_id)?.record.clone();
                bridge::plug_again(&mut self.host, &record, bridge, endpoint)?;
            }
            Some(_) => {}
        }
        let user_made = !self.state.network(&endpoint.network_id)?.record.default_bridge;
        let container = self.state.container(&endpoint.container_id)?;
        container.resolver |= user_made;
        container
            .endpoints
            .insert(endpoint.network_id.clone(), endpoint.clone());
        Ok(())
    }

    /// Sets the default routes of all containers again: the interface that a killed engine was about to
    /// add or to take away may have had one.
    fn repair_routes(&mut self) {
        let ids: Vec<String> = self.state.containers.keys().cloned().collect();
        for id in ids {
            if let Err(error) = self.move_default_routes(&id, &bridge::DefaultRoutes::default()) {
                tracing::warn!(container = id, "its default route could not be set again: {error}");
            }
        }
    }

    /// Removes links that bear the instance's mark and are in no record.
    fn remove_strays(&mut self, links: &[Link], found: &mut Reconciled) -> Result<(), NetError> {
        let mark = bridge::alias(&self.config.instance);
        let bridges = self
            .state
            .networks
            .values()
            .map(|network| network.record.bridge.as_str());
        let ports = self
            .state
            .containers
            .values()
            .flat_map(|container| container.endpoints.values());
        let wanted: BTreeSet<&str> = bridges
            .chain(ports.map(|endpoint| endpoint.host_interface.as_str()))
            .collect();
        for link in links
            .iter()
            .filter(|link| link.alias == mark && !wanted.contains(link.name.as_str()))
        {
            bridge::remove_link(&mut self.host, &link.name)?;
            found.removed.push(link.name.clone());
        }
        Ok(())
    }

    /// Adopts a running keeper, or starts one if there is work for it; ports
    /// that somebody else has taken meanwhile are lost.
    fn settle_keeper(&mut self, found: &mut Reconciled) -> Result<(), NetError> {
        if !self.needs_keeper() {
            self.keeper = None;
            return keeper::remove(&self.home);
        }
        self.ensure_keeper()?;
        let ids: Vec<String> = self.state.containers.keys().cloned().collect();
        for id in ids {
            if let Some(error) = self.lost_port(&id) {
                found.ports_lost.push((id, error));
            }
        }
        Ok(())
    }

    /// A port of the container that the keeper could not be given.
    fn lost_port(&self, container_id: &str) -> Option<NetError> {
        let container = self.state.containers.get(container_id)?;
        let target = self.state.port_target(container)?;
        let held = &self.keeper.as_ref()?.ports_refused;
        let refused = |port: &&PublishedPort| crate::state::port_key(port).is_some_and(|key| held.contains(&key));
        let port = container.ports.iter().find(refused)?;
        Some(ports::busy(port, &target))
    }
}

fn names_in(directory: &Path) -> Result<Vec<String>, NetError> {
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(NetError::File {
            action: "listing",
            path: directory.to_owned(),
            source,
        }),
    }
}

/// Removes every kernel object and process of an instance by name, with or
/// without records: bridges, veths, nft table, pinned namespaces, keeper.
/// Goes on past failures and reports them all.
pub fn reset(instance: &str, run: &Path) -> Result<(), NetError> {
    let home = Home::new(instance, run, Path::new(""));
    let mut failures = Vec::new();
    failures.extend(keeper::remove(&home).err());
    failures.extend(remove_table(instance).err());
    failures.extend(remove_links(instance).err());
    failures.extend(remove_namespaces(&run.join("netns")).err());
    failures.extend(Pins::new(run).remove_all().err());
    NetError::all(failures)
}

fn remove_table(instance: &str) -> Result<(), NetError> {
    let mut firewall = Firewall::open(instance).map_err(|source| NetError::Netlink {
        action: "opening a netlink socket".to_owned(),
        source,
    })?;
    firewall.remove().map_err(firewall_error("removing the table"))
}

fn remove_links(instance: &str) -> Result<(), NetError> {
    let mut socket = namespace::open_route_socket()?;
    let mark = bridge::alias(instance);
    let default = plan::default_bridge_name(instance);
    // A bridge whose maker was killed before marking it still has its name.
    let user_bridges = plan::bridge_name(instance, "");
    let is_ours = |link: &&Link| {
        let unmarked = link.alias.is_empty() && link.is_bridge;
        link.alias == mark || (unmarked && (link.name == default || link.name.starts_with(&user_bridges)))
    };
    let links = list_links(&mut socket)?;
    let failures = links
        .iter()
        .filter(is_ours)
        .filter_map(|link| bridge::remove_link(&mut socket, &link.name).err());
    NetError::all(failures.collect())
}

fn remove_namespaces(directory: &Path) -> Result<(), NetError> {
    let names = names_in(directory)?;
    let mut failures: Vec<NetError> = names
        .iter()
        .filter_map(|name| namespace::remove(&directory.join(name)).err())
        .collect();
    match std::fs::remove_dir(directory) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound && failures.is_empty() => {
            failures.push(NetError::File {
                action: "removing",
                path: directory.to_owned(),
                source,
            });
        }
        _ => {}
    }
    NetError::all(failures)
}
