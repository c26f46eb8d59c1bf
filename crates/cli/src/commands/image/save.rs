//! `wharf image save`.

use super::platform_json;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::output::write_archive;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("output", "File to write to, instead of stdout").short('o'),
    Flag::string("platform", "Save only this platform of the images"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image save", "save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Write images as a tar archive",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let mut request = client.get("/images/get");
    for name in &parsed.args {
        request = request.query("names", name);
    }
    request = request.query_if("platform", &platform_json(parsed.text("platform")));
    write_archive(request, parsed.text("output"), "failed to save image").await?;
    Ok(0)
}
