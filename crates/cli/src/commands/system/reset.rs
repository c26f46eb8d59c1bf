//! `wharf system reset`: everything of one instance is removed, with or without its engine.

use std::path::PathBuf;

use wharf_daemon::{Options, with_causes};

use crate::commands::pruning;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    pruning::FORCE,
    Flag::string("instance", "Name of the instance").default("\"wharf\""),
    Flag::string("root", "Its data directory").default("\"/var/lib/wharf\""),
    Flag::string("run", "Its run directory").default("\"/run/wharf\""),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system reset"],
    usage: "[OPTIONS]",
    about: "Remove everything that an engine owns, in the kernel and on disk",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(_session: &Session, parsed: &Parsed) -> Outcome {
    let root = parsed.last("root").unwrap_or("/var/lib/wharf");
    let run = parsed.last("run").unwrap_or("/run/wharf");
    let instance = parsed.last("instance").unwrap_or("wharf");
    let warning = format!(
        "WARNING! This will stop and remove every container, image, network and volume of instance \
         {instance:?} (data in {root}, sockets in {run})."
    );
    if !parsed.is_on("force") && !pruning::confirmed(&warning)? {
        return Ok(0);
    }
    let options = Options {
        root: Some(PathBuf::from(root)),
        run: Some(PathBuf::from(run)),
        instance: Some(instance.to_owned()),
        ..Options::default()
    };
    wharf_daemon::reset(options).map_err(|error| CliError::message(with_causes(&error)))?;
    Ok(0)
}
