//! What is said between engine and keeper; the other half of this contract is
//! the keeper role of the shim, and a test that runs the real one joins them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::model::{Protocol, Upstream};
use crate::namespace::ResolverSockets;

/// Raised with every change an older keeper would misunderstand.
pub(crate) const VERSION: u32 = 1;

/// A request of the engine.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// Who are you and what do you hold?
    Hello { version: u32 },
    /// Make these changes, in order.
    Apply { changes: &'a [Change] },
}

/// Identifies a held port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PortKey {
    pub protocol: Protocol,
    pub host: SocketAddr,
}

/// One change to what the keeper holds.
#[derive(Debug, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum Change {
    /// Serve names in this namespace (three descriptors: UDP, TCP, namespace).
    Namespace {
        id: String,
        upstream: Vec<Upstream>,
        #[serde(skip)]
        sockets: ResolverSockets,
    },
    /// Stop serving it.
    DropNamespace { id: String },
    /// Forget every name; the names that follow in the request replace them.
    ForgetNames,
    /// What a container is called on a network; replaces what it was called.
    Endpoint {
        network: String,
        network_name: String,
        container: String,
        names: Vec<String>,
        addresses: Vec<IpAddr>,
        /// Names that only this container knows, and whom each means.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        links: BTreeMap<String, String>,
    },
    /// It has left the network.
    DropEndpoint { network: String, container: String },
    /// Hold this port and carry what arrives at it to the target (one descriptor).
    Port {
        #[serde(flatten)]
        key: PortKey,
        target: SocketAddr,
        #[serde(skip)]
        socket: OwnedFd,
    },
    /// Carry what arrives from now on elsewhere.
    Retarget {
        #[serde(flatten)]
        key: PortKey,
        target: SocketAddr,
    },
    /// Let it go.
    DropPort {
        #[serde(flatten)]
        key: PortKey,
    },
}

impl Change {
    /// Descriptors that travel with it, in order.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Change::Namespace { sockets, .. } => {
                vec![sockets.udp.as_fd(), sockets.tcp.as_fd(), sockets.namespace.as_fd()]
            }
            Change::Port { socket, .. } => vec![socket.as_fd()],
            _ => Vec::new(),
        }
    }
}

/// The keeper's answer to every request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// Why it did not do it.
    pub error: Option<String>,
    /// Its process (answer to a greeting).
    pub pid: i32,
    /// Namespaces it serves (answer to a greeting).
    pub namespaces: Vec<String>,
    /// Ports it holds (answer to a greeting).
    pub ports: Vec<PortKey>,
}
