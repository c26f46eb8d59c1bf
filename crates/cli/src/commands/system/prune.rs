//! `wharf system prune`.

use wharf_api::Filters;
use wharf_api::client::Client;
use wharf_api::types::{
    BuildPruneResponse, ContainersPruneResponse, ImagesPruneResponse, NetworksPruneResponse, VolumesPruneResponse,
};

use crate::commands::image::prune::print_removed;
use crate::commands::{filters, pruning};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all", "Remove every unused image, not only those without a name").short('a'),
    filters::PRUNE_FILTER,
    pruning::FORCE,
    Flag::switch("volumes", "Remove unused anonymous volumes too"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system prune"],
    usage: "[OPTIONS]",
    about: "Remove what is not used",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let conditions = filters::parse(&parsed.all("filter"));
    let (all, volumes) = (parsed.is_on("all"), parsed.is_on("volumes"));
    if volumes && conditions.contains("until") {
        return Err(CliError::message(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    if !parsed.is_on("force") && !pruning::confirmed(&warning(all, volumes, &parsed.all("filter")))? {
        return Ok(0);
    }
    let client = session.client().await?;
    let reclaimed = prune(&client, &conditions, all, volumes).await?;
    pruning::print_reclaimed(reclaimed);
    Ok(0)
}

/// COMPAT: without conditions the parameter is there and empty.
pub(super) fn encoded(conditions: &Filters) -> String {
    if conditions.is_empty() {
        String::new()
    } else {
        conditions.encode()
    }
}

fn warning(all: bool, volumes: bool, filters: &[String]) -> String {
    let mut lines = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let mut text = String::from("WARNING! This will remove:\n");
    for line in lines {
        text.push_str(&format!("  - {line}\n"));
    }
    if !filters.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for filter in filters {
            text.push_str(&format!("  - {filter}\n"));
        }
    }
    text
}

/// ORDER: containers first, so that what they used is unused.
async fn prune(client: &Client, conditions: &Filters, all: bool, volumes: bool) -> Result<u64, CliError> {
    let containers: ContainersPruneResponse = client.post("/containers/prune").filters(conditions).fetch().await?;
    pruning::print_list(
        "Deleted Containers:",
        &containers.containers_deleted.unwrap_or_default(),
    );
    let networks: NetworksPruneResponse = client.post("/networks/prune").filters(conditions).fetch().await?;
    pruning::print_list("Deleted Networks:", &networks.networks_deleted.unwrap_or_default());
    let mut reclaimed = containers.space_reclaimed;
    if volumes {
        let pruned: VolumesPruneResponse = client.post("/volumes/prune").filters(conditions).fetch().await?;
        pruning::print_list("Deleted Volumes:", &pruned.volumes_deleted.unwrap_or_default());
        reclaimed += pruned.space_reclaimed;
    }
    let mut of_images = conditions.clone();
    of_images.add("dangling", if all { "false" } else { "true" });
    let images: ImagesPruneResponse = client.post("/images/prune").filters(&of_images).fetch().await?;
    print_removed(&images);
    let cache = client
        .post("/build/prune")
        .query_flag("all", all)
        .query("filters", encoded(conditions));
    let cache: BuildPruneResponse = cache.fetch().await?;
    pruning::print_list(
        "Deleted build cache objects:",
        &cache.caches_deleted.unwrap_or_default(),
    );
    Ok(reclaimed + images.space_reclaimed + cache.space_reclaimed)
}
