//! The shim process: one thread, one loop.
//!
//! ```text
//! launch     leave the engine, take the plan, create the container, answer
//! shim       the state, the loop, timers
//!   calls      what engines ask for           connection  bytes to messages
//!   streams    processes <-> log and clients  process     one process and its streams
//!   attach     clients come and go            client      one client, framed and bounded
//!   reap       ends, in the right order       home        files in <run>/shims/<id>
//!   logs       the container's log: its files, their compression, its target
//!   pace       pauses of a flood of output
//! view       files of /proc that tell the container its limits
//! container  our runtime in-process, or a foreign one (foreign, foreign_bundle),
//!   or another's shim (foreign_shim, task_client)
//! ```
//!
//! Nothing here waits for a client, an engine or a container: only for the disk (log, exit record)
//! and for the kernel's own operations, which have deadlines; a flood of output pauses for moments.

mod attach;
mod calls;
mod client;
mod connection;
mod container;
mod foreign;
mod foreign_bundle;
mod foreign_shim;
mod home;
mod launch;
mod logs;
mod pace;
mod process;
mod reactor;
mod reap;
mod shim;
mod stdio;
mod streams;
mod task_client;
mod view;

pub(crate) use container::{chain_fault, read_spec};
pub use launch::run;
