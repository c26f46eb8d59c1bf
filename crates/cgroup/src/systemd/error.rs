//! What can fail between us and systemd.

use std::io;

/// A failed conversation with systemd.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// There is no systemd, or its socket cannot be found.
    #[error("systemd is not running here: {why}")]
    Absent {
        /// What was looked for.
        why: String,
    },
    /// No socket of it took a connection.
    #[error("cannot connect to systemd at {address}")]
    Connect {
        /// The last address tried.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other end does not let us in.
    #[error("the bus at {address} refused us: {answer:?}")]
    Authentication {
        /// The address.
        address: String,
        /// What it answered.
        answer: String,
    },
    /// Sending or receiving failed.
    #[error("cannot {action} the bus")]
    Transfer {
        /// `write to` or `read from`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What came is no D-Bus message.
    #[error("the bus sent a malformed message: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A call was answered with an error.
    #[error("{method} failed: {message} ({name})")]
    Refused {
        /// The method.
        method: &'static str,
        /// Name of the error, such as `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// Its text.
        message: String,
    },
    /// A job ended otherwise than done.
    #[error("systemd could not {action} unit {unit}: job {result}")]
    Job {
        /// `start` or `stop`.
        action: &'static str,
        /// The unit.
        unit: String,
        /// systemd's word for the outcome.
        result: String,
    },
    /// No answer came in time.
    #[error("no answer to {method} within {waited_s} s")]
    Deadline {
        /// The method waited for.
        method: &'static str,
        /// How long was waited.
        waited_s: u64,
    },
    /// A name or value cannot be given to systemd.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field of the configuration.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

impl SystemdError {
    /// Whether the call was answered with this error of systemd's own.
    pub(crate) fn is_named(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.strip_prefix("org.freedesktop.systemd1.") == Some(wanted))
    }
}
