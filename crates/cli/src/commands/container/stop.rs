//! `wharf container stop`.

use super::ending;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container stop", "stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Ask running containers to end, then kill them",
    flags: &[ending::FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(ending::call(session, parsed, "/stop")),
};
