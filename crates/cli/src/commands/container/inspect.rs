//! `wharf container inspect`.

use super::path;
use crate::commands::inspecting;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    inspecting::FORMAT,
    Flag::switch("size", "Show the sizes of the files").short('s'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container inspect"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Show everything about containers",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    inspecting::each(&parsed.args, parsed.text("format"), |id| {
        client.get(path(id, "/json")).query_flag("size", parsed.is_on("size"))
    })
    .await
}
