//! `wharf image import`.

use std::fs::File;
use std::io;

use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::progress;
use crate::pull::Output;
use crate::reference;
use crate::session::Session;
use crate::upload;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::list("change", "Instruction of a Dockerfile to apply").short('c'),
    Flag::string("message", "What the image is").short('m'),
    Flag::string("platform", "Platform of the image, os/arch[/variant]"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image import", "import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Make an image of a tar archive of a file system",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let source = parsed.arg(0);
    let (repository, tag) = match parsed.arg(1) {
        "" => (String::new(), String::new()),
        name => {
            let reference = reference::parse(name)?;
            (reference.familiar_repository(), reference.tag.unwrap_or_default())
        }
    };
    let client = session.client().await?;
    let mut request = client
        .post("/images/create")
        .query_if("repo", &repository)
        .query_if("tag", &tag)
        .query_if("message", parsed.text("message"))
        .query_if("platform", parsed.text("platform"));
    for change in parsed.all("change") {
        request = request.query("changes", change);
    }
    let request = if is_url(source) {
        request.query("fromSrc", source)
    } else {
        let body = match source {
            "-" => upload::from_reader(io::stdin()),
            path => upload::from_reader(File::open(path).map_err(CliError::io(format!("open {path}")))?),
        };
        request.query("fromSrc", "-").body("application/x-tar", body)
    };
    let response = request.send().await?;
    progress::show(response.documents(), Output::Stdout, |_| {}).await?;
    Ok(0)
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}
