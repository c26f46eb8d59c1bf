//! Docker's `config.json`: credentials, extra headers, detach keys, proxies.

mod credentials;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use credentials::{index_server, registry_host};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The parts of the file that this program reads; the rest is kept when it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigFile {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auths: BTreeMap<String, StoredAuth>,
    #[serde(rename = "HttpHeaders", skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(rename = "detachKeys", skip_serializing_if = "String::is_empty")]
    detach_keys: String,
    #[serde(rename = "credsStore", skip_serializing_if = "String::is_empty")]
    store: String,
    #[serde(rename = "credHelpers", skip_serializing_if = "BTreeMap::is_empty")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "psFormat", skip_serializing_if = "String::is_empty")]
    ps_format: String,
    #[serde(rename = "imagesFormat", skip_serializing_if = "String::is_empty")]
    images_format: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    proxies: BTreeMap<String, ProxyConfig>,
    #[serde(flatten)]
    rest: Map<String, Value>,
    #[serde(skip)]
    path: PathBuf,
}

/// The credentials of one registry as they are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredAuth {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    email: String,
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    identity_token: String,
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    registry_token: String,
}

/// The proxies that containers and builds are told about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProxyConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    http_proxy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    https_proxy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    no_proxy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ftp_proxy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    all_proxy: String,
}

impl ConfigFile {
    /// Reads the file in `dir`. Without one, or with a broken one, the configuration is empty;
    /// a broken one is told of.
    pub(crate) fn load(dir: &Path) -> Self {
        let path = dir.join("config.json");
        let mut config = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                eprintln!("WARNING: Error loading config file: {}: {error}", path.display());
                Self::default()
            }),
            Err(_) => Self::default(),
        };
        config.path = path;
        config
    }

    /// Writes the file, readable by its owner only, in one step.
    pub(crate) fn save(&self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        let temporary = self.path.with_extension(format!("json.{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        io::Write::write_all(&mut file, &text)?;
        file.sync_all()?;
        // ORDER: a link is followed, so that a file kept elsewhere stays there.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        std::fs::rename(&temporary, target)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The headers to add to every request.
    pub(crate) fn http_headers(&self) -> impl Iterator<Item = (String, String)> {
        self.headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"))
            .map(|(name, value)| (name.clone(), value.clone()))
    }

    /// The keys that detach, empty for the default.
    pub(crate) fn detach_keys(&self) -> &str {
        &self.detach_keys
    }

    /// The user's own format of `ps`.
    pub(crate) fn ps_format(&self) -> &str {
        &self.ps_format
    }

    /// The user's own format of `images`.
    pub(crate) fn images_format(&self) -> &str {
        &self.images_format
    }

    /// The proxy variables for containers of the engine at `host`, upper and lower case.
    pub(crate) fn proxy_variables(&self, host: &str) -> Vec<(String, String)> {
        let Some(proxies) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let pairs = [
            ("HTTP_PROXY", &proxies.http_proxy),
            ("HTTPS_PROXY", &proxies.https_proxy),
            ("NO_PROXY", &proxies.no_proxy),
            ("FTP_PROXY", &proxies.ftp_proxy),
            ("ALL_PROXY", &proxies.all_proxy),
        ];
        pairs
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value.clone())])
            .collect()
    }
}
