//! A shim of containerd: the role of the binary called `containerd-shim-wharf-v2`.
//!
//! ```text
//! containerd                           this process (one per pod, or per container)         container
//!   | exec ... start  (cwd: bundle)      |                                                     |
//!   |----------------------------------->| start: listen, fork; the address on stdout          |
//!   | task service over ttrpc            |                                                     |
//!   |--- Create, Start, Exec, Wait ... ->| serve, task: create in-process --------------------->|
//!   |<-- events (publish) ---------------| reap                                                 x
//!   |--- Delete, Shutdown -------------->| ends
//!   | exec ... delete                    | remove: what a shim that was killed left behind
//! ```
//! The container writes straight into containerd's fifos: nothing is copied but terminals ([`console`]).
//! One thread, one loop around poll(2); the runtime crate makes containers and execs in this process.

mod console;
mod container;
mod invocation;
mod mounts;
mod publish;
mod remove;
mod serve;
mod start;
mod stdio;
mod task;

use std::ffi::OsString;

use invocation::{Invocation, Verb};

/// What containerd knows the shim by.
pub(crate) const NAME: &str = "containerd-shim-wharf-v2";

/// Runs a verb; returns the exit code. Errors go to standard error, which containerd shows.
pub(crate) fn run(args: &[OsString]) -> i32 {
    let done = Invocation::parse(args.get(1..).unwrap_or_default()).and_then(|invocation| match invocation.verb {
        Verb::Start => start::start(&invocation),
        Verb::Delete => remove::delete(&invocation),
        Verb::Version => {
            println!("{NAME}:\n  Version:  {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    });
    match done {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("{NAME}: {message}");
            1
        }
    }
}
