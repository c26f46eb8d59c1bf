//! What the engine's configuration says about registries, and the credentials of one request.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`crate::Client`].
#[derive(Clone, Debug)]
pub struct Options {
    /// `host[:port]` names and CIDR ranges that may be talked to over plain HTTP or with unverifiable certificates.
    /// Loopback always may.
    pub insecure: Vec<String>,
    /// Base addresses tried before Docker Hub, in order (`https://mirror.example`).
    pub mirrors: Vec<String>,
    /// Folder with `<host[:port]>/{ca.crt,client.cert,client.key}`.
    pub certificates: PathBuf,
    /// Layers of one image downloaded at once.
    pub parallel_downloads: usize,
    /// Blobs of one image uploaded at once.
    pub parallel_uploads: usize,
    /// How often a transfer that broke off is taken up again.
    pub attempts: u32,
    /// The pause before the first further attempt; doubled for each more.
    pub retry_pause: Duration,
    /// Sent as `User-Agent`.
    pub user_agent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            certificates: PathBuf::from("/etc/docker/certs.d"),
            parallel_downloads: 4,
            parallel_uploads: 5,
            attempts: 5,
            retry_pause: Duration::from_millis(250),
            user_agent: concat!("wharf/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What a client sent in `X-Registry-Auth` for one request. Empty means anonymous.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name; `<token>` or empty with an identity token.
    pub username: String,
    /// Password, for basic authentication and to get tokens with.
    pub password: String,
    /// An OAuth2 refresh token, as `docker login` keeps it.
    pub identity_token: String,
    /// A bearer token that is sent as it is.
    pub registry_token: String,
}

impl Credentials {
    /// Whether there is nothing to authenticate with.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

/// Never prints a secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
