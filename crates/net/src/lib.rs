//! Networks of containers: namespaces, bridges, addresses, firewall, names.
//!
//! Owns: every network namespace, bridge, veth pair and nftables table of an
//! instance, all findable by the instance's name, and the instance's keeper
//! process (name service and loopback proxy). Does not own: records; the engine
//! stores [`NetworkRecord`], [`EndpointRecord`] and [`PublishedPort`] and hands
//! them back to [`Net::reconcile`] at its start.
//!
//! Everything here is synchronous; call it from a blocking thread.
#![allow(clippy::todo)]

pub mod error;
pub mod hosts;
pub mod model;
mod ports;
pub mod resolv;

use std::path::{Path, PathBuf};

pub use error::{NetError, NetErrorKind};
pub use model::*;

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
    config: NetConfig,
}

impl Net {
    /// Prepares the run directory and a netlink socket; touches nothing else.
    /// [`Net::reconcile`] comes next, before anything is asked for.
    pub fn open(config: NetConfig) -> Result<Net, NetError> {
        Ok(Net { config })
    }

    /// Brings the kernel to `desired` after a restart of the engine: rebuilds
    /// missing bridges, replaces the ruleset in one transaction, removes what
    /// nobody wants, adopts or starts the keeper and takes the ports again.
    /// Also how the very first start is made (with an empty or default `desired`).
    pub fn reconcile(&self, desired: &Desired) -> Result<Reconciled, NetError> {
        let _ = desired;
        todo!()
    }

    /// The request of the instance's default network `bridge`
    /// (`<instance>0`, 172.17.0.0/16 if that is free).
    pub fn default_network_request(&self, id: &str) -> NetworkRequest {
        let _ = id;
        todo!()
    }

    /// Checks a request and fills in every default: subnets that collide with
    /// no network, route or address of the host. Reserves nothing.
    pub fn plan_network(&self, request: &NetworkRequest) -> Result<NetworkRecord, NetError> {
        let _ = request;
        todo!()
    }

    /// Makes the bridge and its rules. Conflicts with another network that
    /// was created meanwhile are found again here.
    pub fn create_network(&self, record: &NetworkRecord) -> Result<(), NetError> {
        let _ = record;
        todo!()
    }

    /// Removes bridge and rules; gone already is fine. Refused while endpoints exist.
    pub fn remove_network(&self, id: &str) -> Result<(), NetError> {
        let _ = id;
        todo!()
    }

    /// Makes a namespace with `lo` up and pins it; idempotent for an existing one.
    /// Returns the path to join it by. Networks `none`, and the base of all others.
    pub fn create_namespace(&self, request: &NamespaceRequest) -> Result<PathBuf, NetError> {
        let _ = request;
        todo!()
    }

    /// Where a container's namespace is pinned.
    pub fn namespace_path(&self, container_id: &str) -> PathBuf {
        self.config.run.join("netns").join(container_id)
    }

    /// Unpublishes, disconnects and unpins all that is left of a container.
    /// Idempotent; goes on past failures and reports them all.
    pub fn remove_namespace(&self, container_id: &str) -> Result<(), NetError> {
        let _ = container_id;
        todo!()
    }

    /// Puts a container into a network, running or not yet started.
    pub fn connect(&self, network_id: &str, request: &EndpointRequest) -> Result<EndpointRecord, NetError> {
        let _ = (network_id, request);
        todo!()
    }

    /// Takes it out again, with the ports that were published through this endpoint.
    pub fn disconnect(&self, network_id: &str, container_id: &str) -> Result<(), NetError> {
        let _ = (network_id, container_id);
        todo!()
    }

    /// Changes the names a container answers to on one network.
    pub fn rename(&self, network_id: &str, container_id: &str, dns_names: &[String]) -> Result<(), NetError> {
        let _ = (network_id, container_id, dns_names);
        todo!()
    }

    /// Publishes ports of a container through its default-route endpoint: all
    /// or none, in addition to those it has. Answers one entry per host address
    /// family, in the order of the requests. A container without an endpoint
    /// that can be reached (internal networks only) publishes nothing.
    pub fn publish(&self, container_id: &str, ports: &[PortRequest]) -> Result<Vec<PublishedPort>, NetError> {
        let _ = (container_id, ports);
        todo!()
    }

    /// Takes back every published port of a container.
    pub fn unpublish(&self, container_id: &str) -> Result<(), NetError> {
        let _ = container_id;
        todo!()
    }

    /// What `host-gateway` means: the default bridge's addresses.
    pub fn host_gateway(&self) -> Vec<std::net::IpAddr> {
        todo!()
    }
}

/// Removes every kernel object and process of an instance by name, with or
/// without records: bridges, veths, nft table, pinned namespaces, keeper.
pub fn reset(instance: &str, run: &Path) -> Result<(), NetError> {
    let _ = (instance, run);
    todo!()
}
