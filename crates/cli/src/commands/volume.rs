//! `wharf volume ...`.

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use wharf_api::client::escape;

/// The path of a volume's call.
fn path(name: &str) -> String {
    format!("/volumes/{}", escape(name))
}
