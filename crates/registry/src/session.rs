//! A conversation with one repository: the endpoint that answered, and the authorization it accepts.

use crate::Client;
use crate::auth::{self, Challenge};
use crate::endpoint::{Endpoint, endpoints};
use crate::error::RegistryError;
use crate::options::Credentials;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use wharf_store::Reference;

/// What a session may do in its repository; the middle part of a token's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only the registry itself: a login check.
    Registry,
    Pull,
    PullAndPush,
}

pub(crate) struct Session {
    http: reqwest::Client,
    base: String,
    domain: String,
    path: String,
    access: Access,
    credentials: Credentials,
    authorization: Mutex<Option<String>>,
    /// The refresh token of the last token answer, for a login.
    refresh: Mutex<String>,
}

impl Session {
    /// Finds the endpoint that answers and authenticates as it asks.
    pub(crate) async fn open(
        client: &Client,
        name: &Reference,
        access: Access,
        credentials: &Credentials,
    ) -> Result<Self, RegistryError> {
        let mut failure = None;
        for endpoint in endpoints(name.domain(), &client.inner.options) {
            let session = Self::at(client, &endpoint, name, access, credentials)?;
            match session.ping().await {
                Ok(()) => return Ok(session),
                Err(error @ RegistryError::Unreachable { .. }) => {
                    tracing::debug!(endpoint = %endpoint.base, %error, "endpoint does not answer");
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.expect("invariant: every registry name has an endpoint"))
    }

    fn at(
        client: &Client,
        endpoint: &Endpoint,
        name: &Reference,
        access: Access,
        credentials: &Credentials,
    ) -> Result<Self, RegistryError> {
        let http = client
            .inner
            .transports
            .of(endpoint, name.domain(), &client.inner.options)?;
        let bearer = (!credentials.registry_token.is_empty()).then(|| format!("Bearer {}", credentials.registry_token));
        Ok(Self {
            http,
            base: endpoint.base.clone(),
            domain: name.domain().to_owned(),
            path: name.path().to_owned(),
            access,
            credentials: credentials.clone(),
            authorization: Mutex::new(bearer),
            refresh: Mutex::default(),
        })
    }

    /// `<base>/v2/<repository>/<rest>`.
    pub(crate) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.base, self.path)
    }

    /// An upload location, which may be relative (distribution-spec, pushing blobs).
    pub(crate) fn absolute(&self, location: &str) -> String {
        if location.starts_with('/') {
            format!("{}{location}", self.base)
        } else {
            location.to_owned()
        }
    }

    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    pub(crate) fn refresh_token(&self) -> String {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ping(&self) -> Result<(), RegistryError> {
        let url = format!("{}/v2/", self.base);
        let answer = self.send("GET", &url, |r| r).await?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => Err(self.unauthorized(answer).await),
            status if status.is_server_error() => Err(Self::status("GET", &url, answer).await),
            _ => Ok(()), // some registries answer 404 here and work
        }
    }

    /// Sends one request; on a challenge, meets it and sends it once more. Any status is an answer.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        url: &str,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let answer = self.attempt(method, url, &complete).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(challenge) = auth::challenge(answer.headers()) else {
            return Ok(answer);
        };
        if !self.meet(challenge).await? {
            return Ok(answer);
        }
        self.attempt(method, url, &complete).await
    }

    async fn attempt(
        &self,
        method: &'static str,
        url: &str,
        complete: &impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let verb = method
            .parse::<reqwest::Method>()
            .expect("invariant: methods are constants");
        let mut request = self.http.request(verb, url);
        // SECURITY: an upload location or redirect may name another host; it never gets our authorization.
        if is_below(&self.base, url)
            && let Some(value) = self
                .authorization
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        {
            request = request.header("Authorization", value);
        }
        complete(request)
            .send()
            .await
            .map_err(|e| RegistryError::unreachable(method, url, &e))
    }

    /// Sets the authorization that the challenge asks for; false when we have nothing (new) to offer.
    async fn meet(&self, challenge: Challenge) -> Result<bool, RegistryError> {
        let value = match challenge {
            _ if !self.credentials.registry_token.is_empty() => return Ok(false),
            Challenge::Basic if self.credentials.username.is_empty() => return Ok(false),
            Challenge::Basic => auth::basic(&self.credentials),
            Challenge::Bearer { realm, service, scope } => {
                let scope = scope.or_else(|| self.scope());
                let token =
                    auth::fetch_token(&self.http, &realm, &service, scope.as_deref(), &self.credentials).await?;
                *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = token.refresh;
                format!("Bearer {}", token.bearer)
            }
        };
        let mut held = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = held.as_deref() != Some(value.as_str());
        *held = Some(value);
        Ok(is_new)
    }

    fn scope(&self) -> Option<String> {
        let actions = match self.access {
            Access::Registry => return None,
            Access::Pull => "pull",
            Access::PullAndPush => "pull,push",
        };
        Some(format!("repository:{}:{actions}", self.path))
    }

    /// The error for an answer that nothing more special fits.
    pub(crate) async fn status(method: &'static str, url: &str, answer: Response) -> RegistryError {
        let status = answer.status().as_u16();
        let host = answer.url().host_str().unwrap_or_default().to_owned();
        let detail = error_detail(&answer.bytes().await.unwrap_or_default());
        match status {
            429 => RegistryError::TooManyRequests { host, detail },
            _ => RegistryError::Status {
                method,
                url: url.to_owned(),
                status,
                detail,
            },
        }
    }

    pub(crate) async fn unauthorized(&self, answer: Response) -> RegistryError {
        let detail = error_detail(&answer.bytes().await.unwrap_or_default());
        let detail = if self.credentials.is_empty() {
            "authentication required".to_owned()
        } else {
            detail
        };
        RegistryError::Unauthorized {
            host: self.domain.clone(),
            detail,
        }
    }
}

/// Whether the address is on the endpoint itself: `https://a.example` is not the beginning of `https://a.example.org`.
fn is_below(base: &str, url: &str) -> bool {
    url.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The errors of a registry's body as `code: message`, or the beginning of a body that is none of its form.
pub(crate) fn error_detail(body: &[u8]) -> String {
    if let Ok(parsed) = serde_json::from_slice::<Errors>(body)
        && !parsed.errors.is_empty()
    {
        let entry = |e: &ErrorEntry| format!("{}: {}", e.code.to_lowercase().replace('_', " "), e.message);
        return parsed.errors.iter().map(entry).collect::<Vec<_>>().join("; ");
    }
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    if text.trim().is_empty() {
        "no reason given".to_owned()
    } else {
        text.trim().to_owned()
    }
}

/// Reads a small document; more than the store would take is refused before it fills memory.
pub(crate) async fn read_document(url: &str, mut answer: Response) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| RegistryError::unreachable("GET", url, &e))?
    {
        if (bytes.len() + chunk.len()) as u64 > wharf_store::MAX_DOCUMENT_BYTES {
            let reason = format!("more than {} bytes", wharf_store::MAX_DOCUMENT_BYTES);
            return Err(RegistryError::Malformed {
                url: url.to_owned(),
                reason,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization_goes_to_the_endpoint_only() {
        assert!(is_below("https://a.example", "https://a.example/v2/x"));
        assert!(is_below("http://127.0.0.1:5000", "http://127.0.0.1:5000/v2/"));
        for other in [
            "https://a.example.org/v2/x",
            "https://a.example:444/v2/x",
            "https://a.example@b/v2/x",
            "http://a.example/v2/x",
        ] {
            assert!(!is_below("https://a.example", other), "{other}");
        }
    }

    #[test]
    fn error_bodies_read_as_code_and_message() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(error_detail(body), "manifest unknown: manifest unknown");
        assert_eq!(error_detail(b"<html>\nno\n"), "<html>no");
        assert_eq!(error_detail(b""), "no reason given");
    }
}
