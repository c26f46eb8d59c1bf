//! Networks of containers: namespaces, bridges, addresses, firewall, names.
//!
//! Owns: every network namespace, bridge, veth pair and nftables table of an
//! instance, all findable by the instance's name, and the instance's keeper
//! process (name service and loopback proxy). Does not own: records; the engine
//! stores [`NetworkRecord`], [`EndpointRecord`] and [`PublishedPort`] and hands
//! them back to [`Net::reconcile`] at its start.
//!
//! Everything here is synchronous; call it from a blocking thread.

pub mod error;
pub mod hosts;
pub mod model;
pub mod resolv;

mod bridge;
mod firewall;
mod instance;
mod ipam;
mod keeper;
mod namespace;
mod netlink;
mod pins;
mod plan;
mod ports;
mod reconcile;
mod state;
mod sweeper;

pub use error::{NetError, NetErrorKind};
pub use instance::{Net, NetConfig};
pub use model::*;
pub use namespace::NamespaceHold;
pub use reconcile::reset;
