//! `wharf image rm`.

use wharf_api::types::ImageDeleteItem;

use super::{path, platform_json};
use crate::error::{CliError, Failures, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("force", "Remove images in use by stopped containers, and all names").short('f'),
    Flag::switch("no-prune", "Keep parents without a name"),
    Flag::strings("platform", "Remove only this platform of the image"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image rm", "image remove", "rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove images",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let force = parsed.is_on("force");
    let mut failures = Failures::default();
    let mut only_missing = true;
    for name in &parsed.args {
        let mut request = client
            .delete(path(name, ""))
            .query_flag("force", force)
            .query_flag("noprune", parsed.is_on("no-prune"));
        for platform in parsed.all("platform") {
            request = request.query("platforms", platform_json(&platform));
        }
        match request.fetch::<Vec<ImageDeleteItem>>().await {
            Ok(items) => items.iter().for_each(print_item),
            Err(error) => {
                only_missing &= error.is_not_found();
                failures.add(&CliError::from(error));
            }
        }
    }
    match failures.outcome() {
        // COMPAT: by force, images that are not there are told of and no failure.
        Err(error) if force && only_missing => {
            eprintln!("{error}");
            Ok(0)
        }
        other => other,
    }
}

fn print_item(item: &ImageDeleteItem) {
    if item.deleted.is_empty() {
        outln!("Untagged: {}", item.untagged);
    } else {
        outln!("Deleted: {}", item.deleted);
    }
}
