//! `wharf container commit`.

use wharf_api::types::IdResponse;

use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("author", "Who made the image").short('a'),
    Flag::list("change", "Instruction of a Dockerfile to apply").short('c'),
    Flag::string("message", "What was changed").short('m'),
    Flag::switch("pause", "Freeze the container meanwhile")
        .short('p')
        .default("true"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container commit", "commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Make an image of a container's changes",
    flags: &[FLAGS],
    args: Args::Between(1, 2),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let (repository, tag) = match parsed.arg(1) {
        "" => (String::new(), String::new()),
        name => {
            let reference = reference::parse(name)?.with_default_tag();
            (reference.repository(), reference.tag.unwrap_or_default())
        }
    };
    let client = session.client().await?;
    let mut request = client
        .post("/commit")
        .query("container", parsed.arg(0))
        .query_if("repo", &repository)
        .query_if("tag", &tag)
        .query_if("comment", parsed.text("message"))
        .query_if("author", parsed.text("author"));
    for change in parsed.all("change") {
        request = request.query("changes", change);
    }
    if !parsed.is_not_off("pause") {
        request = request.query("pause", "0");
    }
    let image: IdResponse = request.fetch().await?;
    outln!("{}", image.id);
    Ok(0)
}
