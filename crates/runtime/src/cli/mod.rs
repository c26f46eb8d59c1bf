//! The runc-compatible command line, as a library function: each command in
//! its own file, all over the same state directory.
//!
//! ```text
//! <root>/<id>/state.json    what exists: pid with start time, bundle, cgroup
//! <root>/<id>/config.json   the configuration it was created with
//! <root>/<id>/start         socket on which init waits, until `start`
//! <root>/<id>/lock          held by a command that changes the container; says what its
//!                           creator began with, should that be killed
//! ```

mod checkpoint;
mod create;
mod criu_flags;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod global;
mod help;
mod kill;
mod list;
mod log;
mod pattern;
mod pause;
mod ps;
mod restore;
mod spec;
mod start;
mod state;
mod store;
mod update;

use crate::{ErrorKind, RuntimeError};
use global::Global;
use std::ffi::OsString;

const SIGPIPE: i32 = 13;

/// The exit code of a command that failed.
const FAILED: i32 = 1;
/// Of an exec that failed, and of a run whose program could not be executed, lest either look like
/// the program's own.
const NO_PROGRAM: i32 = 255;
/// Of a command that there is not.
const NO_COMMAND: i32 = 3;

/// What a command needs beside its own arguments.
struct Call {
    global: Global,
    parser: lexopt::Parser,
}

/// Runs the command line (program name first) and returns its exit code.
///
/// Errors go to stderr, and to the file of `--log`.
#[must_use]
pub fn main_cli(args: Vec<OsString>) -> i32 {
    let mut parser = lexopt::Parser::from_iter(args);
    let mut global = Global::default();
    let outcome = global.parse(&mut parser).and_then(|command| match command {
        Some(command) => {
            let call = Call {
                global: global.clone(),
                parser,
            };
            dispatch(&command, call)
        }
        None => Ok(0),
    });
    // COMPAT: the codes are runc's; docs/compat/oci-runtime.md has the table.
    outcome.unwrap_or_else(|error| {
        log::report(&global, &error);
        FAILED
    })
}

fn dispatch(command: &str, mut call: Call) -> Result<i32, RuntimeError> {
    if let (true, Some(text)) = (help::is_wanted(&mut call.parser), help::text(command)) {
        print!("{text}");
        return Ok(0);
    }
    log::check(&call.global)?;
    if matches!(command, "create" | "run" | "exec") {
        // SECURITY: a copy of this process is inside the container before it
        // executes the program, and again if that is /proc/self/exe.
        wharf_sys::process::reexecute_protected().map_err(|errno| system("protect the runtime's binary", errno))?;
    }
    if matches!(command, "state" | "list" | "ps" | "features" | "events") {
        // Who reads may stop reading, as `grep -q` does; that is no failure of ours.
        wharf_sys::signal::set_default(SIGPIPE);
    }
    match command {
        "create" => create::create(call),
        "start" => start::start(call),
        "run" => create::run(call),
        "state" => state::state(call),
        "kill" => kill::kill(call),
        "delete" => delete::delete(call),
        "exec" => exec::exec(call),
        "checkpoint" => checkpoint::checkpoint(call),
        "restore" => restore::restore(call),
        "events" => events::events(call),
        "list" => list::list(call),
        "ps" => ps::ps(call),
        "pause" => pause::pause(call),
        "resume" => pause::resume(call),
        "update" => update::update(call),
        "spec" => spec::spec(call),
        "features" => features::features(call),
        other => {
            // COMPAT: runc's words.
            let text = format!("No help topic for '{other}': it is no command, see --help");
            log::report(&call.global, &usage(text));
            Ok(NO_COMMAND)
        }
    }
}

/// The command line is wrong.
fn usage(message: impl Into<String>) -> RuntimeError {
    RuntimeError::new(ErrorKind::Invalid, "command line", message)
}

/// An argument that lexopt could not give out.
fn argument(error: lexopt::Error) -> RuntimeError {
    usage(error.to_string())
}

/// Text of an argument's value.
fn text(value: OsString) -> Result<String, RuntimeError> {
    value
        .into_string()
        .map_err(|value| usage(format!("{} is not UTF-8", value.display())))
}

impl Call {
    /// For commands that take an id and nothing else.
    fn only_id(mut self) -> Result<(Global, String), RuntimeError> {
        let mut id = None;
        while let Some(arg) = self.parser.next().map_err(argument)? {
            match arg {
                lexopt::Arg::Value(value) if id.is_none() => id = Some(text(value)?),
                other => return Err(argument(other.unexpected())),
            }
        }
        Ok((self.global, required_id(id)?))
    }
}

fn required_id(id: Option<String>) -> Result<String, RuntimeError> {
    id.ok_or_else(|| usage("a container id is missing"))
}

/// A failed call of the operating system by a command.
fn system(what: impl Into<String>, errno: rustix::io::Errno) -> RuntimeError {
    RuntimeError::system("command", what, errno)
}

/// A failed operation of the standard library by a command.
fn failed(what: impl Into<String>, error: &std::io::Error) -> RuntimeError {
    match error.raw_os_error() {
        Some(errno) => system(what, rustix::io::Errno::from_raw_os_error(errno)),
        None => RuntimeError::new(ErrorKind::System, "command", format!("{}: {error}", what.into())),
    }
}
