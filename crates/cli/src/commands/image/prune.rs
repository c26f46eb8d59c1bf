//! `wharf image prune`.

use wharf_api::types::ImagesPruneResponse;

use crate::commands::{filters, pruning};
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch(
        "all",
        "Remove every image without a container, not only those without a name",
    )
    .short('a'),
    filters::PRUNE_FILTER,
    pruning::FORCE,
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image prune"],
    usage: "[OPTIONS]",
    about: "Remove unused images",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let all = parsed.is_on("all");
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !parsed.is_on("force") && !pruning::confirmed(warning)? {
        return Ok(0);
    }
    let mut conditions = filters::parse(&parsed.all("filter"));
    conditions.add("dangling", if all { "false" } else { "true" });
    let client = session.client().await?;
    let answer: ImagesPruneResponse = client.post("/images/prune").filters(&conditions).fetch().await?;
    print_removed(&answer);
    pruning::print_reclaimed(answer.space_reclaimed);
    Ok(0)
}

/// The list of what was removed.
pub(in crate::commands) fn print_removed(answer: &ImagesPruneResponse) {
    let lines: Vec<String> = answer
        .images_deleted
        .iter()
        .flatten()
        .map(|item| {
            if item.untagged.is_empty() {
                format!("deleted: {}", item.deleted)
            } else {
                format!("untagged: {}", item.untagged)
            }
        })
        .collect();
    pruning::print_list("Deleted Images:", &lines);
}
