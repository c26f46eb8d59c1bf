//! `wharf man`: manual pages.

use std::path::Path;

use crate::error::{CliError, Outcome};
use crate::flags::Parsed;
use crate::manual;
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["man"],
    usage: "DIRECTORY",
    about: "Write this program's manual pages into a directory",
    flags: &[],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(_session: &Session, parsed: &Parsed) -> Outcome {
    let dir = Path::new(parsed.arg(0));
    std::fs::create_dir_all(dir).map_err(CliError::io(format!("creating {}", dir.display())))?;
    clap_mangen::generate_to(manual::command(), dir)
        .map_err(CliError::io(format!("writing manual pages into {}", dir.display())))?;
    Ok(0)
}
