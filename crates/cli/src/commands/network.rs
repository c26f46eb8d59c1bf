//! `wharf network ...`.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use wharf_api::client::escape;

/// The path of a network's call.
fn path(id: &str, call: &str) -> String {
    format!("/networks/{}{call}", escape(id))
}
