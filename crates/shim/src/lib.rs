//! The keeper of one container: its standard streams, its log, its exit status, its execs.
//!
//! Owns: the `wharf-shim` process (feature `server`), the protocol between engine and shim, the
//! log files (writer and reader) and the engine's client (feature `client`). Does not own: how a
//! container is made (the runtime crate) nor why (the engine).
//!
//! ```text
//! engine                     wharf-shim (one per container)          container
//!   | spawn, plan by fd         |                                       |
//!   |-------------------------->| create in-process                     |
//!   |<------- created(pid) -----|------------------------------------->| init waits
//!   |-------- start ----------->|------------------------------------->| exec
//!   |-------- attach + fd ----->| frames stdout/stderr to the client <--|
//!   |   (engine may die)        | log file, exit file                   |
//!   |-- connect, state -------->|                                       |
//!   |<------- exited -----------|                                       x
//!   |-- acknowledge ----------->| removes its directory, ends
//!
//! <run>/shims/<id>/   sock   control socket
//!                     pid    "<pid> <start time in ticks>" of the shim
//!                     exit   JSON, written once, kept until acknowledged
//! ```

#[cfg(feature = "client")]
pub mod client;
pub mod detach;
pub mod identity;
#[cfg(feature = "keeper")]
pub mod keeper;
pub mod log;
pub mod plan;
pub mod protocol;
pub mod target;
pub mod wire;

#[cfg(feature = "server")]
mod containerd;
#[cfg(feature = "server")]
pub mod hello;
#[cfg(feature = "server")]
pub mod init;
#[cfg(feature = "server")]
pub mod packer;
#[cfg(feature = "server")]
pub mod roles;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod task_api;
