//! What can go wrong in a build, in Docker's words, with the kind that decides the status code.

use std::error::Error as StdError;
use std::fmt;

/// The closed set of causes; the engine maps them to its own kinds one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request or the Dockerfile is wrong: the user must change it.
    InvalidArgument,
    /// A named thing (base image, file of the context) does not exist.
    NotFound,
    /// Asked for in correct words, but not offered by this builder.
    Unimplemented,
    /// A `RUN` step ended with a non-zero code, see [`BuildError::exit_code`].
    StepFailed,
    /// The client went away or asked to stop.
    Cancelled,
    /// The registry or another outside service could not be used.
    Unavailable,
    /// Access to a base image was refused.
    Unauthorized,
    /// The machine failed: disk, kernel, store.
    Internal,
}

/// A failed build. `Display` is the text that clients show (Docker's wording where it has one).
pub struct BuildError {
    kind: ErrorKind,
    message: String,
    line: Option<usize>,
    exit_code: Option<i64>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl BuildError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            line: None,
            exit_code: None,
            source: None,
        }
    }

    /// Shorthand for [`ErrorKind::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Shorthand for [`ErrorKind::Unimplemented`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, message)
    }

    /// Shorthand for [`ErrorKind::Internal`] with its cause.
    pub fn internal(message: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::new(ErrorKind::Internal, message).with_source(source)
    }

    /// The same error, caused by `source`.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The same error, placed on a line of the Dockerfile (counted from 1) unless it has a place.
    #[must_use]
    pub fn on_line(mut self, line: usize) -> Self {
        self.line.get_or_insert(line);
        self
    }

    /// A `RUN` step's failure, as Docker words it.
    pub fn step_failed(command: &str, code: i64) -> Self {
        let message = format!("The command '{command}' returned a non-zero code: {code}");
        Self {
            exit_code: Some(code),
            ..Self::new(ErrorKind::StepFailed, message)
        }
    }

    /// The same error with the reason after its message.
    #[must_use]
    pub(crate) fn because(mut self, reason: &str) -> Self {
        self.message = format!("{}: {reason}", self.message);
        self
    }

    /// Why it failed, as a closed kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The line of the Dockerfile at fault, when it is a mistake of syntax.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The exit code of a failed `RUN`; goes to `errorDetail.code`.
    pub fn exit_code(&self) -> Option<i64> {
        self.exit_code
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "dockerfile parse error on line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        match &self.source {
            Some(source) => write!(f, " (caused by: {source})"),
            None => Ok(()),
        }
    }
}

impl StdError for BuildError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}
