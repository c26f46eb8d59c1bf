//! `wharf daemon`: the engine in this process.

use wharf_daemon::{Options, USAGE};

use crate::error::{CliError, Outcome};
use crate::flags::Parsed;

/// Runs the engine in the foreground.
pub(crate) fn call(arguments: Vec<String>, globals: &Parsed) -> Outcome {
    let parsed = Options::parse(arguments).map_err(|error| CliError::message(describe(&error)))?;
    let Some(mut options) = parsed else {
        out!("{USAGE}");
        return Ok(0);
    };
    if options.hosts.is_empty() {
        options.hosts = globals.all("host");
    }
    match wharf_daemon::main(options) {
        Ok(()) => Ok(0),
        Err(error) => Err(CliError::message(describe(&error))),
    }
}

/// An error of the daemon with its causes.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
