//! `wharf container export`.

use super::path;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::output::write_archive;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[Flag::string("output", "File to write to, instead of stdout").short('o')];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container export", "export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Write a container's file system as a tar archive",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let request = client.get(path(parsed.arg(0), "/export"));
    write_archive(request, parsed.text("output"), "failed to export container").await?;
    Ok(0)
}
