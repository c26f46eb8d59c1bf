//! `wharf network disconnect`.

use wharf_api::types::NetworkDisconnectRequest;

use super::path;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[Flag::switch("force", "Disconnect even a container that is not there").short('f')];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network disconnect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let body = NetworkDisconnectRequest {
        container: parsed.arg(1).to_owned(),
        force: parsed.is_on("force"),
    };
    let client = session.client().await?;
    client
        .post(path(parsed.arg(0), "/disconnect"))
        .json(&body)
        .finish()
        .await?;
    Ok(0)
}
