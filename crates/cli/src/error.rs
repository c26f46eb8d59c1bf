//! What ends a command without success.

use std::error::Error as _;
use std::io;

use wharf_api::client::{ClientError, EndpointError};

use crate::flags::FlagError;

/// Why a command failed, and with which exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The engine refused, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line is wrong: exit code 125, as Docker has it.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// The address of the engine is wrong.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Anything else, in words.
    #[error("{0}")]
    Message(String),
    /// Words, and an exit code that is not 1.
    #[error("{message}")]
    Coded {
        /// What happened.
        message: String,
        /// The exit code.
        code: i32,
    },
    /// A file or stream of this machine.
    #[error("{action}")]
    Io {
        /// What was being done to what.
        action: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What a command returns: the exit code.
pub(crate) type Outcome = Result<i32, CliError>;

impl CliError {
    /// An error in words.
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// For `map_err`: an error of the system while doing `action`.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// The exit code.
    #[must_use]
    pub(crate) fn exit_code(&self) -> i32 {
        match self {
            Self::Flag(_) => 125,
            Self::Coded { code, .. } => *code,
            _ => 1,
        }
    }

    /// The text with its causes.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let words = error
                .downcast_ref::<io::Error>()
                .map_or_else(|| error.to_string(), system_words);
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = error.source();
        }
        text
    }
}

/// The system's words without its number, in lower case, as Go prints them.
pub(crate) fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match error.raw_os_error() {
        Some(_) => text.to_lowercase(),
        None => text.to_owned(),
    }
}

/// Collects the errors of several objects handled in one call: each is printed at the end, and
/// the exit code is 1.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<String>);

impl Failures {
    /// Notes an error.
    pub(crate) fn add(&mut self, error: &CliError) {
        self.0.push(error.describe());
    }

    /// Success, or all the errors together.
    pub(crate) fn outcome(self) -> Outcome {
        if self.0.is_empty() {
            Ok(0)
        } else {
            Err(CliError::Message(self.0.join("\n")))
        }
    }
}
