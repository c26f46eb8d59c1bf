//! `wharf image tag`.

use super::path;
use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image tag", "tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Give an image another name",
    flags: &[],
    args: Args::Exactly(2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let target = reference::parse(parsed.arg(1)).map_err(|error| {
        CliError::message(format!(
            "Error parsing reference: {:?} is not a valid repository/tag: {error}",
            parsed.arg(1)
        ))
    })?;
    if target.digest.is_some() {
        return Err(CliError::message("refusing to create a tag with a digest reference"));
    }
    let target = target.with_default_tag();
    let client = session.client().await?;
    client
        .post(path(parsed.arg(0), "/tag"))
        .query("repo", target.repository())
        .query("tag", target.tag.unwrap_or_default())
        .finish()
        .await?;
    Ok(0)
}
