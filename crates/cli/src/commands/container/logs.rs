//! `wharf container logs`.

use wharf_api::client::{Client, Response};

use super::{inspect_of, path};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::streams;
use crate::times;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("details", "Show the details that the log driver adds"),
    Flag::switch("follow", "Go on showing what is logged").short('f'),
    Flag::string(
        "since",
        "Show what was logged after a time (2026-01-02T13:23:37Z) or in a duration (42m)",
    ),
    Flag::string("tail", "Show so many lines from the end")
        .short('n')
        .default("\"all\""),
    Flag::switch("timestamps", "Show the time of each line").short('t'),
    Flag::string(
        "until",
        "Show what was logged before a time (2026-01-02T13:23:37Z) or a duration ago (42m)",
    ),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container logs", "logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Show what a container has printed",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let id = parsed.arg(0);
    let time = |flag: &str| {
        times::to_api(parsed.text(flag))
            .map_err(|error| CliError::message(format!("invalid value for {flag:?}: {error}")))
    };
    let response = client
        .get(path(id, "/logs"))
        .query("stdout", "1")
        .query("stderr", "1")
        .query_if("since", &time("since")?)
        .query_if("until", &time("until")?)
        .query_flag("timestamps", parsed.is_on("timestamps"))
        .query_flag("details", parsed.is_on("details"))
        .query_flag("follow", parsed.is_on("follow"))
        .query("tail", parsed.last("tail").unwrap_or("all"))
        .send()
        .await?;
    let tty = is_raw(&client, &response, id).await?;
    streams::print(response, tty).await?;
    Ok(0)
}

/// Engines from 1.42 on say whether the stream is framed; older ones must be asked.
async fn is_raw(client: &Client, response: &Response, id: &str) -> Result<bool, CliError> {
    if response.framed() == Some(true) {
        return Ok(false);
    }
    if client.version().at_least(42) {
        return Ok(true);
    }
    Ok(inspect_of(client, id).await?.config.tty)
}
