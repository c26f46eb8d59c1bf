//! `wharf volume rm`.

use super::path;
use crate::commands::each::call_each;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[Flag::switch("force", "A volume that is not there is no error").short('f')];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["volume rm", "volume remove"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove volumes that no container uses",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let force = parsed.is_on("force");
    call_each(&parsed.args, |name| {
        client.delete(path(&name)).query_flag("force", force).finish()
    })
    .await
}
