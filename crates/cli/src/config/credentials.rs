//! Credentials for registries: in the file itself or in an external helper
//! (`docker-credential-NAME`, which speaks JSON over its standard streams).

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharf_api::auth::{AuthConfig, AuthConfigs};

use super::{ConfigFile, StoredAuth};

/// The key of Docker's own registry.
const INDEX_SERVER: &str = "https://index.docker.io/v1/";

/// Why credentials could not be kept or dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    /// The helper could not be run.
    #[error("running {helper}")]
    Spawn {
        /// The helper's program.
        helper: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The helper refused.
    #[error("{helper} {action}: {text}")]
    Refused {
        /// The helper's program.
        helper: String,
        /// What it was asked to do.
        action: &'static str,
        /// What it said.
        text: String,
    },
    /// The configuration file could not be written.
    #[error("writing the configuration file")]
    Save(#[source] std::io::Error),
}

/// The key of Docker's own registry in the file.
pub(crate) fn index_server() -> &'static str {
    INDEX_SERVER
}

/// The host of a registry address: no scheme, no path.
pub(crate) fn registry_host(address: &str) -> &str {
    let bare = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    bare.split('/').next().unwrap_or(bare)
}

/// The key under which a registry's credentials are kept.
fn key_of(registry: &str) -> &str {
    match registry_host(registry) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" | "" => INDEX_SERVER,
        host => host,
    }
}

impl ConfigFile {
    /// The credentials for a registry, anonymous ones when there are none.
    pub(crate) fn credentials(&self, registry: &str) -> AuthConfig {
        let key = key_of(registry);
        let found = match self.helper_for(key) {
            Some(helper) => helper_get(&helper, key),
            None => None,
        };
        found.or_else(|| self.stored(key)).unwrap_or_default()
    }

    /// The credentials for every registry, as builds send them.
    pub(crate) fn all_credentials(&self) -> AuthConfigs {
        let mut keys: Vec<String> = self.auths.keys().chain(self.helpers.keys()).cloned().collect();
        if !self.store.is_empty() {
            keys.extend(helper_list(&helper_program(&self.store)));
        }
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .map(|key| {
                let credentials = self.credentials(&key);
                (key, credentials)
            })
            .filter(|(_, credentials)| !credentials.is_anonymous())
            .collect()
    }

    /// Keeps credentials.
    pub(crate) fn keep_credentials(&mut self, registry: &str, auth: &AuthConfig) -> Result<bool, CredentialError> {
        let key = key_of(registry).to_owned();
        if let Some(helper) = self.helper_for(&key) {
            let (username, secret) = match auth.identity_token.as_str() {
                "" => (auth.username.as_str(), auth.password.as_str()),
                token => ("<token>", token),
            };
            let body = json!({"ServerURL": key, "Username": username, "Secret": secret});
            helper_call(&helper, "store", &body.to_string())?;
            self.auths.insert(key, StoredAuth::default());
            self.save().map_err(CredentialError::Save)?;
            return Ok(false);
        }
        let stored = StoredAuth {
            auth: STANDARD.encode(format!("{}:{}", auth.username, auth.password)),
            identity_token: auth.identity_token.clone(),
            ..StoredAuth::default()
        };
        self.auths.insert(key, stored);
        self.save().map_err(CredentialError::Save)?;
        Ok(true)
    }

    /// Drops credentials; false when there were none.
    pub(crate) fn drop_credentials(&mut self, registry: &str) -> Result<bool, CredentialError> {
        let key = key_of(registry).to_owned();
        if let Some(helper) = self.helper_for(&key) {
            helper_call(&helper, "erase", &key)?;
        }
        if self.auths.remove(&key).is_none() {
            return Ok(false);
        }
        self.save().map_err(CredentialError::Save)?;
        Ok(true)
    }

    fn helper_for(&self, key: &str) -> Option<String> {
        let name = self
            .helpers
            .get(key)
            .or(Some(&self.store))
            .filter(|name| !name.is_empty())?;
        Some(helper_program(name))
    }

    fn stored(&self, key: &str) -> Option<AuthConfig> {
        let stored = self.auths.get(key).or_else(|| {
            self.auths
                .iter()
                .find(|(other, _)| registry_host(other) == key)
                .map(|(_, s)| s)
        })?;
        let config = AuthConfig {
            auth: stored.auth.clone(),
            server_address: key.to_owned(),
            identity_token: stored.identity_token.clone(),
            registry_token: stored.registry_token.clone(),
            ..AuthConfig::default()
        };
        let (username, password) = config.basic().unwrap_or_default();
        Some(AuthConfig {
            username,
            password,
            auth: String::new(),
            ..config
        })
    }
}

fn helper_program(name: &str) -> String {
    format!("docker-credential-{name}")
}

fn helper_get(helper: &str, key: &str) -> Option<AuthConfig> {
    let answer: Value = serde_json::from_str(&helper_call(helper, "get", key).ok()?).ok()?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut config = AuthConfig {
        server_address: key.to_owned(),
        ..AuthConfig::default()
    };
    if text("Username") == "<token>" {
        config.identity_token = text("Secret");
    } else {
        config.username = text("Username");
        config.password = text("Secret");
    }
    Some(config)
}

fn helper_list(helper: &str) -> Vec<String> {
    helper_call(helper, "list", "")
        .ok()
        .and_then(|answer| serde_json::from_str::<serde_json::Map<String, Value>>(&answer).ok())
        .map(|servers| servers.into_iter().map(|(server, _)| server).collect())
        .unwrap_or_default()
}

fn helper_call(helper: &str, action: &'static str, input: &str) -> Result<String, CredentialError> {
    let spawn_failed = |source| CredentialError::Spawn {
        helper: helper.to_owned(),
        source,
    };
    let mut child = Command::new(helper)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(spawn_failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why in its answer.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(spawn_failed)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(CredentialError::Refused {
            helper: helper.to_owned(),
            action,
            text: text.trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_found_by_host() {
        let config: ConfigFile = serde_json::from_value(json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:one")},
                "localhost:5000": {"auth": STANDARD.encode("me:two")},
                "https://other.example/v2/": {"auth": STANDARD.encode("o:three")},
            }
        }))
        .unwrap();
        let check = |registry: &str, user: &str| {
            assert_eq!(config.credentials(registry).username, user, "{registry}");
        };
        check("docker.io", "hub");
        check("localhost:5000", "me");
        check("https://other.example/x", "o");
        check("nowhere", "");
    }

    #[test]
    fn kept_credentials_are_read_again_and_the_rest_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"plugins":{"a":"b"}}"#).unwrap();
        let auth = AuthConfig {
            username: "u".into(),
            password: "p:q".into(),
            ..AuthConfig::default()
        };
        let mut config = ConfigFile::load(dir.path());
        assert!(config.keep_credentials("localhost:5000", &auth).unwrap());
        let mut again = ConfigFile::load(dir.path());
        assert_eq!(again.credentials("localhost:5000").password, "p:q");
        assert_eq!(again.rest["plugins"]["a"], "b");
        assert!(again.drop_credentials("localhost:5000").unwrap());
        assert!(!again.drop_credentials("localhost:5000").unwrap());
    }
}
