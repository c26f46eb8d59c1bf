//! `wharf image pull`.

use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::pull::{self, Output};
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all-tags", "Pull every tag of the repository").short('a'),
    Flag::switch("disable-content-trust", "Accepted and ignored").default("true"),
    Flag::string("platform", "Platform to pull, os/arch[/variant]"),
    Flag::switch("quiet", "Print only the image's name").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Fetch an image from a registry",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let mut target = reference::parse(parsed.arg(0))?;
    let all = parsed.is_on("all-tags");
    if all && (target.tag.is_some() || target.digest.is_some()) {
        return Err(CliError::message("tag can't be used with --all-tags/-a"));
    }
    let quiet = parsed.is_on("quiet");
    if !all {
        if target.tag.is_none() && target.digest.is_none() && !quiet {
            outln!("Using default tag: latest");
        }
        target = target.with_default_tag();
    }
    let client = session.client().await?;
    let output = if quiet { Output::Nothing } else { Output::Stdout };
    pull::pull(session, &client, &target, parsed.text("platform"), output).await?;
    outln!("{}", canonical(&target));
    Ok(0)
}

/// The whole name, `docker.io/library/busybox:latest`.
fn canonical(target: &reference::Reference) -> String {
    let mut text = target.repository();
    if let Some(tag) = &target.tag {
        text.push_str(&format!(":{tag}"));
    }
    if let Some(digest) = &target.digest {
        text.push_str(&format!("@{digest}"));
    }
    text
}
