//! `wharf network connect`.

use wharf_api::types::NetworkConnectRequest;

use super::path;
use crate::create::endpoint_settings_from_connect;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::strings("alias", "Name of the container in the network"),
    Flag::strings("driver-opt", "Option of the network's driver"),
    Flag::int("gw-priority", "The network with the highest gives the default gateway"),
    Flag::string("ip", "IPv4 address"),
    Flag::string("ip6", "IPv6 address"),
    Flag::list("link", "Container to link to (NAME[:ALIAS])"),
    Flag::strings("link-local-ip", "Link-local address"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network connect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let body = NetworkConnectRequest {
        container: parsed.arg(1).to_owned(),
        endpoint_config: Some(endpoint_settings_from_connect(parsed)?),
    };
    let client = session.client().await?;
    client
        .post(path(parsed.arg(0), "/connect"))
        .json(&body)
        .finish()
        .await?;
    Ok(0)
}
