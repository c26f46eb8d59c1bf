//! `wharf daemon`: the engine in this process.

use wharf_daemon::{Options, USAGE, with_causes};

use crate::error::{CliError, Outcome};
use crate::flags::Parsed;

/// Runs the engine in the foreground.
pub(crate) fn call(arguments: Vec<String>, globals: &Parsed) -> Outcome {
    let parsed = Options::parse(arguments).map_err(|error| CliError::message(with_causes(&error)))?;
    let Some(mut options) = parsed else {
        out!("{USAGE}");
        return Ok(0);
    };
    if options.hosts.is_empty() {
        options.hosts = globals.all("host");
    }
    match wharf_daemon::main(options) {
        Ok(()) => Ok(0),
        Err(error) => Err(CliError::message(with_causes(&error))),
    }
}
