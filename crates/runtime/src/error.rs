//! What goes wrong, as data that crosses processes: the step, the chain of
//! causes and the errno, plus a closed kind from which exit codes follow.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What sort of failure; callers choose exit codes and status from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The program does not exist (exit code 127).
    CommandNotFound,
    /// The program exists but cannot be executed (exit code 126).
    CommandNotExecutable,
    /// The request is wrong: a field of the configuration, a user name.
    Invalid,
    /// There is no such container.
    NotFound,
    /// The container is in the wrong state.
    Conflict,
    /// The kernel refused.
    System,
}

/// A failed operation of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeError {
    /// What sort of failure.
    pub kind: ErrorKind,
    /// The step that failed, such as `mount /proc`.
    pub step: String,
    /// What failed on what, followed by its causes.
    pub chain: Vec<String>,
    /// The errno at the bottom, if the kernel gave one.
    pub errno: Option<i32>,
}

impl RuntimeError {
    /// An error of this kind, in this step.
    #[must_use]
    pub fn new(kind: ErrorKind, step: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            step: step.into(),
            chain: vec![message.into()],
            errno: None,
        }
    }

    /// The request is wrong.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, field, message)
    }

    /// The kernel refused `what` with this errno.
    #[must_use]
    pub fn system(step: impl Into<String>, what: impl Into<String>, errno: rustix::io::Errno) -> Self {
        let mut error = Self::new(ErrorKind::System, step, what);
        error.errno = Some(errno.raw_os_error());
        error.chain.push(errno_text(errno.raw_os_error()));
        error
    }

    /// The chain of causes on one line.
    #[must_use]
    pub fn message(&self) -> String {
        self.chain.join(": ")
    }

    /// The exit code that a command line reports for it, as Docker does.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            ErrorKind::CommandNotFound => 127,
            ErrorKind::CommandNotExecutable => 126,
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::System => 125,
        }
    }

    /// The same error with no part too long for a message between processes:
    /// names out of a configuration may have any length.
    #[must_use]
    pub(crate) fn shortened(&self) -> Self {
        const LONGEST: usize = 4096;
        let mut error = self.clone();
        for part in error.chain.iter_mut().filter(|part| part.len() > LONGEST) {
            part.truncate(part.floor_char_boundary(LONGEST));
            part.push_str("...");
        }
        error
    }

    /// The same error, said to have happened while doing `what`.
    #[must_use]
    pub fn context(mut self, what: impl Into<String>) -> Self {
        self.chain.insert(0, what.into());
        self
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for RuntimeError {}

/// The text of an errno as the C library and Docker print it: lower case,
/// without the number.
#[must_use]
pub fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match (letters.next(), letters.as_str()) {
        (Some(first), rest) if rest.chars().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().collect::<String>() + rest
        }
        _ => text.to_owned(),
    }
}
