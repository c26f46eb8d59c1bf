//! What can go wrong between us and a registry, in the classes that the engine answers with.

use wharf_store::{StoreError, StoreErrorKind};

/// The class of a [`RegistryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryErrorKind {
    /// No such repository, tag, digest or platform there.
    NotFound,
    /// The registry knows us and refuses.
    Forbidden,
    /// The registry wants (other) credentials.
    Unauthorized,
    /// Nobody answers, or too slowly, or asks us to come back later.
    Unavailable,
    /// What the registry sent, or what we were asked for, cannot be used.
    Invalid,
    /// Our own machine failed.
    Internal,
}

/// A failed operation against a registry. COMPAT: the texts are those that Docker's users and clients match on.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such manifest.
    #[error("failed to resolve reference \"{reference}\": {reference}: not found")]
    NotFound {
        /// The reference as asked for, in its canonical form.
        reference: String,
    },
    /// The repository does not exist or is hidden from us. The text is contract: docker-py and compose match on it.
    #[error("pull access denied for {repository}, repository does not exist or may require 'docker login'")]
    Denied {
        /// The repository in its familiar form.
        repository: String,
    },
    /// The registry refuses this push.
    #[error("push access denied for {repository}: {detail}")]
    PushDenied {
        /// The repository in its familiar form.
        repository: String,
        /// What the registry said.
        detail: String,
    },
    /// Wrong or missing credentials.
    #[error("unauthorized: {detail} ({host})")]
    Unauthorized {
        /// The registry.
        host: String,
        /// What it, or its token service, said.
        detail: String,
    },
    /// An index without a manifest for the wanted platform.
    #[error("no matching manifest for {platform} in the manifest list entries: not found")]
    NoPlatform {
        /// The wanted platform.
        platform: String,
    },
    /// No connection, or it broke.
    #[error("failed to do request: {method} \"{url}\": {cause}")]
    Unreachable {
        /// The HTTP method.
        method: &'static str,
        /// The address.
        url: String,
        /// The innermost reason, in the system's words.
        cause: String,
    },
    /// An answer with a status that says no.
    #[error("{method} \"{url}\": unexpected status {status}: {detail}")]
    Status {
        /// The HTTP method.
        method: &'static str,
        /// The address.
        url: String,
        /// The status code.
        status: u16,
        /// The errors in the body, or its beginning.
        detail: String,
    },
    /// The registry asks us to slow down.
    #[error("toomanyrequests: {host}: {detail}")]
    TooManyRequests {
        /// The registry.
        host: String,
        /// What it said.
        detail: String,
    },
    /// An answer that is no valid document.
    #[error("invalid answer from {url}: {reason}")]
    Malformed {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A request that cannot be made: a wrong address or setting.
    #[error("{what}: {reason}")]
    Invalid {
        /// What is wrong.
        what: String,
        /// How.
        reason: String,
    },
    /// The store refused the content or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was received could not be kept.
    #[error("keeping what came from {url}")]
    Write {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A worker of ours ended without an answer.
    #[error("a transfer ended without an answer")]
    Worker(#[source] tokio::task::JoinError),
}

impl RegistryError {
    /// The class of this error.
    pub fn kind(&self) -> RegistryErrorKind {
        match self {
            Self::NotFound { .. } | Self::Denied { .. } | Self::NoPlatform { .. } => RegistryErrorKind::NotFound,
            Self::PushDenied { .. } => RegistryErrorKind::Forbidden,
            Self::Unauthorized { .. } => RegistryErrorKind::Unauthorized,
            Self::Unreachable { .. } | Self::TooManyRequests { .. } => RegistryErrorKind::Unavailable,
            Self::Status { status, .. } if *status >= 500 => RegistryErrorKind::Unavailable,
            Self::Status { .. } | Self::Malformed { .. } | Self::Invalid { .. } => RegistryErrorKind::Invalid,
            Self::Store(error) => match error.kind() {
                StoreErrorKind::NotFound => RegistryErrorKind::NotFound,
                StoreErrorKind::Invalid | StoreErrorKind::Conflict => RegistryErrorKind::Invalid,
                StoreErrorKind::Internal => RegistryErrorKind::Internal,
            },
            Self::Write { .. } | Self::Worker(_) => RegistryErrorKind::Internal,
        }
    }

    /// Whether another attempt may succeed: the transfer broke, nothing said no.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Store(StoreError::Truncated { .. } | StoreError::Source { .. }) => true,
            _ => false,
        }
    }

    pub(crate) fn unreachable(method: &'static str, url: &str, error: &reqwest::Error) -> Self {
        let cause = if error.is_timeout() {
            "deadline exceeded".to_owned()
        } else {
            system_words(&innermost(error).to_string())
        };
        Self::Unreachable {
            method,
            url: url.to_owned(),
            cause,
        }
    }
}

/// `Connection refused (os error 111)` as `connection refused`.
fn system_words(text: &str) -> String {
    let bare = text.split(" (os error").next().unwrap_or(text);
    let mut letters = bare.chars();
    let first = letters.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// The cause that the errors around it are about.
pub(crate) fn innermost(error: &reqwest::Error) -> &dyn std::error::Error {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_docker_prints_them() {
        assert_eq!(system_words("Connection refused (os error 111)"), "connection refused");
        assert_eq!(system_words("operation timed out"), "operation timed out");
    }
}
