//! The daemon: the engine's face on HTTP, as Docker's clients know it.
//!
//! It owns listeners, configuration, routes, version negotiation, the credentials in request
//! headers and the conversion between wire types (`wharf_api`) and the engine's model. It
//! decides nothing about containers: every rule is the engine's.
//!
//! ```text
//!   socket ──> http::connection ──> http::serve ──> routes::* ──> wharf_engine
//!                     │                                │
//!                     └── hijack: the socket itself <──┘ convert::* (model <-> wire)
//! ```

mod app;
mod causes;
mod convert;
mod http;
mod listen;
mod log_target;
mod options;
mod own_log;
mod reload;
mod routes;
mod run;
mod runtimes;

pub use causes::with_causes;
pub use listen::ListenError;
pub use log_target::log_target;
pub use options::{ConfigFile, DEFAULT_CONFIG, Host, Options, OptionsError, Settings, USAGE};
pub use run::{DaemonError, main, reset};
