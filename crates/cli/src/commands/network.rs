//! `wharf network ...`.

pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod disconnect;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use wharf_api::client::escape;

/// The path of a network's call.
fn path(id: &str, call: &str) -> String {
    format!("/networks/{}{call}", escape(id))
}
