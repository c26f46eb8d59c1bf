//! `wharf builder prune`.

use wharf_api::types::BuildPruneResponse;

use super::prune::encoded;
use crate::commands::{filters, pruning};
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all", "Remove everything that no build uses, not only what is dangling").short('a'),
    filters::PRUNE_FILTER,
    pruning::FORCE,
    Flag::bytes("keep-storage", "Disk space to keep for the cache"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["builder prune"],
    usage: "",
    about: "Remove the cache of builds",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let all = parsed.is_on("all");
    let warning = if all {
        "WARNING! This will remove all build cache."
    } else {
        "WARNING! This will remove all dangling build cache."
    };
    if !parsed.is_on("force") && !pruning::confirmed(warning)? {
        return Ok(0);
    }
    let client = session.client().await?;
    let request = client
        .post("/build/prune")
        .query_flag("all", all)
        .query_if("reserved-space", parsed.text("keep-storage"))
        .query("filters", encoded(&filters::parse(&parsed.all("filter"))));
    let answer: BuildPruneResponse = request.fetch().await?;
    pruning::print_list(
        "Deleted build cache objects:",
        &answer.caches_deleted.unwrap_or_default(),
    );
    pruning::print_reclaimed(answer.space_reclaimed);
    Ok(0)
}
