//! Failures as clients see them: a status and one message.

use hyper::StatusCode;
use wharf_engine::{Error, ErrorKind};

/// Why a request was not served. Becomes `{"message":"..."}` with its status.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The text that clients print, and sometimes match on.
    pub(crate) message: String,
}

impl Failure {
    /// A failure with an explicit status.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// 400: the client's mistake.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 500: ours.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// What an unknown route, or a known one under another method, answers.
    pub(crate) fn page_not_found() -> Self {
        Self::not_found("page not found")
    }
}

/// The one place where the engine's closed error kinds become HTTP statuses.
fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = status_of(error.kind());
        if error.kind() == ErrorKind::Internal {
            return Self::new(status, plain_words(&error.chain()));
        }
        tracing::debug!(chain = error.chain(), "refused");
        Self::new(status, plain_words(error.message()))
    }
}

/// COMPAT: system errors in Docker's spelling: the docker CLI chooses exit codes by `no such file or directory` and
/// `permission denied`.
fn plain_words(text: &str) -> String {
    const MARK: &str = " (os error ";
    let mut words = text.to_owned();
    while let Some(at) = words.find(MARK) {
        let after = &words[at + MARK.len()..];
        let Some((number, _)) = after.split_once(')') else {
            break;
        };
        let end = at + MARK.len() + number.len() + 1;
        let full = number
            .parse()
            .map(|n| std::io::Error::from_raw_os_error(n).to_string())
            .unwrap_or_default();
        let known = full.len().checked_sub(end - at).map_or("", |length| &full[..length]);
        let start = match words[..at].strip_suffix(known) {
            Some(before) => before.len(),
            None => at,
        };
        let lower = words[start..at].to_lowercase();
        words.replace_range(start..end, &lower);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::plain_words;

    #[test]
    fn system_errors_are_spelled_as_docker_spells_them() {
        let cases = [
            (
                "mount /x: No such file or directory (os error 2)",
                "mount /x: no such file or directory",
            ),
            ("a: Permission denied (os error 13): b", "a: permission denied: b"),
            ("No such container: x", "No such container: x"),
            ("odd (os error x", "odd (os error x"),
            ("odd (os error )", "odd"),
            ("odd (os error 2)", "odd"),
        ];
        for (given, expected) in cases {
            assert_eq!(plain_words(given), expected);
        }
    }
}
