//! Where plugins are: sockets and spec files in the plugin directories.
//!
//! COMPAT: Docker looks for sockets in the first of its directories and for spec files in the other two; here every
//! directory may hold both, sockets come first.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::PluginError;

/// A description of a plugin is a line, or a few.
const MAX_DESCRIPTION_BYTES: u64 = 64 << 10;

/// Docker's plugin directories.
pub fn default_plugin_dirs() -> Vec<PathBuf> {
    ["/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins"]
        .map(PathBuf::from)
        .to_vec()
}

/// The directories that plugins are looked for in, in order.
#[derive(Clone, Debug)]
pub struct PluginDirs(pub Vec<PathBuf>);

/// Where a plugin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) address: Address,
    pub(crate) tls: Option<TlsFiles>,
}

/// The address in a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, in plain HTTP.
    Tcp(String),
    /// `host:port`, in TLS.
    Tls(String),
}

/// How a server is verified, and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct TlsFiles {
    #[serde(rename = "InsecureSkipVerify")]
    pub(crate) skip_verify: bool,
    #[serde(rename = "CAFile")]
    pub(crate) authority: PathBuf,
    #[serde(rename = "CertFile")]
    pub(crate) certificate: PathBuf,
    #[serde(rename = "KeyFile")]
    pub(crate) key: PathBuf,
}

/// A `.json` description. Its `Name` says nothing that the file's own name does not.
#[derive(Deserialize)]
struct JsonDescription {
    #[serde(rename = "Addr", default)]
    address: String,
    #[serde(rename = "TLSConfig", default)]
    tls: Option<TlsFiles>,
}

impl PluginDirs {
    /// The description of a plugin; `None` when there is none.
    ///
    /// SECURITY: the name is a client's. One that is not a single name of a file describes nothing.
    pub(crate) fn find(&self, plugin: &str) -> Result<Option<Description>, PluginError> {
        if !is_file_name(plugin) {
            return Ok(None);
        }
        for path in self.candidates(plugin, "sock") {
            if fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
                let address = Address::Unix(path);
                return Ok(Some(Description { address, tls: None }));
            }
        }
        for dir in &self.0 {
            for extension in ["spec", "json"] {
                for path in places(dir, plugin, extension) {
                    if path.is_file() {
                        return read(plugin, &path).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    /// The names of all plugins that are described, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().flat_map(|dir| names_in(dir)).collect();
        names.sort();
        names.dedup();
        names
    }

    fn candidates<'a>(&'a self, plugin: &'a str, extension: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        self.0.iter().flat_map(move |dir| places(dir, plugin, extension))
    }
}

/// `NAME.extension`, then `NAME/NAME.extension`.
fn places(dir: &Path, plugin: &str, extension: &str) -> [PathBuf; 2] {
    let file = format!("{plugin}.{extension}");
    [dir.join(&file), dir.join(plugin).join(file)]
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() < 200 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let path = entry.path();
        let name = entry.file_name().into_string().ok()?;
        if path.is_dir() {
            let described = ["sock", "spec", "json"]
                .iter()
                .any(|extension| path.join(format!("{name}.{extension}")).exists());
            return described.then_some(name);
        }
        let (plugin, extension) = name.rsplit_once('.')?;
        let fits = match extension {
            "sock" => fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket()),
            "spec" | "json" => true,
            _ => false,
        };
        fits.then(|| plugin.to_owned())
    });
    named.filter(|name| is_file_name(name)).collect()
}

fn read(plugin: &str, path: &Path) -> Result<Description, PluginError> {
    let text = read_bounded(path).map_err(|e| PluginError::unreadable(plugin, path, &e))?;
    let wrong = |reason: String| PluginError::description(plugin, path, reason);
    if path.extension().is_some_and(|extension| extension == "spec") {
        return Ok(Description {
            address: parse_address(text.trim()).map_err(wrong)?,
            tls: None,
        });
    }
    let parsed: JsonDescription = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let mut tls = parsed.tls;
    if let Some(files) = &mut tls {
        // COMPAT: without an authority to verify by, Docker does not verify.
        files.skip_verify |= files.authority.as_os_str().is_empty();
    }
    Ok(Description {
        address: parse_address(&parsed.address).map_err(wrong)?,
        tls,
    })
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(MAX_DESCRIPTION_BYTES + 1)
        .read_to_string(&mut text)?;
    match read as u64 > MAX_DESCRIPTION_BYTES {
        true => Err(io::Error::other("it is too long")),
        false => Ok(text),
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    let wrong = || format!("the address {text:?} is none of unix:///PATH, tcp://HOST:PORT, http(s)://HOST[:PORT]");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let host = rest.split('/').next().unwrap_or_default();
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Address::Unix(PathBuf::from(rest))),
        "tcp" | "http" if is_authority(host) => Ok(Address::Tcp(host.to_owned())),
        "https" if is_authority(host) => Ok(Address::Tls(host.to_owned())),
        _ => Err(wrong()),
    }
}

fn is_authority(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-:[]%".contains(&b))
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Tls(host) => write!(f, "https://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> (tempfile::TempDir, PluginDirs) {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = PluginDirs(vec![
            dir.path().join("run"),
            dir.path().join("etc"),
            dir.path().join("missing"),
        ]);
        for sub in ["run/deep", "etc/deeper"] {
            fs::create_dir_all(dir.path().join(sub)).expect("create");
        }
        (dir, dirs)
    }

    #[test]
    fn sockets_come_before_spec_files_and_both_may_lie_in_a_directory_of_their_name() {
        let (dir, dirs) = dirs();
        let at = |name: &str| dir.path().join(name);
        let _flat = std::os::unix::net::UnixListener::bind(at("run/flat.sock")).expect("bind");
        let _deep = std::os::unix::net::UnixListener::bind(at("run/deep/deep.sock")).expect("bind");
        fs::write(at("run/no.sock"), "no socket").expect("write");
        fs::write(at("etc/flat.spec"), "tcp://10.0.0.1:1").expect("write");
        fs::write(at("etc/far.spec"), " tcp://10.0.0.1:9000\n").expect("write");
        fs::write(
            at("etc/deeper/deeper.json"),
            r#"{"Name":"x","Addr":"https://h:1","TLSConfig":{"CAFile":"/ca"}}"#,
        )
        .expect("write");
        let address = |name: &str| dirs.find(name).expect("readable").map(|found| found.address);
        assert_eq!(address("flat"), Some(Address::Unix(at("run/flat.sock"))));
        assert_eq!(address("deep"), Some(Address::Unix(at("run/deep/deep.sock"))));
        assert_eq!(address("far"), Some(Address::Tcp("10.0.0.1:9000".into())));
        assert_eq!(address("deeper"), Some(Address::Tls("h:1".into())));
        let tls = dirs.find("deeper").expect("readable").and_then(|found| found.tls);
        assert_eq!(
            tls.map(|t| (t.skip_verify, t.authority)),
            Some((false, PathBuf::from("/ca")))
        );
        for none in ["no", "missing", "", "../etc/far", "deep/deep", ".."] {
            assert_eq!(address(none), None, "{none}");
        }
        assert_eq!(dirs.names(), ["deep", "deeper", "far", "flat"]);
    }

    #[test]
    fn addresses_have_four_forms() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                parse_address(text).ok().map(|a| a.to_string()).as_deref(),
                expected,
                "{text}"
            );
        };
        check("unix:///run/x.sock", Some("unix:///run/x.sock"));
        check("tcp://h:1", Some("http://h:1"));
        check("http://h:1/", Some("http://h:1"));
        check("https://[::1]:7", Some("https://[::1]:7"));
        for bad in [
            "",
            "x",
            "unix://rel",
            "npipe://x",
            "tcp://",
            "tcp://a b:1",
            "tcp://u@h:1",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn a_description_that_cannot_be_used_is_told_by_its_file() {
        let (dir, dirs) = dirs();
        for (name, text) in [("a.json", "{"), ("b.spec", "nonsense"), ("c.json", "{}")] {
            fs::write(dir.path().join("etc").join(name), text).expect("write");
            let error = dirs.find(&name[..1]).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
        let long = "x".repeat(MAX_DESCRIPTION_BYTES as usize + 9);
        fs::write(dir.path().join("etc/d.spec"), long).expect("write");
        assert!(
            dirs.find("d")
                .expect_err("too long")
                .to_string()
                .contains("it is too long")
        );
    }
}
