//! The engine's side: start a shim, talk to it, hear from it.
//!
//! Calls may be made concurrently on one client (it is cheap to clone); each has a deadline. Events
//! end when the connection does: the shim is gone, or it must be reconnected to.

#![allow(clippy::todo, unused_variables, clippy::unused_async)]

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf_cgroup::Resources;

use crate::plan::{AttachSpec, ConsoleSize, ExecPlan, LaunchPlan};
use crate::protocol::{Event, ExitRecord, Fault, State};

/// How shims are started.
#[derive(Clone, Debug)]
pub struct ShimLauncher {
    /// The `wharf-shim` executable.
    pub binary: PathBuf,
    /// Longest time a launch may take.
    pub deadline: Duration,
}

/// A shim whose container is created and waits for [`ShimClient::start`].
#[derive(Debug)]
pub struct Launched {
    /// To talk to it.
    pub client: ShimClient,
    /// To hear from it.
    pub events: EventStream,
    /// The container's first process.
    pub pid: u32,
    /// Its start time in clock ticks.
    pub start_ticks: u64,
}

/// A process was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its id on the host.
    pub pid: u32,
    /// Its start time in clock ticks.
    pub start_ticks: u64,
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
}

/// Why a call to a shim failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The shim answered with a reason.
    #[error("{0}")]
    Fault(#[source] Fault),
    /// No answer in time; what was asked may still happen.
    #[error("shim did not answer {call} within {waited_ms} ms")]
    Deadline {
        /// The call.
        call: &'static str,
        /// How long was waited.
        waited_ms: u64,
    },
    /// The connection is gone.
    #[error("connection to the shim at {dir} is closed")]
    Closed {
        /// The shim's directory.
        dir: PathBuf,
    },
    /// No shim answers there.
    #[error("cannot connect to the shim at {dir}")]
    Connect {
        /// The shim's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The message could not be sent.
    #[error("cannot send {call} to the shim at {dir}")]
    Send {
        /// The call.
        call: &'static str,
        /// The shim's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer was of another kind than asked for.
    #[error("shim answered {call} with something else")]
    Unexpected {
        /// The call.
        call: &'static str,
    },
}

/// Why a shim could not be launched. Nothing is left behind: the shim has ended and cleaned up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// Preparing or spawning failed.
    #[error("cannot {action} for the shim at {dir}")]
    Spawn {
        /// What was done.
        action: &'static str,
        /// The shim's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The shim ran and could not create the container.
    #[error("{0}")]
    Create(#[source] Fault),
    /// The shim died or fell silent.
    #[error("shim at {dir} ended before the container was created: {detail}")]
    Died {
        /// The shim's directory.
        dir: PathBuf,
        /// What it wrote before.
        detail: String,
    },
    /// No answer in time; the shim was killed.
    #[error("shim at {dir} did not create the container within {waited_ms} ms")]
    Deadline {
        /// The shim's directory.
        dir: PathBuf,
        /// How long was waited.
        waited_ms: u64,
    },
}

/// A connection to one shim.
#[derive(Clone, Debug)]
pub struct ShimClient {}

/// What a shim reports, in order.
#[derive(Debug)]
pub struct EventStream {}

impl EventStream {
    /// The next event; `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        todo!()
    }
}

impl ShimLauncher {
    /// Starts a shim in `dir` (made if absent), has it create the container and returns with the
    /// container's init waiting. The clients in `attaches` are attached before any byte can flow.
    pub async fn launch(
        &self,
        dir: &Path,
        plan: &LaunchPlan,
        attaches: Vec<(AttachSpec, OwnedFd)>,
    ) -> Result<Launched, LaunchError> {
        todo!()
    }
}

/// Connects to the shim that keeps `dir`.
///
/// # Errors
/// [`CallError::Connect`] if nothing listens there; look for [`read_exit`] then.
pub async fn connect(dir: &Path) -> Result<(ShimClient, EventStream), CallError> {
    todo!()
}

/// The exit record a shim left in `dir`, whether it still lives or not.
pub fn read_exit(dir: &Path) -> Option<ExitRecord> {
    todo!()
}

/// The exit record of an exec that a shim left in `dir`.
pub fn read_exec_exit(dir: &Path, exec: &str) -> Option<ExitRecord> {
    todo!()
}

/// Process id of the shim that keeps `dir`, if that very process still lives.
pub fn shim_pid(dir: &Path) -> Option<u32> {
    todo!()
}

impl ShimClient {
    /// How things stand.
    pub async fn state(&self) -> Result<State, CallError> {
        todo!()
    }

    /// Lets the created process run; answers once exec has succeeded.
    ///
    /// # Errors
    /// [`CallError::Fault`] with the reason if the command could not be executed; an `Exited` event
    /// follows in that case too.
    pub async fn start(&self) -> Result<Started, CallError> {
        todo!()
    }

    /// Signals the container's first process.
    pub async fn kill(&self, signal: i32) -> Result<(), CallError> {
        todo!()
    }

    /// Signals every process of the container.
    pub async fn kill_all(&self, signal: i32) -> Result<(), CallError> {
        todo!()
    }

    /// Hands over a client's connection.
    pub async fn attach(&self, spec: AttachSpec, client: OwnedFd) -> Result<(), CallError> {
        todo!()
    }

    /// Sets the size of the container's terminal.
    pub async fn resize(&self, size: ConsoleSize) -> Result<(), CallError> {
        todo!()
    }

    /// Closes the container's standard input.
    pub async fn close_stdin(&self) -> Result<(), CallError> {
        todo!()
    }

    /// Runs a further process. The descriptors are only used on success, so a caller that wants to
    /// tell the client about a failure keeps a duplicate.
    pub async fn exec(&self, plan: ExecPlan, attaches: Vec<(AttachSpec, OwnedFd)>) -> Result<Started, CallError> {
        todo!()
    }

    /// Signals an exec.
    pub async fn exec_kill(&self, exec: &str, signal: i32) -> Result<(), CallError> {
        todo!()
    }

    /// Sets the size of an exec's terminal.
    pub async fn exec_resize(&self, exec: &str, size: ConsoleSize) -> Result<(), CallError> {
        todo!()
    }

    /// Hands over a connection to an exec that runs already.
    pub async fn exec_attach(&self, exec: &str, spec: AttachSpec, client: OwnedFd) -> Result<(), CallError> {
        todo!()
    }

    /// The exit of an exec was taken; its file is removed.
    pub async fn acknowledge_exec(&self, exec: &str) -> Result<(), CallError> {
        todo!()
    }

    /// Freezes the container.
    pub async fn pause(&self) -> Result<(), CallError> {
        todo!()
    }

    /// Thaws the container.
    pub async fn resume(&self) -> Result<(), CallError> {
        todo!()
    }

    /// Changes limits of the running container.
    pub async fn update(&self, resources: Resources) -> Result<(), CallError> {
        todo!()
    }

    /// The exit was taken: the shim removes its directory and ends.
    pub async fn acknowledge_exit(&self) -> Result<(), CallError> {
        todo!()
    }

    /// Kills the container if it lives, then as [`ShimClient::acknowledge_exit`]; for a created
    /// container that shall never start, and for cleaning up.
    pub async fn destroy(&self) -> Result<(), CallError> {
        todo!()
    }
}
