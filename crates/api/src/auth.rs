//! Credentials for registries and the headers that carry them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The header with the credentials for one registry.
pub const REGISTRY_AUTH_HEADER: &str = "X-Registry-Auth";

/// The header with the credentials for all registries, sent with builds.
pub const REGISTRY_CONFIG_HEADER: &str = "X-Registry-Config";

wire! {
    /// The credentials for one registry.
    pub struct AuthConfig {
        username: String = "username" omitempty,
        password: String = "password" omitempty,
        /// User name and password joined by a colon, in base64.
        auth: String = "auth" omitempty,
        email: String = "email" omitempty,
        server_address: String = "serveraddress" omitempty,
        identity_token: String = "identitytoken" omitempty,
        registry_token: String = "registrytoken" omitempty,
    }
}

/// Credentials by registry host.
pub type AuthConfigs = BTreeMap<String, AuthConfig>;

/// What clients send without credentials: `{}`.
pub const ANONYMOUS: &str = "e30=";

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// The value of a header: base64 (URL alphabet, padded) of the JSON.
#[must_use]
pub fn encode_header<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_vec(value).expect("invariant: credentials are JSON");
    general_purpose::URL_SAFE.encode(json)
}

/// Reads a header. Docker ignores what it cannot read, so broken values are the default:
/// anonymous. Both base64 alphabets are accepted, padded or not.
#[must_use]
pub fn decode_header<T: DeserializeOwned + Default>(value: &str) -> T {
    let value = value.trim();
    URL_SAFE
        .decode(value)
        .or_else(|_| STANDARD.decode(value))
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default()
}

impl AuthConfig {
    /// The value of [`REGISTRY_AUTH_HEADER`] for these credentials.
    #[must_use]
    pub fn to_header(&self) -> String {
        encode_header(self)
    }

    /// Reads [`REGISTRY_AUTH_HEADER`]; see [`decode_header`].
    #[must_use]
    pub fn from_header(value: &str) -> Self {
        decode_header(value)
    }

    /// User name and password, taken apart from `auth` where they are not given.
    #[must_use]
    pub fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let plain = STANDARD.decode(self.auth.trim()).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (username, password) = plain.split_once(':')?;
        Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    /// True without any credentials.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.basic().is_none() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> AuthConfig {
        AuthConfig {
            username: "u".into(),
            password: "p\u{fe}?>~".into(),
            server_address: "localhost:5000".into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn headers_round_trip_in_every_alphabet() {
        let json = serde_json::to_vec(&credentials()).unwrap();
        let encodings = [
            credentials().to_header(),
            general_purpose::URL_SAFE_NO_PAD.encode(&json),
            general_purpose::STANDARD.encode(&json),
            general_purpose::STANDARD_NO_PAD.encode(&json),
        ];
        for header in encodings {
            assert_eq!(AuthConfig::from_header(&header), credentials(), "{header}");
        }
    }

    #[test]
    fn broken_headers_are_anonymous() {
        for header in ["", "e30=", "null", "!!!", "bm90IGpzb24=", "bnVsbA=="] {
            assert!(AuthConfig::from_header(header).is_anonymous(), "{header}");
        }
        assert_eq!(AuthConfig::default().to_header(), ANONYMOUS);
    }

    #[test]
    fn basic_credentials_are_read_from_auth() {
        let config = AuthConfig {
            auth: STANDARD.encode("me:se:cret"),
            ..AuthConfig::default()
        };
        assert_eq!(config.basic(), Some(("me".into(), "se:cret".into())));
    }
}
