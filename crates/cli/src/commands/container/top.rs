//! `wharf container top`.

use wharf_api::types::ContainerTop;

use super::path;
use crate::error::Outcome;
use crate::flags::Parsed;
use crate::format::table::{Layout, align};
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container top", "top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "List the processes of a container",
    flags: &[],
    args: Args::AtLeast(1),
    options_first: true,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let request = client
        .get(path(parsed.arg(0), "/top"))
        .query_if("ps_args", &parsed.args[1..].join(" "));
    let top: ContainerTop = request.fetch().await?;
    let lines: Vec<String> = std::iter::once(&top.titles)
        .chain(&top.processes)
        .map(|cells| cells.join("\t"))
        .collect();
    out!("{}", align(&lines, Layout::PROCESSES));
    Ok(0)
}
