//! `wharf completion`.

use clap_complete::Shell;

use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::manual;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["completion"],
    usage: "bash|elvish|fish|powershell|zsh",
    about: "Print a script that completes this program's commands in a shell",
    flags: &[],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let shell: Shell = parsed.arg(0).parse().map_err(|_| {
        CliError::message(format!(
            "unknown shell {:?}: use bash, elvish, fish, powershell or zsh",
            parsed.arg(0)
        ))
    })?;
    let mut command = manual::command();
    clap_complete::generate(shell, &mut command, &session.program, &mut std::io::stdout());
    Ok(0)
}
