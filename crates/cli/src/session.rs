//! What a command has at hand: the name it was called by, the global options, the client of the
//! engine, the configuration file.

use std::cell::OnceCell;
use std::path::PathBuf;

use wharf_api::client::Client;

use crate::config::ConfigFile;
use crate::engine;
use crate::error::CliError;
use crate::flags::{Flag, Parsed};

/// The flags before the verb.
pub(crate) const GLOBAL_FLAGS: &[Flag] = &[
    Flag::string("config", "Directory of the configuration file").default("\"~/.docker\""),
    Flag::string("context", "Context whose engine to use").short('c'),
    Flag::switch("debug", "Print what is sent and answered").short('D'),
    Flag::list("host", "Address of the engine, unix:///PATH or tcp://HOST:PORT").short('H'),
    Flag::string(
        "log-level",
        "Least severe messages to print (debug, info, warn, error, fatal)",
    )
    .short('l')
    .default("\"info\""),
    Flag::switch("tls", "Talk TLS to the engine"),
    Flag::string("tlscacert", "File of the authority to trust"),
    Flag::string("tlscert", "File of the client's certificate"),
    Flag::string("tlskey", "File of the client's key"),
    Flag::switch("tlsverify", "Talk TLS to the engine and verify it"),
    Flag::switch("version", "Print the version and quit").short('v'),
];

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that the program was called by: `wharf`, or `docker` through a link.
    pub(crate) program: String,
    /// The name that the verb was called by.
    pub(crate) verb: String,
    globals: Parsed,
    config: OnceCell<ConfigFile>,
}

impl Session {
    /// A session with the flags given before the verb.
    pub(crate) fn new(program: String, verb: String, globals: Parsed) -> Self {
        Self {
            program,
            verb,
            globals,
            config: OnceCell::new(),
        }
    }

    /// The client of the engine; starts the default engine when none listens.
    pub(crate) async fn client(&self) -> Result<Client, CliError> {
        engine::refuse_tls(&self.globals)?;
        let endpoint = engine::choose(&self.globals)?;
        if endpoint.is_default() {
            engine::ensure_running(endpoint.address()).await?;
        }
        let client = Client::with_headers(endpoint.into_address(), self.config().http_headers().collect());
        if let Ok(version) = std::env::var("DOCKER_API_VERSION")
            && let Ok(version) = version.trim_start_matches('v').parse()
        {
            client.pin_version(version);
        }
        Ok(client)
    }

    /// Docker's configuration file; an empty one when there is none.
    pub(crate) fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| ConfigFile::load(&self.config_dir()))
    }

    /// The directory of the configuration file.
    pub(crate) fn config_dir(&self) -> PathBuf {
        if let Some(dir) = self.globals.last("config") {
            return PathBuf::from(dir);
        }
        match std::env::var_os("DOCKER_CONFIG") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => home_dir().join(".docker"),
        }
    }

    /// Prints a warning.
    pub(crate) fn warn(&self, text: &str) {
        eprintln!("WARNING: {text}");
    }
}

/// The user's home directory, `/` without one.
pub(crate) fn home_dir() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}
