//! `wharf network inspect`.

use super::path;
use crate::commands::inspecting;
use crate::error::{CliError, Failures, Outcome};
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
    let mut found = Vec::new();
    let mut failures = Failures::default();
    for id in &parsed.args {
        let request = client.get(path(id, "")).query_flag("verbose", parsed.is_on("verbose"));
        match request.fetch().await {
            Ok(document) => found.push(document),
            Err(error) => failures.add(&CliError::from(error)),
        }
    }
    inspecting::print(found, failures, parsed.text("format"))
}
