//! What can go wrong, with the wording Docker's clients know.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::Protocol;

/// The family of a [`NetError`], for the engine's own closed kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetErrorKind {
    /// The thing named does not exist.
    NotFound,
    /// The thing exists already or is in use.
    Conflict,
    /// Docker answers 403 here: overlapping pools, predefined names.
    Forbidden,
    /// The request makes no sense.
    InvalidArgument,
    /// A driver or mode this crate does not have.
    Unimplemented,
    /// The kernel or the machine failed.
    Internal,
}

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are the facts their message names
pub enum NetError {
    #[error("invalid MAC address: {text}")]
    InvalidMac { text: String },
    #[error("invalid proto: {text}")]
    InvalidProtocol { text: String },
    #[error("invalid port specification: {text:?}")]
    InvalidPort { text: String },
    #[error("invalid IP address: {text:?}")]
    InvalidAddress { text: String },
    #[error("invalid extra host: {text:?}")]
    InvalidExtraHost { text: String },
    #[error("unable to derive the IP value for host-gateway")]
    NoHostGateway,
    #[error("invalid subnet {text}: {reason}")]
    InvalidSubnet { text: String, reason: String },
    #[error("invalid network config:\n{reason}")]
    InvalidConfig { reason: String },
    #[error("invalid value {value:?} of network option {option}: {reason}")]
    InvalidOption {
        option: String,
        value: String,
        reason: String,
    },
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap { subnet: IpNet },
    #[error("all predefined address pools have been fully subnetted")]
    PoolsExhausted,
    #[error("no available IPv4 addresses on this network's address pools: {network} ({id})")]
    AddressesExhausted { network: String, id: String },
    #[error("Address already in use")]
    AddressInUse { address: IpAddr },
    #[error("user specified IP address is supported only when connecting to networks with user configured subnets")]
    FixedAddressUnsupported,
    #[error("no configured subnet contains IP address {address}")]
    AddressOutsideSubnets { address: IpAddr },
    #[error("could not find plugin {driver} in v1 plugin registry: plugin not found")]
    UnknownDriver { driver: String },
    #[error("network driver {driver:?} is not supported by this engine")]
    UnsupportedDriver { driver: String },
    #[error("IPAM driver {driver:?} is not supported by this engine")]
    UnsupportedIpam { driver: String },
    #[error("network option {option:?} is not supported by this engine")]
    UnsupportedOption { option: String },
    #[error("network {id} not found")]
    NetworkNotFound { id: String },
    #[error("endpoint of container {container} already exists in network {network}")]
    EndpointExists { network: String, container: String },
    #[error("container {container} is not connected to network {network}")]
    NotConnected { network: String, container: String },
    #[error("network {network} has active endpoints")]
    ActiveEndpoints { network: String },
    #[error(
        "cannot create network {id} ({bridge}): conflicts with network {other} ({bridge}): networks have same bridge name"
    )]
    BridgeNameInUse { id: String, bridge: String, other: String },
    #[error("network namespace of container {container} not found")]
    NamespaceNotFound { container: String },
    #[error("Bind for {address}:{port} failed: port is already allocated", address = bracketed(*.address))]
    PortAllocated { address: IpAddr, port: u16 },
    #[error(
        "failed to bind host port for {address}:{port}:{target}:{container_port}/{protocol}: address already in use",
        address = bracketed(*.address), target = bracketed(*.target)
    )]
    PortBusy {
        address: IpAddr,
        port: u16,
        target: IpAddr,
        container_port: u16,
        protocol: Protocol,
    },
    #[error(
        "failed to bind host port for {address}:{port}:{target}:{container_port}/{protocol}",
        address = bracketed(*.address), target = bracketed(*.target)
    )]
    PortBind {
        address: IpAddr,
        port: u16,
        target: IpAddr,
        container_port: u16,
        protocol: Protocol,
        #[source]
        source: io::Error,
    },
    #[error("all ports are allocated")]
    PortsExhausted,
    #[error("{action} failed")]
    Netlink {
        action: String,
        #[source]
        source: io::Error,
    },
    #[error("{action} {path} failed", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{action} failed")]
    Namespace {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the instance's name service and proxy process: {action} failed")]
    Keeper {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the instance's name service and proxy process answered: {message}")]
    KeeperAnswer { message: String },
    #[error("{}", .failures.iter().map(|f| chain(f)).collect::<Vec<_>>().join("; "))]
    Several { failures: Vec<NetError> },
}

/// An address as it stands before `:port`.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

impl NetError {
    /// Nothing, the one failure, or all of them.
    pub(crate) fn all(mut failures: Vec<NetError>) -> Result<(), NetError> {
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(NetError::Several { failures }),
        }
    }

    /// Which answer this error is.
    pub fn kind(&self) -> NetErrorKind {
        use NetError as E;
        match self {
            E::InvalidMac { .. }
            | E::InvalidProtocol { .. }
            | E::InvalidPort { .. }
            | E::InvalidAddress { .. }
            | E::InvalidExtraHost { .. }
            | E::NoHostGateway
            | E::InvalidSubnet { .. }
            | E::InvalidConfig { .. }
            | E::InvalidOption { .. }
            | E::FixedAddressUnsupported
            | E::AddressOutsideSubnets { .. } => NetErrorKind::InvalidArgument,
            E::PoolOverlap { .. } | E::AddressInUse { .. } | E::ActiveEndpoints { .. } | E::EndpointExists { .. } => {
                NetErrorKind::Forbidden
            }
            E::BridgeNameInUse { .. } => NetErrorKind::Conflict,
            E::UnknownDriver { .. }
            | E::NetworkNotFound { .. }
            | E::NotConnected { .. }
            | E::NamespaceNotFound { .. } => NetErrorKind::NotFound,
            E::UnsupportedDriver { .. } | E::UnsupportedIpam { .. } | E::UnsupportedOption { .. } => {
                NetErrorKind::Unimplemented
            }
            E::PoolsExhausted
            | E::AddressesExhausted { .. }
            | E::PortAllocated { .. }
            | E::PortBusy { .. }
            | E::PortBind { .. }
            | E::PortsExhausted
            | E::Netlink { .. }
            | E::File { .. }
            | E::Namespace { .. }
            | E::Keeper { .. }
            | E::KeeperAnswer { .. }
            | E::Several { .. } => NetErrorKind::Internal,
        }
    }
}
