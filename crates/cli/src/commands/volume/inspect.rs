//! `wharf volume inspect`.

use super::path;
use crate::commands::inspecting;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[inspecting::FORMAT];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["volume inspect"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Show everything about volumes",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    inspecting::each(&parsed.args, parsed.text("format"), |name| client.get(path(name))).await
}
