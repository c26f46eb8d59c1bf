//! `wharf image ...`.

pub(crate) mod build;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod save;
pub(crate) mod tag;

use wharf_api::client::escape;
use wharf_api::types::OciPlatform;

/// The path of an image's call.
fn path(name: &str, call: &str) -> String {
    format!("/images/{}{call}", escape(name))
}

/// A platform in the JSON form that calls on images take, empty without one.
fn platform_json(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut parts = text.split('/').map(str::to_owned);
    let platform = OciPlatform {
        os: parts.next().unwrap_or_default(),
        architecture: parts.next().unwrap_or_default(),
        variant: parts.next().unwrap_or_default(),
        ..OciPlatform::default()
    };
    serde_json::to_string(&platform).expect("invariant: a platform is JSON")
}
