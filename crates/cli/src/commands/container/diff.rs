//! `wharf container diff`.

use wharf_api::types::FilesystemChange;

use super::path;
use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container diff", "diff"],
    usage: "CONTAINER",
    about: "List what a container has changed in its file system",
    flags: &[],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if parsed.arg(0).is_empty() {
        return Err(CliError::message("Container name cannot be empty"));
    }
    let client = session.client().await?;
    let changes: Option<Vec<FilesystemChange>> = client.get(path(parsed.arg(0), "/changes")).fetch().await?;
    for change in changes.unwrap_or_default() {
        let letter = match change.kind {
            0 => 'C',
            1 => 'A',
            2 => 'D',
            _ => '?',
        };
        outln!("{letter} {}", change.path);
    }
    Ok(0)
}
