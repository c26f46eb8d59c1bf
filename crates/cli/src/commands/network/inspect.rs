//! `wharf network inspect`.

use super::path;
use crate::commands::inspecting;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    inspecting::FORMAT,
    Flag::switch("verbose", "Show more, for diagnosis").short('v'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network inspect"],
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Show everything about networks",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    inspecting::each(&parsed.args, parsed.text("format"), |id| {
        client.get(path(id, "")).query_flag("verbose", parsed.is_on("verbose"))
    })
    .await
}
