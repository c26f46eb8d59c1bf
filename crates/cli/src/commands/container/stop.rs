//! `wharf container stop`.

use super::path;
use crate::commands::each::call_each;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("signal", "Signal that asks the container to end").short('s'),
    Flag::int("time", "Seconds to wait before killing the container").hidden(),
    Flag::int("timeout", "Seconds to wait before killing the container, -1 for ever").short('t'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container stop", "stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Ask running containers to end, then kill them",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if parsed.is_given("time") && parsed.is_given("timeout") {
        return Err(CliError::message(
            "conflicting options: cannot specify both --timeout and --time",
        ));
    }
    let timeout = parsed.last("timeout").or(parsed.last("time")).unwrap_or_default();
    let client = session.client().await?;
    call_each(&parsed.args, |id| {
        client
            .post(path(&id, "/stop"))
            .query_if("signal", parsed.text("signal"))
            .query_if("t", timeout)
            .finish()
    })
    .await
}
