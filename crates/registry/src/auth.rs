//! Answering a registry's challenge: basic, or a token from the service it names (distribution-spec, token auth).

use crate::error::RegistryError;
use crate::options::Credentials;
use base64::Engine as _;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: String,
        scope: Option<String>,
    },
}

/// The strongest challenge of an answer that we can meet: bearer before basic.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let all = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
    let parsed: Vec<Challenge> = all.filter_map(parse).collect();
    parsed
        .iter()
        .find(|c| matches!(c, Challenge::Bearer { .. }))
        .or(parsed.first())
        .cloned()
}

fn parse(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, String::new(), None);
    for (key, value) in parameters(rest) {
        match key.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = value,
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Challenge::Bearer {
        realm: realm?,
        service,
        scope,
    })
}

/// `key="value"` or `key=value`, separated by commas; a quoted value may hold commas (RFC 9110, section 11.2).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned();
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => after
                .split_once(',')
                .map_or((after.trim().to_owned(), ""), |(v, t)| (v.trim().to_owned(), t)),
        };
        found.push((key, value));
        rest = tail;
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, l)| l)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

/// `Authorization: Basic` for a user name and password.
pub(crate) fn basic(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
}

/// A bearer token, and the refresh token that came with it (empty when none did).
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) bearer: String,
    pub(crate) refresh: String,
}

/// Gets a token for `scope` from the service that the challenge names.
pub(crate) async fn fetch_token(
    http: &reqwest::Client,
    realm: &str,
    service: &str,
    scope: Option<&str>,
    credentials: &Credentials,
) -> Result<Token, RegistryError> {
    let request = if credentials.identity_token.is_empty() {
        token_query(http, realm, service, scope, credentials)?
    } else {
        refresh_form(http, realm, service, scope, credentials)
    };
    let answer = request
        .send()
        .await
        .map_err(|e| RegistryError::unreachable("GET", realm, &e))?;
    let status = answer.status();
    let body = answer
        .bytes()
        .await
        .map_err(|e| RegistryError::unreachable("GET", realm, &e))?;
    if status.as_u16() == 401 || status.as_u16() == 403 {
        let detail = crate::session::error_detail(&body);
        return Err(RegistryError::Unauthorized {
            host: service.to_owned(),
            detail,
        });
    }
    if !status.is_success() {
        let detail = crate::session::error_detail(&body);
        return Err(RegistryError::Status {
            method: "GET",
            url: realm.to_owned(),
            status: status.as_u16(),
            detail,
        });
    }
    let malformed = |reason: String| RegistryError::Malformed {
        url: realm.to_owned(),
        reason,
    };
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|e| malformed(e.to_string()))?;
    let bearer = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if bearer.is_empty() {
        return Err(malformed("no token in it".to_owned()));
    }
    Ok(Token {
        bearer,
        refresh: answer.refresh_token,
    })
}

fn token_query(
    http: &reqwest::Client,
    realm: &str,
    service: &str,
    scope: Option<&str>,
    credentials: &Credentials,
) -> Result<reqwest::RequestBuilder, RegistryError> {
    let invalid = |e: &dyn std::fmt::Display| RegistryError::Malformed {
        url: realm.to_owned(),
        reason: e.to_string(),
    };
    let mut url = reqwest::Url::parse(realm).map_err(|e| invalid(&e))?;
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("service", service);
        for scope in scope.into_iter().flat_map(|s| s.split(' ')) {
            query.append_pair("scope", scope);
        }
        if !credentials.username.is_empty() {
            query
                .append_pair("account", &credentials.username)
                .append_pair("offline_token", "true");
            query.append_pair("client_id", "wharf");
        }
    }
    let request = http.get(url);
    Ok(if credentials.username.is_empty() {
        request
    } else {
        request.header("Authorization", basic(credentials))
    })
}

/// OAuth2 with the refresh token that `docker login` keeps.
fn refresh_form(
    http: &reqwest::Client,
    realm: &str,
    service: &str,
    scope: Option<&str>,
    credentials: &Credentials,
) -> reqwest::RequestBuilder {
    let mut form = vec![
        ("grant_type", "refresh_token"),
        ("service", service),
        ("client_id", "wharf"),
        ("refresh_token", credentials.identity_token.as_str()),
    ];
    form.extend(scope.map(|s| ("scope", s)));
    let mut url = reqwest::Url::parse("http://form").expect("invariant: a constant address parses");
    url.query_pairs_mut().extend_pairs(form);
    let body = url.query().unwrap_or_default().to_owned();
    http.post(realm)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_parse_with_commas_inside_quotes() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push",error="x""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: "registry.example".into(),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(parse(header), Some(expected));
        assert_eq!(parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(
            parse("Bearer service=x"),
            None,
            "a bearer challenge without a realm cannot be met"
        );
    }

    #[test]
    fn bearer_is_preferred_over_basic() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=r".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Bearer realm=r,service=s".parse().unwrap());
        assert!(matches!(challenge(&headers), Some(Challenge::Bearer { .. })));
    }
}
