//! `wharf container rm`.

use wharf_api::client::ClientError;

use super::path;
use crate::commands::each::call_each_but;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("force", "Kill a running container first").short('f'),
    Flag::switch("link", "Remove the link of that name").short('l'),
    Flag::switch("volumes", "Remove the container's anonymous volumes too").short('v'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container rm", "container remove", "rm"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove containers",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let force = parsed.is_on("force");
    // COMPAT: what is not there needs no removing by force, but is told of.
    let tolerated = |error: &ClientError| force && error.is_not_found();
    call_each_but(&parsed.args, tolerated, |id| {
        client
            .delete(path(id.trim_matches('/'), ""))
            .query_flag("force", force)
            .query_flag("link", parsed.is_on("link"))
            .query_flag("v", parsed.is_on("volumes"))
            .finish()
    })
    .await
}
