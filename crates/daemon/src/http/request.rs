//! A request as handlers see it: version, path parameters, query, headers, body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, UPGRADE};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ApiVersion, Failure, Query, json};
use crate::app::App;

/// JSON documents larger than this are refused: no real one comes near.
const JSON_LIMIT: usize = 32 << 20;

/// How much of an unwanted body is taken in before the connection is cut, and for how long.
const DRAIN_LIMIT: usize = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// One request on its way through a handler.
pub(crate) struct Request {
    /// The daemon.
    pub(crate) app: Arc<App>,
    /// The version the client asked for, or the newest.
    pub(crate) version: ApiVersion,
    /// Decoded query.
    pub(crate) query: Query,
    /// Request headers.
    pub(crate) headers: HeaderMap,
    /// Number of this request, in every log line about it.
    pub(crate) id: u64,
    parameters: Vec<(&'static str, String)>,
    body: Option<Incoming>,
}

impl Request {
    /// Assembles what the router and the connection know.
    pub(crate) fn new(
        app: Arc<App>,
        version: ApiVersion,
        query: Query,
        parts: (u64, HeaderMap, Incoming),
        parameters: Vec<(&'static str, String)>,
    ) -> Self {
        let (id, headers, body) = parts;
        Self {
            app,
            version,
            query,
            headers,
            id,
            parameters,
            body: Some(body),
        }
    }

    /// The value of `{name}` in the route's pattern.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
            .expect("invariant: handlers name parameters of their own pattern")
    }

    /// A header's text; absent and unreadable are the same.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// True when the client asked to leave HTTP.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.headers.contains_key(UPGRADE)
    }

    /// True when the client said that there is no body.
    fn declares_empty_body(&self) -> bool {
        let sized = self.body.as_ref().is_none_or(|body| body.is_end_stream());
        sized || self.header(&CONTENT_LENGTH) == Some("0")
    }

    /// The body as a stream of bytes; can be taken once.
    pub(crate) fn take_body(&mut self) -> Incoming {
        self.body.take().expect("invariant: a handler takes the body once")
    }

    /// A body that must be JSON. An empty one is `None`, whatever its type says, and so is `null`.
    pub(crate) async fn json<T>(&mut self) -> Result<Option<T>, Failure>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        self.json_like(&T::default()).await
    }

    /// Like [`Request::json`], with a template whose optional objects are filled in.
    pub(crate) async fn json_like<T>(&mut self, template: &T) -> Result<Option<T>, Failure>
    where
        T: DeserializeOwned + Serialize,
    {
        let empty = self.declares_empty_body();
        match self.header(&CONTENT_TYPE) {
            None if empty => {}
            given => check_json_type(given.unwrap_or_default())?,
        }
        if empty {
            return Ok(None);
        }
        let bytes = self.read_body(JSON_LIMIT).await?;
        json::decode_like(&bytes, template)
    }

    /// A JSON body that may not be missing.
    pub(crate) async fn required_json<T>(&mut self) -> Result<T, Failure>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        match self.json().await? {
            Some(value) => Ok(value),
            None => Err(Failure::invalid("invalid JSON: got EOF while reading request body")),
        }
    }

    /// The whole body, at most `limit` bytes.
    pub(crate) async fn read_body(&mut self, limit: usize) -> Result<Bytes, Failure> {
        let body = Limited::new(self.take_body(), limit);
        match body.collect().await {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body is larger than {limit} bytes"),
            )),
            Err(error) => Err(Failure::invalid(format!("cannot read the request body: {error}"))),
        }
    }
}

impl Drop for Request {
    /// A client that is refused while it still sends must be able to read the refusal: what it
    /// sends is taken in, as long as it is not too much.
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            tokio::spawn(drain(body));
        }
    }
}

/// Takes a body in and forgets it; gives up when it is long or slow.
pub(super) async fn drain(mut body: Incoming) {
    let mut taken = 0;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > DRAIN_LIMIT {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, all).await; // late is as good as never
}

/// Docker's check: the media type, whatever its case and parameters, is JSON.
fn check_json_type(header: &str) -> Result<(), Failure> {
    let media_type = header.split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() {
        return Err(Failure::invalid(format!(
            "malformed Content-Type header ({header}): mime: no media type"
        )));
    }
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "unsupported Content-Type header ({header}): must be 'application/json'"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;",
        ] {
            assert!(check_json_type(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/octet-stream",
        ] {
            assert!(check_json_type(bad).is_err(), "{bad}");
        }
    }
}
