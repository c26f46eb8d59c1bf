//! `wharf daemon`: the engine in this process.

use std::path::PathBuf;

use wharf_daemon::Options;

use crate::error::{CliError, Outcome};
use crate::flags::{self, Flag, FlagError, Parsed};
use crate::help;

const FLAGS: &[Flag] = &[
    Flag::string("config", "Configuration file").default("\"/etc/wharf/config.toml\""),
    Flag::list("host", "Address to listen on, unix:///PATH, tcp://HOST:PORT or fd://").short('H'),
    Flag::list(
        "insecure-registry",
        "Registry that may be spoken to without TLS (HOST[:PORT] or CIDR)",
    ),
    Flag::string("instance", "Name of what this engine makes in the kernel").default("\"wharf\""),
    Flag::string("log-level", "Least severe messages to log")
        .short('l')
        .default("\"info\""),
    Flag::string("root", "Directory of data that outlives a boot").default("\"/var/lib/wharf\""),
    Flag::string("run", "Directory of sockets and state").default("\"/run/wharf\""),
    Flag::string("shim", "The wharf-shim program, beside this one unless said"),
];

/// Runs the engine in the foreground.
pub fn call(program: &str, arguments: Vec<String>, globals: &Parsed) -> Outcome {
    let parsed = match flags::parse(FLAGS.iter().collect(), arguments, false) {
        Ok(parsed) => parsed,
        Err(FlagError::Help) => {
            let width = 80;
            print!(
                "Usage:  {program} daemon [OPTIONS]\n\nRun the engine in the foreground\n\nOptions:\n{}",
                help::options(FLAGS.iter().collect(), width)
            );
            return Ok(0);
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(extra) = parsed.args.first() {
        return Err(CliError::message(format!(
            "'{program} daemon' accepts no arguments, but was given {extra:?}"
        )));
    }
    let mut options = options(&parsed);
    if options.hosts.is_empty() {
        options.hosts = globals.all("host");
    }
    match wharf_daemon::main(options) {
        Ok(()) => Ok(0),
        Err(error) => Err(CliError::message(describe(&error))),
    }
}

fn options(parsed: &Parsed) -> Options {
    let path = |name: &str| parsed.last(name).map(PathBuf::from);
    Options {
        config: path("config"),
        root: path("root"),
        run: path("run"),
        instance: parsed.last("instance").map(str::to_owned),
        hosts: parsed.all("host"),
        insecure_registries: parsed.all("insecure-registry"),
        shim: path("shim"),
        log_level: parsed.last("log-level").map(str::to_owned),
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
