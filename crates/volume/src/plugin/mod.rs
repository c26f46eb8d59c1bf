//! Volume plugins: drivers that are servers of their own, spoken to in version 1 of Docker's plugin protocol.
//!
//! ```text
//!  discovery   NAME.sock, NAME.spec, NAME.json in the plugin directories --> where it listens
//!  registry    one entry per plugin that was asked; activated once (POST /Plugin.Activate)
//!  driver      typed requests: Create, Remove, Mount, Unmount, Path, Get, List, Capabilities
//!  client      HTTP over a unix socket, TCP or TLS; a deadline on everything, a bound on what is read
//! ```
//! Whoever asks says how patient it is ([`Patience`]). Nothing is sent twice: only a connection that was not made is
//! tried again. No request holds a thread, so a plugin that hangs costs its asker's time and nothing else.
//! What is asked of which plugin, and when, is the engine's business.

mod client;
mod discovery;
mod driver;
mod error;
mod protocol;
mod registry;
mod silence;

pub use client::Patience;
pub use discovery::{PluginDirs, default_plugin_dirs};
pub use driver::Driver;
pub use error::PluginError;
pub use protocol::{PluginVolume, Scope};
pub use registry::{Found, Plugins};
