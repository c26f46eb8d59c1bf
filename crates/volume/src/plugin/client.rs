//! HTTP to one plugin.
//!
//! Every request has a connection of its own: a plugin that was restarted must not be met on a dead one, where it
//! could not be told whether the request arrived.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::PluginError;
use super::discovery::{Address, Description, TlsFiles};
use super::protocol::{MEDIA_TYPE, Refusal, parse};

/// SECURITY: an answer that is longer is not read to its end. A list of 50,000 volumes is shorter.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Of an error that is no JSON, this much is told.
const MAX_ERROR_CHARS: usize = 1000;

/// Before the second attempt to connect; then twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long whoever asks is ready to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the answer, all in all.
    pub answer: Duration,
    /// Of that for a plugin that does not listen yet, or is not described yet. Zero: one attempt.
    pub appearance: Duration,
}

/// A connection to a plugin, made anew for each request.
#[derive(Debug)]
pub(crate) struct Client {
    plugin: String,
    address: String,
    url: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(plugin: &str, description: &Description) -> Result<Self, PluginError> {
        let wrong = |reason: String| PluginError::description(plugin, Path::new(&address_of(description)), reason);
        let builder = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        let (builder, url) = match &description.address {
            Address::Unix(path) => (
                trusting_nobody(builder).unix_socket(path.as_path()),
                "http://localhost".to_owned(),
            ),
            Address::Tcp(host) => (trusting_nobody(builder), format!("http://{host}")),
            Address::Tls(host) => {
                let builder = verifying(builder, description.tls.as_ref()).map_err(wrong)?;
                (builder, format!("https://{host}"))
            }
        };
        let http = builder.build().map_err(|e| wrong(innermost(&e).to_string()))?;
        Ok(Self {
            plugin: plugin.to_owned(),
            address: description.address.to_string(),
            url,
            http,
        })
    }

    /// Sends one request and reads the answer's body. What the plugin refuses is an error in its words.
    pub(crate) async fn call(
        &self,
        request: &'static str,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<Vec<u8>, PluginError> {
        let begun = Instant::now();
        let body = serde_json::to_vec(body).map_err(|e| self.malformed(request, e.to_string()))?;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match timeout_at(begun + patience.answer, self.send(request, body.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    return Err(PluginError::Silent {
                        plugin: self.plugin.clone(),
                        request,
                        after: patience.answer,
                    });
                }
            };
            let waits = matches!(error, PluginError::Away { .. }) && begun.elapsed() + pause < patience.appearance;
            if !waits {
                return Err(error);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn send(&self, request: &'static str, body: Vec<u8>) -> Result<Vec<u8>, PluginError> {
        let sent = self
            .http
            .post(format!("{}/{request}", self.url))
            .header(ACCEPT, MEDIA_TYPE)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(body)
            .send()
            .await;
        let mut answer = sent.map_err(|error| self.not_answered(request, error))?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|e| self.not_answered(request, e))? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.malformed(request, format!("it is longer than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        let status = answer.status();
        let said = parse::<Refusal>(&body).ok().filter(|refusal| !refusal.error.is_empty());
        match (status.is_success(), said) {
            (true, None) => Ok(body),
            (true, Some(refusal)) => Err(PluginError::Refused(refusal.error)),
            // COMPAT: Docker puts the request before the words of an answer with a status of its own.
            (false, Some(refusal)) => Err(PluginError::Refused(format!("{request}: {}", refusal.error))),
            (false, None) => {
                let text: String = String::from_utf8_lossy(&body)
                    .trim()
                    .chars()
                    .take(MAX_ERROR_CHARS)
                    .collect();
                let text = if text.is_empty() { status.to_string() } else { text };
                Err(PluginError::Refused(format!("{request}: {text}")))
            }
        }
    }

    fn not_answered(&self, request: &'static str, error: reqwest::Error) -> PluginError {
        let plugin = self.plugin.clone();
        if error.is_connect() {
            let source = io::Error::other(innermost(&error).to_string()).into();
            let address = self.address.clone();
            return PluginError::Away {
                plugin,
                address,
                request,
                source,
            };
        }
        PluginError::BrokenOff {
            plugin,
            request,
            source: error.into(),
        }
    }

    pub(crate) fn malformed(&self, request: &'static str, reason: String) -> PluginError {
        PluginError::Malformed {
            plugin: self.plugin.clone(),
            request,
            reason,
        }
    }
}

fn address_of(description: &Description) -> String {
    description.address.to_string()
}

/// Without TLS: no certificates of the machine are needed.
fn trusting_nobody(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // chosen already is fine
    builder.tls_backend_preconfigured(
        rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    )
}

/// COMPAT: without a configuration, or without an authority in it, a server is not verified, as with Docker.
fn verifying(mut builder: reqwest::ClientBuilder, files: Option<&TlsFiles>) -> Result<reqwest::ClientBuilder, String> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // chosen already is fine
    let Some(files) = files else {
        return Ok(builder.danger_accept_invalid_certs(true));
    };
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    if files.skip_verify {
        builder = builder.danger_accept_invalid_certs(true);
    } else {
        let pem = read(&files.authority)?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|e| format!("{}: {}", files.authority.display(), innermost(&e)))?;
        builder = builder.tls_certs_only(roots);
    }
    if !files.certificate.as_os_str().is_empty() {
        let mut pem = read(&files.certificate)?;
        pem.push(b'\n');
        pem.extend(read(&files.key)?);
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|e| format!("{}: {}", files.certificate.display(), innermost(&e)))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn innermost(error: &reqwest::Error) -> &dyn StdError {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}
