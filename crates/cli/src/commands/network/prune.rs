//! `wharf network prune`.

use wharf_api::types::NetworksPruneResponse;

use crate::commands::{filters, pruning};
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[filters::PRUNE_FILTER, pruning::FORCE];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network prune"],
    usage: "[OPTIONS]",
    about: "Remove networks without containers",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let warning = "WARNING! This will remove all custom networks not used by at least one container.";
    if !parsed.is_on("force") && !pruning::confirmed(warning)? {
        return Ok(0);
    }
    let client = session.client().await?;
    let request = client
        .post("/networks/prune")
        .filters(&filters::parse(&parsed.all("filter")));
    let answer: NetworksPruneResponse = request.fetch().await?;
    pruning::print_list("Deleted Networks:", &answer.networks_deleted.unwrap_or_default());
    Ok(0)
}
