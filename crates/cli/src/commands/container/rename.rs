//! `wharf container rename`.

use super::path;
use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container rename", "rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Give a container another name",
    flags: &[],
    args: Args::Exactly(2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let (id, name) = (parsed.arg(0).trim(), parsed.arg(1).trim());
    if id.is_empty() || name.is_empty() {
        return Err(CliError::message("Error: Neither old nor new names may be empty"));
    }
    let client = session.client().await?;
    client.post(path(id, "/rename")).query("name", name).finish().await?;
    Ok(0)
}
