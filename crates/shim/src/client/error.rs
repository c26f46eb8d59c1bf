//! What can fail between engine and shim.

use std::io;
use std::path::PathBuf;

use crate::protocol::Fault;

/// Why a call to a shim failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The shim answered with a reason.
    #[error("{0}")]
    Fault(Fault),
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

impl CallError {
    /// The shim's own reason, if it gave one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }
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
    Create(Fault),
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
