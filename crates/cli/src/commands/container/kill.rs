//! `wharf container kill`.

use super::path;
use crate::commands::each::call_each;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[Flag::string("signal", "Signal to send").short('s')];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container kill", "kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Send a signal to running containers, SIGKILL by default",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let signal = parsed.text("signal");
    call_each(&parsed.args, |id| {
        client.post(path(&id, "/kill")).query_if("signal", signal).finish()
    })
    .await
}
