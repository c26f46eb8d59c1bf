//! `wharf logout`.

use super::login::chain;
use crate::config::{index_server, registry_host};
use crate::error::Outcome;
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry, Docker Hub unless another is named",
    flags: &[],
    args: Args::AtMost(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let server = match parsed.arg(0) {
        "" => index_server(),
        address => registry_host(address),
    };
    let mut config = session.config().clone();
    match config.drop_credentials(server) {
        Ok(true) => outln!("Removing login credentials for {server}"),
        Ok(false) => outln!("Not logged in to {server}"),
        Err(error) => session.warn(&format!("could not erase credentials: {}", chain(&error))),
    }
    Ok(0)
}
