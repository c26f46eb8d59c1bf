//! `wharf image load`.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};

use super::platform_json;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::progress;
use crate::pull::Output;
use crate::session::Session;
use crate::upload;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("input", "File to read, instead of stdin").short('i'),
    Flag::string("platform", "Load only this platform of the images"),
    Flag::switch("quiet", "Do not show the progress").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image load", "load"],
    usage: "[OPTIONS]",
    about: "Read images from a tar archive",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let archive = open(parsed.text("input"))?;
    let client = session.client().await?;
    let quiet = parsed.is_on("quiet") || !io::stdout().is_terminal();
    let response = client
        .post("/images/load")
        .query("quiet", if quiet { "1" } else { "0" })
        .query_if("platform", &platform_json(parsed.text("platform")))
        .body("application/x-tar", upload::from_reader(archive))
        .send()
        .await?;
    progress::show(response.documents(), Output::Stdout, |_| {}).await?;
    Ok(0)
}

fn open(path: &str) -> Result<Box<dyn Read + Send>, CliError> {
    if !path.is_empty() {
        let file = File::open(path).map_err(CliError::io(format!("open {path}")))?;
        return Ok(Box::new(file));
    }
    if io::stdin().is_terminal() {
        return Err(CliError::message("requested load from stdin, but stdin is empty"));
    }
    Ok(Box::new(io::stdin()))
}
