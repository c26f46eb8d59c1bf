//! Content of `/etc/resolv.conf`, by Docker's rules.

use crate::error::NetError;
use crate::model::Upstream;

/// Which file a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolvMode {
    /// The host's own file (`--network host`), with the user's changes.
    Host,
    /// The host's file without servers the container cannot reach: default
    /// bridge and `none`.
    Copy,
    /// `nameserver 127.0.0.11`: at least one user network.
    NameService,
}

/// What `/etc/resolv.conf` is made of.
#[derive(Debug, Clone, Default)]
pub struct ResolvRequest {
    /// `--dns`
    pub servers: Vec<String>,
    /// `--dns-search`; a single `.` means none.
    pub search: Vec<String>,
    /// `--dns-option`
    pub options: Vec<String>,
    /// The host's file, see [`read_host_file`].
    pub host_file: String,
    /// Whether the container has IPv6 (decides over IPv6 servers).
    pub has_ipv6: bool,
}

/// The file and what the name service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Text of the file.
    pub content: String,
    /// Servers the name service forwards to ([`ResolvMode::NameService`] only).
    pub upstream: Vec<Upstream>,
}

/// Plans the file; an address that does not parse is an error.
pub fn resolv_conf(mode: ResolvMode, request: &ResolvRequest) -> Result<ResolvConf, NetError> {
    let _ = (mode, request);
    todo!()
}

/// The host's resolv.conf; when that names only systemd-resolved's stub, the
/// file with its real servers. A missing file is an empty one.
pub fn read_host_file() -> String {
    todo!()
}
