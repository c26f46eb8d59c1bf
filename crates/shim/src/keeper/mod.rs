//! The keeper of an instance's networks: names and loopback ports.
//!
//! One process per instance (`wharf-shim keeper --instance NAME --directory DIR`,
//! its listening control socket as standard input), single-threaded, that goes
//! on while engines come and go. It owns sockets and nothing else: the 127.0.0.11
//! sockets of every namespace with a name service, and the sockets that hold the
//! published ports. What it answers and where it leads is a table that the
//! engine hands to it ([`control`]); a new engine asks what it holds and sends
//! the rest. It ends by itself when there is nothing left to hold.
//!
//! ```text
//! container --UDP/TCP 127.0.0.11:53--> resolver --> names (the table)
//!                                          \--> forward --> upstream, from the
//!                                                container's namespace or the host's
//! host process --127.0.0.1:8080--> tcp / udp --> container address
//! ```
//!
//! Reading order: [`names`] and [`dns`] (pure), [`control`], [`reactor`],
//! [`resolver`], [`forward`], [`tcp`], [`udp`].

pub mod dns;
pub mod names;

mod control;
mod forward;
mod reactor;
mod resolver;
mod tcp;
mod udp;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The role's `main`; `args` are those behind `keeper`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(directory) = parse_arguments(args) else {
        eprintln!("usage: wharf-shim keeper --instance NAME --directory DIR (control socket as standard input)");
        return ExitCode::from(64);
    };
    raise_file_limit();
    let result = reactor::Reactor::open(&directory).and_then(|mut reactor| reactor.run());
    remove_traces(&directory);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wharf-shim keeper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse_arguments(args: impl IntoIterator<Item = OsString>) -> Option<PathBuf> {
    let mut args = args.into_iter();
    let mut directory = None;
    while let Some(flag) = args.next() {
        let value = args.next()?;
        match flag.to_str()? {
            // Stands on the command line so that the process can be found by it.
            "--instance" => {}
            "--directory" => directory = Some(PathBuf::from(value)),
            _ => return None,
        }
    }
    directory
}

/// As many sockets as the system lets us have.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it there are fewer connections at a time, no more.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn remove_traces(directory: &Path) {
    for name in ["log", "sock", "pid"] {
        // Removed by the engine or a reset already: the same to us.
        let _ = std::fs::remove_file(directory.join(name));
    }
}
