//! `wharf image inspect`.

use super::{path, platform_json};
use crate::commands::inspecting;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    inspecting::FORMAT,
    Flag::string("platform", "Show this platform of the image"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image inspect"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Show everything about images",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let platform = platform_json(parsed.text("platform"));
    inspecting::each(&parsed.args, parsed.text("format"), |name| {
        client.get(path(name, "/json")).query_if("platform", &platform)
    })
    .await
}
