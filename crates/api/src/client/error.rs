//! What can go wrong between a client and an engine.

use std::io;

use hyper::StatusCode;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection to the engine.
    #[error("cannot connect to the engine at {endpoint}")]
    Connect {
        /// The engine's address.
        endpoint: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The socket is there, but not for this user.
    #[error(
        "permission denied while connecting to the engine at {endpoint}: ask the owner of the socket for access, \
         or run as the user of the engine"
    )]
    Forbidden {
        /// The engine's address.
        endpoint: String,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("error during connect: {method} {path}")]
    Http {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// What broke.
        #[source]
        source: hyper::Error,
    },
    /// The engine refused the request.
    #[error("Error response from daemon: {message}")]
    Engine {
        /// The HTTP status.
        status: StatusCode,
        /// The engine's own words.
        message: String,
    },
    /// The answer's body broke off.
    #[error("error reading the answer of the engine")]
    Body(#[source] hyper::Error),
    /// The answer is not the JSON it should be.
    #[error("error reading the answer of the engine as JSON")]
    Json(#[source] serde_json::Error),
    /// The engine answered a request for a stream with something else.
    #[error("unable to upgrade to tcp, received {status}")]
    NotUpgraded {
        /// The status received instead of 101.
        status: u16,
    },
    /// The request could not be put together.
    #[error("invalid request {path}")]
    Request {
        /// The request's path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: hyper::http::Error,
    },
}

impl ClientError {
    /// The status of an answer that was an error.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Engine { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// True when the engine knows no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// The engine's own words, where it answered.
    #[must_use]
    pub fn engine_message(&self) -> Option<&str> {
        match self {
            Self::Engine { message, .. } => Some(message),
            _ => None,
        }
    }
}
