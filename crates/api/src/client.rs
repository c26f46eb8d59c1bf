//! The client of the Engine API: HTTP/1.1 over a unix socket or TCP, one connection per request.
//!
//! ```text
//!   Client::get("/containers/json").query("all", "1").send() --> Response
//!       Response::json      one document
//!       Response::documents a stream of JSON documents (events, pull, wait)
//!       Response::chunk     raw bytes (tar, logs)
//!   Client::post("/exec/x/start").json(&body).upgrade()      --> Hijacked (both ways, half-close)
//! ```
//!
//! The client speaks the newest version first, without asking: a ping per command would cost a
//! round trip. An engine that is older refuses with its own maximum, before any side effect, and
//! the request is sent again in that version. Requests whose body cannot be sent twice ask first.

mod documents;
mod endpoint;
mod error;
mod request;
mod response;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use documents::Documents;
pub use endpoint::{Endpoint, EndpointError, Transport};
pub use error::ClientError;
use hyper::Method;
pub use request::{Body, RequestBuilder};
pub use response::{Hijacked, Response};

use crate::ApiVersion;

/// A client of one engine. Clones share the negotiated version.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    /// Major in the upper, minor in the lower 16 bits.
    version: AtomicU32,
    /// 1 once the engine has accepted the version.
    settled: AtomicU32,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client of the engine at `endpoint`; connects with the first request.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with_headers(endpoint, Vec::new())
    }

    /// A client that adds headers to every request.
    #[must_use]
    pub fn with_headers(endpoint: Endpoint, headers: Vec<(String, String)>) -> Self {
        let client = Self {
            shared: Arc::new(Shared {
                endpoint,
                version: AtomicU32::new(0),
                settled: AtomicU32::new(0),
                headers,
            }),
        };
        client.store_version(ApiVersion::MAX);
        client
    }

    /// Where the engine listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// The version that requests are sent in.
    #[must_use]
    pub fn version(&self) -> ApiVersion {
        let packed = self.shared.version.load(Ordering::Relaxed);
        ApiVersion::new((packed >> 16) as u16, (packed & 0xffff) as u16)
    }

    /// Fixes the version, so that none is negotiated.
    pub fn pin_version(&self, version: ApiVersion) {
        self.store_version(version);
        self.settle();
    }

    /// Asks the engine for its newest version, once.
    ///
    /// # Errors
    /// When the engine cannot be reached or refuses the ping.
    pub async fn negotiate(&self) -> Result<(), ClientError> {
        if self.is_settled() {
            return Ok(());
        }
        let response = self.request(Method::HEAD, "/_ping").unversioned().send().await?;
        if let Some(newest) = response.header("api-version").and_then(|text| text.parse().ok()) {
            self.store_version(ApiVersion::MAX.min(newest));
        }
        self.settle();
        Ok(())
    }

    /// A request with any method; `path` begins with `/` and has no version.
    pub fn request(&self, method: Method, path: impl Into<String>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, path.into())
    }

    /// A GET request.
    pub fn get(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// A POST request.
    pub fn post(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// A DELETE request.
    pub fn delete(&self, path: impl Into<String>) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    fn store_version(&self, version: ApiVersion) {
        let packed = u32::from(version.major) << 16 | u32::from(version.minor);
        self.shared.version.store(packed, Ordering::Relaxed);
    }

    fn settle(&self) {
        self.shared.settled.store(1, Ordering::Relaxed);
    }

    fn is_settled(&self) -> bool {
        self.shared.settled.load(Ordering::Relaxed) == 1
    }

    fn headers(&self) -> &[(String, String)] {
        &self.shared.headers
    }
}

/// Escapes one segment of a path: a name or an id.
#[must_use]
pub fn escape(segment: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b':')
        .remove(b'@')
        .remove(b'/');
    percent_encoding::utf8_percent_encode(segment, KEPT).to_string()
}
