//! Replies: status, headers and a body that is either whole or a stream.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;

use super::Failure;
use super::body::{Body, Takeover};

/// The media type of every JSON answer. COMPAT: exactly this; the docker CLI compares the string.
pub(crate) const JSON: &str = "application/json";
/// Framed output of a container without a terminal, since API 1.42.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Unframed output, and everything before API 1.42.
pub(crate) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Archives.
pub(crate) const TAR: &str = "application/x-tar";

/// An answer to one request.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// What follows the headers.
pub(crate) enum Content {
    /// A body that HTTP delimits.
    Body(Body),
    /// The connection itself: the socket leaves HTTP.
    Takeover(Takeover),
}

impl Reply {
    /// An answer without a body. COMPAT: Go sends `Content-Length: 0` except for 204 and 304.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            content: Content::Body(Body::empty()),
        }
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// 200 with a JSON document.
    pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        Self::json_with(StatusCode::OK, value)
    }

    /// A JSON document, ended by a newline as Go's encoder does.
    pub(crate) fn json_with<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Self, Failure> {
        let mut text = serde_json::to_vec(value)
            .map_err(|error| Failure::internal(format!("cannot encode the answer: {error}")))?;
        text.push(b'\n');
        Ok(Self::whole(status, JSON, text))
    }

    /// A body that is complete.
    pub(crate) fn whole(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::empty(status)
            .with_body(Body::whole(body.into()))
            .with_header(CONTENT_TYPE, HeaderValue::from_static(media_type))
    }

    /// 200 whose headers go out at once and whose body follows in pieces.
    pub(crate) fn stream(media_type: Option<&'static str>, body: Body) -> Self {
        let reply = Self::empty(StatusCode::OK).with_body(body);
        match media_type {
            Some(text) => reply.with_header(CONTENT_TYPE, HeaderValue::from_static(text)),
            None => reply,
        }
    }

    /// The connection leaves HTTP; `takeover` writes whatever head it wants.
    pub(crate) fn takeover(takeover: Takeover) -> Self {
        Self {
            content: Content::Takeover(takeover),
            ..Self::empty(StatusCode::SWITCHING_PROTOCOLS)
        }
    }

    /// Replaces the body.
    pub(crate) fn with_body(mut self, body: Body) -> Self {
        self.content = Content::Body(body);
        self
    }

    /// Adds or replaces a header.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a header whose value is computed; a value that cannot be a header is dropped with a log line.
    pub(crate) fn with_text_header(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with_header(name, value),
            Err(_) => {
                tracing::warn!(header = %name, "a header value holds control characters and is left out");
                self
            }
        }
    }
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        if failure.status == StatusCode::NOT_MODIFIED {
            return Self::empty(failure.status);
        }
        let mut text = serde_json::to_vec(&Message {
            message: &failure.message,
        })
        .expect("invariant: a string always encodes");
        text.push(b'\n');
        Self::whole(failure.status, JSON, text)
    }
}
