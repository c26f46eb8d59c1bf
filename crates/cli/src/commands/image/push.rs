//! `wharf image push`.

use wharf_api::auth::REGISTRY_AUTH_HEADER;

use super::{path, platform_json};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::progress;
use crate::pull::Output;
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all-tags", "Push every tag of the repository").short('a'),
    Flag::switch("disable-content-trust", "Accepted and ignored").default("true"),
    Flag::string("platform", "Push only this platform of the image"),
    Flag::switch("quiet", "Print only the image's name").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Send an image to a registry",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let mut target = reference::parse(parsed.arg(0))?;
    let all = parsed.is_on("all-tags");
    let quiet = parsed.is_on("quiet");
    if all && target.tag.is_some() {
        return Err(CliError::message("tag can't be used with --all-tags/-a"));
    }
    if !all {
        if target.tag.is_none() && !quiet {
            outln!("Using default tag: latest");
        }
        target = target.with_default_tag();
    }
    let client = session.client().await?;
    let auth = session.config().credentials(&target.registry);
    let response = client
        .post(path(&target.familiar_repository(), "/push"))
        .query_if("tag", target.tag.as_deref().unwrap_or_default())
        .query_if("platform", &platform_json(parsed.text("platform")))
        .header(REGISTRY_AUTH_HEADER, auth.to_header())
        .send()
        .await?;
    let output = if quiet { Output::Nothing } else { Output::Stdout };
    progress::show(response.documents(), output, |_| {}).await?;
    if quiet {
        outln!("{}:{}", target.repository(), target.tag.unwrap_or_default());
    }
    Ok(0)
}
