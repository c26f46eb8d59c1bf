//! `wharf container ...`.

pub(crate) mod attach;
pub(crate) mod commit;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod diff;
mod ending;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod pause;
pub(crate) mod port;
pub(crate) mod prune;
pub(crate) mod rename;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod unpause;
pub(crate) mod update;
pub(crate) mod wait;
pub(crate) mod why;

use wharf_api::client::{Client, ClientError, escape};
use wharf_api::types::ContainerInspect;

/// The path of a container's call.
fn path(id: &str, call: &str) -> String {
    format!("/containers/{}{call}", escape(id))
}

/// Everything about a container.
async fn inspect_of(client: &Client, id: &str) -> Result<ContainerInspect, ClientError> {
    client.get(path(id, "/json")).fetch().await
}
