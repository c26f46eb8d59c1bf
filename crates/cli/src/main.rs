//! The `wharf` binary: Docker's command line for the Wharf engine, and the engine itself
//! (`wharf daemon`).
//!
//! ```text
//!   arguments --> flags (global) --> verbs::find --> flags (verb) --> commands/*
//!                                                                      |  wharf_api::client
//!   engine: which one, started when none listens <--- session --------+--> the engine
//! ```
//!
//! Called through a link named `docker`, it speaks of itself as `docker`.

#[macro_use]
mod print;

mod archive;
mod build_context;
mod commands;
mod config;
mod copy_plan;
mod create;
mod daemon;
mod engine;
mod error;
mod flags;
mod format;
mod help;
mod manual;
mod output;
mod progress;
mod pull;
mod reference;
mod session;
mod signals;
mod streams;
mod terminal;
mod times;
mod unpack;
mod upload;
mod verb;
mod verbs;

use std::path::Path;

use error::{CliError, Outcome};
use flags::{FlagError, Parsed};
use session::{GLOBAL_FLAGS, Session};
use verb::Verb;
use verbs::{Found, GROUPS, VERBS};

fn main() {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments
        .next()
        .map_or_else(|| "wharf".to_owned(), |path| program_name(&path));
    let code = match call(&program, arguments.collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", error.describe());
            error.exit_code()
        }
    };
    // A thread may still wait for input that never comes; nothing is left to be done for it.
    std::process::exit(code);
}

fn program_name(path: &str) -> String {
    match Path::new(path).file_name() {
        Some(name) if name == "docker" => "docker".to_owned(),
        _ => "wharf".to_owned(),
    }
}

fn call(program: &str, arguments: Vec<String>) -> Outcome {
    let globals = match flags::parse(GLOBAL_FLAGS.iter().collect(), arguments, true) {
        Ok(globals) => globals,
        Err(FlagError::Help) => {
            out!("{}", help::of_program(program, &GROUPS, VERBS));
            return Ok(0);
        }
        Err(error) => {
            return Err(CliError::Coded {
                message: format!(
                    "{error}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
                ),
                code: 125,
            });
        }
    };
    if globals.is_on("version") {
        outln!("Wharf version {}", env!("CARGO_PKG_VERSION"));
        return Ok(0);
    }
    let words = globals.args.clone();
    match words.first().map(String::as_str) {
        None => {
            eprint!("{}", help::of_program(program, &GROUPS, VERBS));
            return Ok(0);
        }
        Some("help") => return show_help(program, &words[1..]),
        Some("daemon") => return daemon::call(words[1..].to_vec(), &globals),
        // What shims call; not for people.
        Some("log-target") => return Ok(wharf_daemon::log_target(&words[1..])),
        Some(_) => {}
    }
    match verbs::find(&words) {
        Found::Verb(verb, name, count) => call_verb(program, verb, &name, words[count..].to_vec(), globals),
        Found::Group(group, about) => {
            let text = help::of_group(program, group, about, VERBS);
            if words.len() > 1 {
                out!("{text}");
            } else {
                eprint!("{text}");
            }
            Ok(0)
        }
        Found::UnknownInGroup(group) => Err(CliError::message(format!(
            "{program}: unknown command: {program} {group} {}\n\nUsage:  {program} {group}\n\nRun '{program} {group} --help' for more information",
            words[1]
        ))),
        Found::Unknown => Err(CliError::message(format!(
            "{program}: unknown command: {program} {}\n\nRun '{program} --help' for more information",
            words[0]
        ))),
    }
}

/// `wharf help run`.
fn show_help(program: &str, words: &[String]) -> Outcome {
    match verbs::find(words) {
        Found::Verb(verb, name, _) => out!("{}", help::of_verb(program, &name, verb)),
        Found::Group(group, about) => out!("{}", help::of_group(program, group, about, VERBS)),
        _ if words.is_empty() => out!("{}", help::of_program(program, &GROUPS, VERBS)),
        _ => return Err(CliError::message(format!("unknown help topic: {}", words.join(" ")))),
    }
    Ok(0)
}

fn call_verb(program: &str, verb: &'static Verb, name: &str, arguments: Vec<String>, globals: Parsed) -> Outcome {
    let parsed = match flags::parse(verb.all_flags(), arguments, verb.options_first) {
        Ok(parsed) if parsed.is_help() => Err(FlagError::Help),
        other => other,
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(FlagError::Help) => {
            out!("{}", help::of_verb(program, name, verb));
            return Ok(0);
        }
        Err(error) => {
            return Err(CliError::Coded {
                message: format!(
                    "{error}\n\nUsage:  {}\n\nRun '{program} {name} --help' for more information",
                    verb.usage_line(program, name)
                ),
                code: 125,
            });
        }
    };
    verb.check_args(program, name, parsed.args.len())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::io("starting the async runtime"))?;
    let session = Session::new(program.to_owned(), name.to_owned(), globals);
    let outcome = runtime.block_on((verb.run)(&session, &parsed));
    // ORDER: nothing waits for the threads that read standard input.
    runtime.shutdown_background();
    outcome
}
