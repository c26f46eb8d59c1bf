//! `wharf network rm`.

use super::path;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[Flag::switch("force", "A network that is not there is no error").short('f')];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network rm", "network remove"],
    usage: "NETWORK [NETWORK...]",
    about: "Remove networks",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let mut code = 0;
    for id in &parsed.args {
        match client.delete(path(id, "")).finish().await {
            Ok(()) => outln!("{id}"),
            Err(error) if error.is_not_found() && parsed.is_on("force") => {}
            Err(error) => {
                eprintln!("{}", CliError::from(error).describe());
                code = 1;
            }
        }
    }
    Ok(code)
}
