//! The Docker Engine API as it travels: wire types of versions 1.24 to 1.51, version negotiation,
//! filters, registry credentials, and the framing of container streams. The daemon serves these
//! types; the command line sends them through [`client`].
//!
//! What this crate does not own: meaning. Defaults, validation and the switches between API
//! versions belong to the daemon; these types only say what the JSON looks like.
//!
//! ```text
//!   wharf (CLI) --> client --HTTP/1.1--> daemon (routes)
//!                      \                  /
//!                       types, filters, auth, stdcopy, version
//! ```
#![recursion_limit = "512"]

#[macro_use]
mod wire;

pub mod auth;
pub mod filters;
pub mod stdcopy;
pub mod types;
pub mod version;

#[cfg(feature = "client")]
pub mod client;

pub use filters::Filters;
pub use version::ApiVersion;
