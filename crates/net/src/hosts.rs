//! Content of `/etc/hosts` and `/etc/hostname`.

use std::net::IpAddr;

use crate::error::NetError;

/// What `/etc/hosts` is made of.
#[derive(Debug, Clone, Default)]
pub struct HostsFile {
    /// The container's host name.
    pub hostname: String,
    /// Its domain, or empty.
    pub domainname: String,
    /// Its own addresses, one line each.
    pub addresses: Vec<IpAddr>,
    /// `--add-host` values: `name:address`, `name=address`; the address may
    /// be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// What `host-gateway` stands for; one entry per address.
    pub host_gateway: Vec<IpAddr>,
}

/// Text of `/etc/hosts`; an extra host that does not parse is an error.
pub fn hosts_file(parts: &HostsFile) -> Result<String, NetError> {
    let _ = parts;
    todo!()
}

/// Text of `/etc/hostname`.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}
