//! `wharf container prune`.

use wharf_api::types::ContainersPruneResponse;

use crate::commands::{filters, pruning};
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[filters::PRUNE_FILTER, pruning::FORCE];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container prune"],
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if !parsed.is_on("force") && !pruning::confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let client = session.client().await?;
    let request = client
        .post("/containers/prune")
        .filters(&filters::parse(&parsed.all("filter")));
    let answer: ContainersPruneResponse = request.fetch().await?;
    pruning::print_list("Deleted Containers:", &answer.containers_deleted.unwrap_or_default());
    pruning::print_reclaimed(answer.space_reclaimed);
    Ok(0)
}
