//! `wharf inspect`: objects of any kind.

use serde_json::Value;
use wharf_api::client::{Client, ClientError, escape};

use crate::commands::inspecting;
use crate::error::{CliError, Failures, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    inspecting::FORMAT,
    Flag::switch("size", "Show the sizes of the files of containers").short('s'),
    Flag::string("type", "Look only among objects of this kind"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["inspect"],
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Show everything about objects",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

/// The kinds, in the order in which they are looked through, and their paths.
const KINDS: [(&str, &str, &str); 4] = [
    ("container", "/containers/", "/json"),
    ("image", "/images/", "/json"),
    ("network", "/networks/", ""),
    ("volume", "/volumes/", ""),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let wanted = parsed.text("type");
    if parsed.is_given("type") && !KINDS.iter().any(|(kind, ..)| *kind == wanted) {
        return Err(CliError::message(format!(
            "unknown type: {wanted:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
        )));
    }
    let client = session.client().await?;
    let mut found = Vec::new();
    let mut failures = Failures::default();
    for name in &parsed.args {
        match find(&client, wanted, name, parsed.is_on("size")).await {
            Ok(Some(document)) => found.push(document),
            Ok(None) => failures.add(&missing(wanted, name)),
            Err(error) => failures.add(&CliError::from(error)),
        }
    }
    inspecting::print(found, failures, parsed.text("format"))
}

fn missing(kind: &str, name: &str) -> CliError {
    let kind = if kind.is_empty() { "object" } else { kind };
    CliError::message(format!("Error: No such {kind}: {name}"))
}

/// The first object of that name.
async fn find(client: &Client, wanted: &str, name: &str, size: bool) -> Result<Option<Value>, ClientError> {
    for (kind, prefix, suffix) in KINDS {
        if !wanted.is_empty() && wanted != kind {
            continue;
        }
        let request = client
            .get(format!("{prefix}{}{suffix}", escape(name)))
            .query_flag("size", size && kind == "container");
        match request.fetch().await {
            Ok(document) => return Ok(Some(document)),
            Err(error) if error.is_not_found() => {}
            // A name that a kind does not allow is no object of that kind.
            Err(error) if error.status().is_some_and(|s| s.as_u16() == 400) && wanted.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
