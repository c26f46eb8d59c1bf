//! `wharf volume ...`.

pub mod create;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;

use wharf_api::client::escape;

/// The path of a volume's call.
fn path(name: &str) -> String {
    format!("/volumes/{}", escape(name))
}
