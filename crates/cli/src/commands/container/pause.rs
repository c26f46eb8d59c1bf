//! `wharf container pause`.

use super::path;
use crate::commands::each::call_each;
use crate::error::Outcome;
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container pause", "pause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Freeze all processes of containers",
    flags: &[],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    call_each(&parsed.args, |id| client.post(path(&id, "/pause")).finish()).await
}
