//! Networks: the service that callers use.
//!
//! A record is written before the kernel is touched, so a killed engine leaves either nothing
//! or a record that the next start brings into being; `wharf_net` removes what no record names.
mod predefined;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_net::{NetworkRequest, PoolRequest};

use crate::Shared;
use crate::containers::Containers;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::model::{
    EndpointSettings, EventKind, IpamPool, IpamSettings, NetworkId, NetworkRecord, Timestamp, ids::random_hex_id,
};

use crate::operations::{self, OperationKind};

pub use table::NetworkTable;

/// Asks for a new network.
#[derive(Clone, Debug, Default)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// `bridge` or empty.
    pub driver: String,
    /// For the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// No way out.
    pub internal: bool,
    /// Swarm only (echoed).
    pub attachable: bool,
    /// `None` is yes.
    pub ipv4: Option<bool>,
    /// `None` is no, unless a pool is IPv6.
    pub ipv6: Option<bool>,
    /// Pools as asked for.
    pub ipam: IpamSettings,
    /// Take the configuration from this network (not supported, named to be refused).
    pub config_from: String,
    /// Only a configuration (not supported, named to be refused).
    pub config_only: bool,
    /// Empty or `local`; another needs swarm.
    pub scope: String,
    /// Swarm only.
    pub ingress: bool,
}

/// A network and who is on it.
#[derive(Clone, Debug)]
pub struct NetworkInspected {
    /// The network.
    pub record: Arc<NetworkRecord>,
    /// Containers by id.
    pub containers: BTreeMap<String, NetworkMember>,
}

/// A running container on a network. Addresses carry their prefix length; empty when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    pub endpoint_id: String,
    /// Hardware address.
    pub mac_address: String,
    /// `172.17.0.2/16`.
    pub ipv4: String,
    /// `fd00::2/64`.
    pub ipv6: String,
}

const LIST_KEYS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_KEYS: [&str; 3] = ["label", "label!", "until"];

/// The networks of an engine. Names in arguments are names, ids or unique id prefixes.
#[derive(Clone, Debug)]
pub struct Networks {
    shared: Arc<Shared>,
}

impl Networks {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes the records of the predefined networks where they are missing. Part of the engine's
    /// start, before the kernel is reconciled with the records.
    pub async fn prepare(&self) -> Result<()> {
        let _changing = self.table().changing.lock().await;
        for name in ["host", "none"] {
            if self.table().named(name).is_none() {
                self.keep(predefined::without_bridge(name)).await?;
            }
        }
        if self.table().named("bridge").is_none() {
            let plan = self
                .net(|net| net.plan_network(&net.default_network_request(&random_hex_id())))
                .await?;
            self.keep(predefined::default_bridge(plan)).await?;
        }
        Ok(())
    }

    /// Creates a network; answers its id. Nothing is left behind on failure.
    pub async fn create(&self, request: CreateNetwork) -> Result<NetworkId> {
        check_request(&request)?;
        let (service, target) = (self.clone(), request.name.clone());
        let work = async move { service.create_now(request).await };
        self.shared
            .operations
            .run(OperationKind::NetworkCreate, target, work)
            .await
    }

    async fn create_now(&self, request: CreateNetwork) -> Result<NetworkId> {
        let _changing = self.table().changing.lock().await;
        if !request.config_from.is_empty() {
            let source = self.table().resolve(&request.config_from)?;
            return Err(Error::invalid(format!(
                "network {} is not a configuration network",
                source.name
            )));
        }
        if self.table().named(&request.name).is_some() {
            return Err(Error::conflict(format!(
                "network with name {} already exists",
                request.name
            )));
        }
        let wanted = net_request(&request);
        let plan = self.net(move |net| net.plan_network(&wanted)).await?;
        let record = record_of(request, plan.clone());
        let id = record.id.clone();
        operations::step("planned");
        self.keep(record.clone()).await?;
        operations::step("recorded");
        if let Err(error) = self.net(move |net| net.create_network(&plan)).await {
            self.forget(&id).await?;
            return Err(error);
        }
        operations::step("made");
        self.publish_event(&record, "create", BTreeMap::new());
        Ok(id)
    }

    /// One network and who is on it.
    pub fn inspect(&self, name: &str) -> Result<NetworkInspected> {
        let record = self.table().resolve(name)?;
        let containers = self.members(&record.id);
        Ok(NetworkInspected { record, containers })
    }

    /// Networks that match, newest first.
    pub fn list(&self, filters: &Filters) -> Result<Vec<NetworkInspected>> {
        filters.check_keys(&LIST_KEYS)?;
        if let Some(kind) = filters
            .values("type")
            .find(|kind| !["custom", "builtin"].contains(kind))
        {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        let dangling = filters.flag("dangling")?;
        let mut found = Vec::new();
        for record in self.table().all() {
            if !matches(&record, filters) {
                continue;
            }
            let containers = self.members(&record.id);
            let unused = containers.is_empty() && !record.predefined;
            if dangling.is_none_or(|wanted| wanted == unused) {
                found.push(NetworkInspected { record, containers });
            }
        }
        found.sort_by_key(|network| std::cmp::Reverse(network.record.created));
        Ok(found)
    }

    /// Removes a network without endpoints.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let (service, name) = (self.clone(), name.to_owned());
        let target = name.clone();
        let work = async move { service.remove_now(&name).await };
        self.shared
            .operations
            .run(OperationKind::NetworkRemove, target, work)
            .await
    }

    async fn remove_now(&self, name: &str) -> Result<()> {
        let _changing = self.table().changing.lock().await;
        let record = self.table().resolve(name)?;
        if record.predefined {
            return Err(Error::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                record.name
            )));
        }
        self.remove_record(&record).await
    }

    /// Removes networks that nobody is on (filters `label`, `label!`, `until`); answers their names.
    pub async fn prune(&self, filters: &Filters) -> Result<Vec<String>> {
        filters.check_keys(&PRUNE_KEYS)?;
        let until = filters.until(Timestamp::now())?;
        let _changing = self.table().changing.lock().await;
        let mut deleted = Vec::new();
        for record in self.table().all() {
            let old_enough = until.is_none_or(|until| record.created < until);
            let wanted = filters.match_labels(&record.labels) && filters.match_unlabelled(&record.labels);
            if record.predefined || !old_enough || !wanted || !self.members(&record.id).is_empty() {
                continue;
            }
            let removal = self.remove_record(&record);
            let kind = OperationKind::NetworkRemove;
            match operations::ensure(&self.shared.operations, kind, &record.name, removal).await {
                Ok(()) => deleted.push(record.name.clone()),
                Err(error) => tracing::warn!(network = record.name, "not pruned: {}", error.chain()),
            }
        }
        self.shared.events.publish(
            EventKind::Network,
            "prune",
            "",
            BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]),
        );
        Ok(deleted)
    }

    /// Connects a container, live when it runs.
    pub async fn connect(&self, name: &str, container: &str, settings: EndpointSettings) -> Result<()> {
        if container.is_empty() {
            return Err(Error::invalid("invalid container name or ID: value is empty"));
        }
        // ORDER: COMPAT: a missing container is told before a missing network
        // (oracle api/not_found_everywhere).
        Containers::new(Arc::clone(&self.shared)).snapshot(container)?;
        let record = self.table().resolve(name)?;
        if record.driver == "host" || record.driver == "null" {
            return Err(Error::invalid(format!(
                "container cannot be connected to network {}: it is only chosen when a container is created",
                record.name
            )));
        }
        Containers::new(Arc::clone(&self.shared))
            .connect(container, &record, settings)
            .await
    }

    /// Disconnects a container, live when it runs.
    pub async fn disconnect(&self, name: &str, container: &str, force: bool) -> Result<()> {
        if container.is_empty() {
            return Err(Error::invalid("invalid container name or ID: value is empty"));
        }
        let record = self.table().resolve(name)?;
        Containers::new(Arc::clone(&self.shared))
            .disconnect(container, &record, force)
            .await
    }

    fn table(&self) -> &NetworkTable {
        &self.shared.networks
    }

    /// Runs a kernel operation on a thread where blocking is allowed.
    async fn net<T: Send + 'static>(
        &self,
        work: impl FnOnce(&wharf_net::Net) -> Result<T, wharf_net::NetError> + Send + 'static,
    ) -> Result<T> {
        let _waiting = operations::waiting("the kernel's networks");
        let net = Arc::clone(&self.shared.net);
        match tokio::task::spawn_blocking(move || work(&net)).await {
            Ok(result) => result.map_err(Error::from),
            Err(join) => Err(Error::internal("a network operation was interrupted").with_source(join)),
        }
    }

    /// Writes and publishes a record.
    async fn keep(&self, record: NetworkRecord) -> Result<()> {
        let kept = record.clone();
        self.shared.db.call(move |db| db.put_network(&kept)).await?;
        self.table().publish(record);
        Ok(())
    }

    async fn forget(&self, id: &NetworkId) -> Result<()> {
        let gone = id.clone();
        self.shared.db.call(move |db| db.delete_network(&gone)).await?;
        self.table().withdraw(id);
        Ok(())
    }

    async fn remove_record(&self, record: &NetworkRecord) -> Result<()> {
        let members = self.members(&record.id);
        if let Some((id, member)) = members.iter().next() {
            return Err(Error::forbidden(format!(
                "error while removing network: network {} has active endpoints (name:{:?} id:{:?})",
                record.name,
                member.name,
                id.get(..12).unwrap_or(id)
            ))
            .with_hint("stop or disconnect the containers first"));
        }
        let id = record.id.to_string();
        self.net(move |net| net.remove_network(&id)).await?;
        operations::step("unmade");
        self.forget(&record.id).await?;
        operations::step("forgotten");
        self.publish_event(record, "destroy", BTreeMap::new());
        Ok(())
    }

    /// Running containers on a network, by id.
    fn members(&self, id: &NetworkId) -> BTreeMap<String, NetworkMember> {
        let snapshots = Containers::new(Arc::clone(&self.shared)).snapshots();
        let mut members = BTreeMap::new();
        for container in snapshots {
            let endpoint = container
                .endpoints
                .values()
                .find(|e| e.network_id == *id && !e.endpoint_id.is_empty());
            let Some(endpoint) = endpoint else { continue };
            let live = endpoint.live.as_ref();
            let member = NetworkMember {
                name: container.name.clone(),
                endpoint_id: endpoint.endpoint_id.clone(),
                mac_address: live.map(|l| l.mac.to_string()).unwrap_or_default(),
                ipv4: live.and_then(|l| l.ipv4).map(|ip| ip.to_string()).unwrap_or_default(),
                ipv6: live.and_then(|l| l.ipv6).map(|ip| ip.to_string()).unwrap_or_default(),
            };
            members.insert(container.id.to_string(), member);
        }
        members
    }

    fn publish_event(&self, record: &NetworkRecord, action: &str, mut attributes: BTreeMap<String, String>) {
        attributes.insert("name".into(), record.name.clone());
        attributes.insert("type".into(), record.driver.clone());
        self.shared
            .events
            .publish(EventKind::Network, action, record.id.as_str(), attributes);
    }
}

fn check_request(request: &CreateNetwork) -> Result<()> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if predefined::NAMES.contains(&name) {
        return Err(Error::forbidden(format!(
            "operation is not permitted on predefined {name} network"
        )));
    }
    if ["host", "null"].contains(&request.driver.as_str()) {
        return Err(Error::forbidden(format!(
            "only one instance of {:?} network is allowed",
            request.driver
        )));
    }
    if !["", "local"].contains(&request.scope.as_str()) {
        return Err(Error::forbidden(format!(
            "cannot create a {} scoped network when swarm is not active",
            request.scope
        )));
    }
    if request.ingress {
        return Err(Error::forbidden("an ingress network needs swarm, which is not active"));
    }
    if request.config_only {
        return Err(Error::unimplemented("configuration-only networks are not supported"));
    }
    Ok(())
}

fn net_request(request: &CreateNetwork) -> NetworkRequest {
    let nonempty = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let pool = |pool: &IpamPool| PoolRequest {
        subnet: nonempty(&pool.subnet),
        ip_range: nonempty(&pool.ip_range),
        gateway: nonempty(&pool.gateway),
        auxiliary: pool.auxiliary.clone(),
    };
    NetworkRequest {
        id: random_hex_id(),
        name: request.name.clone(),
        driver: request.driver.clone(),
        options: request.options.clone(),
        internal: request.internal,
        enable_ipv4: request.ipv4,
        enable_ipv6: request.ipv6,
        ipam_driver: request.ipam.driver.clone(),
        pools: request.ipam.pools.iter().map(pool).collect(),
    }
}

fn record_of(request: CreateNetwork, plan: wharf_net::NetworkRecord) -> NetworkRecord {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    NetworkRecord {
        id: NetworkId::new(plan.id.clone()),
        name: request.name,
        created: Timestamp::now(),
        driver: or(request.driver, "bridge"),
        ipv4: plan.has_ipv4(),
        ipv6: plan.has_ipv6(),
        ipam: IpamSettings {
            driver: or(request.ipam.driver, "default"),
            options: request.ipam.options,
            pools: predefined::pools_of(&plan),
        },
        internal: request.internal,
        attachable: request.attachable,
        options: request.options,
        labels: request.labels,
        predefined: false,
        plan: Some(plan),
    }
}

fn matches(record: &NetworkRecord, filters: &Filters) -> bool {
    let kind = if record.predefined { "builtin" } else { "custom" };
    filters.match_exactly("driver", &record.driver)
        && filters.match_exactly("type", kind)
        && filters.match_exactly("scope", "local")
        && filters.match_pattern("id", record.id.as_str())
        && filters.match_pattern("name", &record.name)
        && filters.match_labels(&record.labels)
}
