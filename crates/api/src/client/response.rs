//! Answers: whole documents, streams, and connections taken over.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use super::{ClientError, Documents};
use crate::types::ErrorResponse;

/// The largest error text read from an engine.
const ERROR_LIMIT: usize = 64 << 10;

/// The answer to a request; its body may still be coming.
#[derive(Debug)]
pub struct Response {
    inner: hyper::Response<Incoming>,
}

/// A connection taken over for a container's streams.
#[derive(Debug)]
pub struct Hijacked {
    /// Both directions; shutting down the writing side is the end of standard input.
    pub stream: TokioIo<Upgraded>,
    /// True when the output is framed (see [`crate::stdcopy`]), false for a terminal's raw bytes.
    /// `None` when the engine did not say, as those before 1.42.
    pub framed: Option<bool>,
}

impl Response {
    pub(super) fn new(inner: hyper::Response<Incoming>) -> Self {
        Self { inner }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.inner.body_mut().frame().await {
            if let Ok(bytes) = frame.map_err(ClientError::Body)?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The whole body.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        let body = self.inner.into_body().collect().await.map_err(ClientError::Body)?;
        Ok(body.to_bytes())
    }

    /// The body as one JSON document.
    ///
    /// # Errors
    /// When the connection breaks off or the body is something else.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.bytes().await?).map_err(ClientError::Json)
    }

    /// The body as a stream of JSON documents.
    #[must_use]
    pub fn documents<T: DeserializeOwned>(self) -> Documents<T> {
        Documents::new(self)
    }

    /// Whether the body is framed, by its content type.
    #[must_use]
    pub fn framed(&self) -> Option<bool> {
        match self.header(CONTENT_TYPE.as_str())? {
            "application/vnd.docker.multiplexed-stream" => Some(true),
            _ => None,
        }
    }

    /// Turns a status from 400 on into an error with the engine's message.
    pub(super) async fn checked(mut self) -> Result<Self, ClientError> {
        let status = self.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return Ok(self);
        }
        let mut text = Vec::new();
        while text.len() < ERROR_LIMIT {
            match self.chunk().await {
                Ok(Some(bytes)) => text.extend_from_slice(&bytes),
                // A body that breaks off still says what it said.
                Ok(None) | Err(_) => break,
            }
        }
        Err(ClientError::Engine {
            status,
            message: error_message(status, &text),
        })
    }

    pub(super) async fn hijack(self) -> Result<Hijacked, ClientError> {
        if self.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::NotUpgraded {
                status: self.status().as_u16(),
            });
        }
        let framed = self.framed();
        let upgraded = hyper::upgrade::on(self.inner).await.map_err(ClientError::Body)?;
        Ok(Hijacked {
            stream: TokioIo::new(upgraded),
            framed,
        })
    }
}

/// The engine's words: the JSON's message, or the text as it is.
fn error_message(status: StatusCode, body: &[u8]) -> String {
    if let Ok(ErrorResponse { message }) = serde_json::from_slice(body)
        && !message.is_empty()
    {
        return message.trim().to_owned();
    }
    let text = String::from_utf8_lossy(body).trim().to_owned();
    if text.is_empty() {
        format!("the engine answered {status}")
    } else {
        text
    }
}
