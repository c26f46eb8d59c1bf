//! `wharf container ...`.

pub mod attach;
pub mod commit;
pub mod cp;
pub mod create;
pub mod diff;
pub mod exec;
pub mod export;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod ls;
pub mod pause;
pub mod port;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod run;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod unpause;
pub mod update;
pub mod wait;

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
