//! `wharf container wait`.

use wharf_api::types::WaitResponse;

use super::path;
use crate::error::{CliError, Failures, Outcome};
use crate::flags::Parsed;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container wait", "wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Wait until containers end, then print their exit codes",
    flags: &[],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let mut failures = Failures::default();
    for id in &parsed.args {
        match client.post(path(id, "/wait")).fetch::<WaitResponse>().await {
            Ok(WaitResponse { error: Some(error), .. }) => failures.add(&CliError::message(error.message)),
            Ok(answer) => outln!("{}", answer.status_code),
            Err(error) => failures.add(&CliError::from(error)),
        }
    }
    failures.outcome()
}
