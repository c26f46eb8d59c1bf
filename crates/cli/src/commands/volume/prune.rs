//! `wharf volume prune`.

use wharf_api::types::VolumesPruneResponse;

use crate::commands::{filters, pruning};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all", "Remove every unused volume, not only anonymous ones").short('a'),
    filters::PRUNE_FILTER,
    pruning::FORCE,
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["volume prune"],
    usage: "[OPTIONS]",
    about: "Remove unused volumes",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let mut conditions = filters::parse(&parsed.all("filter"));
    let all = parsed.is_on("all");
    if all && conditions.contains("all") {
        return Err(CliError::message(
            "conflicting options: cannot specify both --all and --filter all=1",
        ));
    }
    if all {
        conditions.add("all", "true");
    }
    let warning = if all {
        "WARNING! This will remove all local volumes not used by at least one container."
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container."
    };
    if !parsed.is_on("force") && !pruning::confirmed(warning)? {
        return Ok(0);
    }
    let client = session.client().await?;
    let answer: VolumesPruneResponse = client.post("/volumes/prune").filters(&conditions).fetch().await?;
    pruning::print_list("Deleted Volumes:", &answer.volumes_deleted.unwrap_or_default());
    pruning::print_reclaimed(answer.space_reclaimed);
    Ok(0)
}
