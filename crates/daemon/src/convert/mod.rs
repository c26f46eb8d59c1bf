//! Between wire types (`wharf_api`) and the engine's model, in both directions: pure functions.
//! Switches between API versions are made here, where an answer is put together.

pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod event;
pub(crate) mod filters;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod volume;
