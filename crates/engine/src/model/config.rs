//! What a container runs: the portable half of its configuration.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The portable configuration of a container, after merging the image's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Host name; empty means the short id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// The creator meant to attach stdin.
    pub attach_stdin: bool,
    /// The creator meant to attach stdout.
    pub attach_stdout: bool,
    /// The creator meant to attach stderr.
    pub attach_stderr: bool,
    /// `port/proto` set.
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Give the process a terminal.
    pub tty: bool,
    /// Keep stdin open even when nobody is attached.
    pub open_stdin: bool,
    /// Close stdin after the first attached client left.
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Command, or arguments of the entry point.
    pub cmd: Option<Vec<String>>,
    /// Health check; `None` means the image's.
    pub healthcheck: Option<HealthConfig>,
    /// Windows only; kept because clients echo it.
    pub args_escaped: bool,
    /// The image as the client named it.
    pub image: String,
    /// Paths that get an anonymous volume.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory; empty means `/`.
    pub working_dir: String,
    /// Entry point.
    pub entrypoint: Option<Vec<String>>,
    /// No network at all.
    pub network_disabled: bool,
    /// Container-wide MAC address (API up to 1.43).
    pub mac_address: String,
    /// Build triggers of the image.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that `stop` sends; empty means the image's or SIGTERM.
    pub stop_signal: String,
    /// Seconds that `stop` waits; `None` means 10.
    pub stop_timeout: Option<i64>,
    /// Shell of the shell forms.
    pub shell: Option<Vec<String>>,
}

/// The value of a JSON set (`{"80/tcp":{}}`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A health check. Times in nanoseconds, zero means inherited or default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", ...]`, `["CMD-SHELL", "..."]`.
    pub test: Option<Vec<String>>,
    /// Between probes (default 30 s).
    pub interval: i64,
    /// Of one probe (default 30 s).
    pub timeout: i64,
    /// Failures that do not count after a start (default 0).
    pub start_period: i64,
    /// Between probes during the start period (default 5 s).
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy (default 3).
    pub retries: i64,
}

impl HealthConfig {
    /// Whether it says that there is to be no check.
    pub fn is_disabled(&self) -> bool {
        self.test
            .as_ref()
            .is_some_and(|t| t.first().is_some_and(|w| w == "NONE"))
    }

    /// Whether it names a command to run.
    pub fn has_test(&self) -> bool {
        self.test.as_ref().is_some_and(|t| !t.is_empty()) && !self.is_disabled()
    }
}
