//! Requests: put together, sent, and sent again in an older version where the engine is older.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;

use super::{Client, ClientError, Hijacked, Response};
use crate::{ApiVersion, Filters};

/// The body of a request.
pub enum Body {
    /// None.
    Empty,
    /// Bytes that can be sent again.
    Bytes(Bytes),
    /// Bytes as they come, in chunks.
    Stream(UnsyncBoxBody<Bytes, io::Error>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl Body {
    /// A body from a stream of pieces.
    pub fn stream<S>(pieces: S) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        Self::Stream(StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync())
    }

    fn boxed(self) -> UnsyncBoxBody<Bytes, io::Error> {
        let never = |never: Infallible| match never {};
        match self {
            Self::Empty => Empty::new().map_err(never).boxed_unsync(),
            Self::Bytes(bytes) => Full::new(bytes).map_err(never).boxed_unsync(),
            Self::Stream(body) => body,
        }
    }

    /// A second copy, `None` for a stream.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream(_) => None,
        }
    }
}

/// A request in the making.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Body,
    versioned: bool,
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, path: String) -> Self {
        Self {
            client,
            method,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            body: Body::Empty,
            versioned: true,
        }
    }

    /// Adds a query parameter.
    pub fn query(mut self, key: &str, value: impl Into<String>) -> Self {
        self.query.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a query parameter unless it is empty.
    pub fn query_if(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.query(key, value) }
    }

    /// Adds `key=1` when `on`.
    pub fn query_flag(self, key: &str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    /// Adds the `filters` parameter unless there are none.
    pub fn filters(self, filters: &Filters) -> Self {
        if filters.is_empty() {
            self
        } else {
            self.query("filters", filters.encode())
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends a JSON document.
    ///
    /// # Panics
    /// Never for wire types, which are all JSON.
    pub fn json<T: Serialize>(mut self, value: &T) -> Self {
        let bytes = serde_json::to_vec(value).expect("invariant: wire types are JSON");
        self.body = Body::Bytes(bytes.into());
        self.header(CONTENT_TYPE.as_str(), "application/json")
    }

    /// Sends any body with its content type.
    pub fn body(mut self, content_type: &str, body: Body) -> Self {
        self.body = body;
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// Leaves the version out of the path.
    pub fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// Sends the request and waits for the answer's head.
    ///
    /// # Errors
    /// [`ClientError::Engine`] for every status from 400 on; the others when nothing was answered.
    pub async fn send(mut self) -> Result<Response, ClientError> {
        if self.versioned && matches!(self.body, Body::Stream(_)) {
            Box::pin(self.client.negotiate()).await?;
        }
        let again = self.body.again();
        let body = std::mem::replace(&mut self.body, Body::Empty);
        let answer = self.exchange(body).await?.checked().await;
        let newest = match &answer {
            Err(ClientError::Engine {
                status: StatusCode::BAD_REQUEST,
                message,
            }) if self.versioned => newest_supported(message),
            _ => None,
        };
        match (newest, again) {
            (Some(version), Some(body)) if version < self.client.version() => {
                self.client.store_version(version);
                self.exchange(body).await?.checked().await
            }
            _ => answer,
        }
    }

    /// Sends the request, expecting no body of interest in the answer.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn finish(self) -> Result<(), ClientError> {
        self.send().await.map(drop)
    }

    /// Sends the request and reads the answer as one JSON document.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the answer is not such a document.
    pub async fn fetch<T: serde::de::DeserializeOwned>(self) -> Result<T, ClientError> {
        self.send().await?.json().await
    }

    /// Sends the request asking for the connection itself, as attach and exec do.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ClientError::NotUpgraded`].
    pub async fn upgrade(self) -> Result<Hijacked, ClientError> {
        let request = self
            .header(CONNECTION.as_str(), "Upgrade")
            .header(UPGRADE.as_str(), "tcp");
        request.send().await?.hijack().await
    }

    async fn exchange(&self, body: Body) -> Result<Response, ClientError> {
        let request = self.assemble(body)?;
        let transport = self
            .client
            .endpoint()
            .connect()
            .await
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::PermissionDenied => ClientError::Forbidden {
                    endpoint: self.client.endpoint().to_string(),
                },
                _ => ClientError::Connect {
                    endpoint: self.client.endpoint().to_string(),
                    source,
                },
            })?;
        let broken = |source| ClientError::Http {
            method: self.method.to_string(),
            path: self.path.clone(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(transport)).await.map_err(broken)?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(broken)?;
        self.client.note_answer(response.status());
        Ok(Response::new(response))
    }

    fn assemble(&self, body: Body) -> Result<Request<UnsyncBoxBody<Bytes, io::Error>>, ClientError> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.target())
            .header(HOST, self.client.endpoint().host_header());
        let headers = self.client.headers().iter().chain(&self.headers);
        let mut has_agent = false;
        for (name, value) in headers {
            has_agent |= name.eq_ignore_ascii_case(USER_AGENT.as_str());
            request = request.header(name, value);
        }
        if !has_agent {
            request = request.header(
                USER_AGENT,
                concat!("Wharf-Client/", env!("CARGO_PKG_VERSION"), " (linux)"),
            );
        }
        if matches!(body, Body::Empty) && self.method == Method::POST {
            request = request.header(CONTENT_LENGTH, "0");
        }
        request.body(body.boxed()).map_err(|source| ClientError::Request {
            path: self.path.clone(),
            source,
        })
    }

    /// Path and query. Without a scheme and authority, as engines expect it.
    fn target(&self) -> String {
        let mut target = String::with_capacity(64);
        if self.versioned {
            target.push_str(&format!("/v{}", self.client.version()));
        }
        target.push_str(&self.path);
        if !self.query.is_empty() {
            target.push('?');
            let start = target.len();
            let mut query = form_urlencoded::Serializer::for_suffix(target, start);
            query.extend_pairs(&self.query);
            target = query.finish();
        }
        target
    }
}

impl Client {
    /// An answer that is no refusal settles the version.
    fn note_answer(&self, status: StatusCode) {
        if status != StatusCode::BAD_REQUEST {
            self.settle();
        }
    }
}

/// The version that an engine offers when ours is too new for it.
fn newest_supported(message: &str) -> Option<ApiVersion> {
    if !message.contains("is too new") {
        return None;
    }
    let (_, version) = message.rsplit_once("API version is ")?;
    version.trim().trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offered_version_is_read_from_the_refusal() {
        let refusal = "client version 1.51 is too new. Maximum supported API version is 1.41";
        assert_eq!(newest_supported(refusal), Some(ApiVersion::new(1, 41)));
        assert_eq!(newest_supported("bad parameter"), None);
    }

    #[test]
    fn targets_are_escaped() {
        let client = Client::new("unix:///x".parse().unwrap());
        let request = client
            .get("/images/a/json")
            .query("f", r#"{"a b":1}"#)
            .query("t", "x&y");
        assert_eq!(request.target(), "/v1.51/images/a/json?f=%7B%22a+b%22%3A1%7D&t=x%26y");
        assert_eq!(client.get("/_ping").unversioned().target(), "/_ping");
    }
}
