//! The objects of the API, one module per family. Field order is the order of Docker's answers.
//! `Option` marks what Docker may answer as `null` or leave out; empty lists and maps that are
//! not optional travel as `[]` and `{}`.

mod build;
mod container;
mod create;
mod disk_usage;
mod event;
mod exec;
mod host;
mod image;
mod inspect;
mod mount;
mod network;
mod operation;
mod progress;
mod stats;
mod system;
mod volume;
mod why;

use std::collections::BTreeMap;

pub use build::*;
pub use container::*;
pub use create::*;
pub use disk_usage::*;
pub use event::*;
pub use exec::*;
pub use host::*;
pub use image::*;
pub use inspect::*;
pub use mount::*;
pub use network::*;
pub use operation::*;
pub use progress::*;
pub use stats::*;
pub use system::*;
pub use volume::*;
pub use why::*;

/// A JSON object of strings: labels, options. Sorted by key, as Go prints its maps.
pub type StringMap = BTreeMap<String, String>;

/// A JSON object used as a set, `{"80/tcp": {}}`.
pub type StringSet = BTreeMap<String, Empty>;

wire! {
    /// The object without fields, `{}`.
    pub struct Empty {}

    /// The body of every error answer.
    pub struct ErrorResponse {
        message: String = "message",
    }

    /// The answer of calls that create something and name it.
    pub struct IdResponse {
        id: String = "Id",
    }
}
