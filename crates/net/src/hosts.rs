//! Content of `/etc/hosts` and `/etc/hostname`.

use std::fmt::Write;
use std::net::IpAddr;

use crate::error::NetError;

/// The word that stands for the host's address in an extra host.
const HOST_GATEWAY: &str = "host-gateway";

const LOOPBACK: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// What `/etc/hosts` is made of.
#[derive(Debug, Clone, Default)]
pub struct HostsFile {
    /// The host's own file, for `--network host`; `None` begins with loopback's names.
    pub host_file: Option<String>,
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
    /// Other containers: an address and its names.
    pub linked: Vec<(IpAddr, String)>,
}

/// Text of `/etc/hosts`; an extra host that does not parse is an error.
pub fn hosts_file(parts: &HostsFile) -> Result<String, NetError> {
    let mut text = parts.host_file.clone().unwrap_or_else(|| LOOPBACK.to_owned());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for extra in &parts.extra_hosts {
        let (name, addresses) = parse_extra_host(extra, &parts.host_gateway)?;
        addresses.iter().for_each(|address| add_line(&mut text, address, name));
    }
    parts
        .linked
        .iter()
        .for_each(|(address, names)| add_line(&mut text, address, names));
    let names = match parts.domainname.as_str() {
        "" => parts.hostname.clone(),
        domain => format!("{host}.{domain} {host}", host = parts.hostname),
    };
    parts
        .addresses
        .iter()
        .for_each(|address| add_line(&mut text, address, &names));
    Ok(text)
}

fn add_line(text: &mut String, address: &IpAddr, names: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{address}\t{names}");
}

fn parse_extra_host<'a>(extra: &'a str, host_gateway: &[IpAddr]) -> Result<(&'a str, Vec<IpAddr>), NetError> {
    let invalid = || NetError::InvalidExtraHost { text: extra.to_owned() };
    let (name, address) = extra.split_once(['=', ':']).ok_or_else(invalid)?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(invalid());
    }
    if address == HOST_GATEWAY {
        return match host_gateway {
            [] => Err(NetError::NoHostGateway),
            addresses => Ok((name, addresses.to_vec())),
        };
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    Ok((name, vec![bare.parse().map_err(|_| invalid())?]))
}

/// Text of `/etc/hostname`.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(hosts: &[&str]) -> HostsFile {
        HostsFile {
            host_file: Some(String::new()),
            extra_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            host_gateway: vec!["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ..HostsFile::default()
        }
    }

    #[test]
    fn extra_hosts_stand_between_loopback_and_the_containers_own_lines() {
        let text = hosts_file(&HostsFile {
            hostname: "web".to_owned(),
            domainname: "corp.test".to_owned(),
            addresses: vec!["172.17.0.2".parse().unwrap()],
            extra_hosts: vec!["db:10.0.0.1".to_owned()],
            ..HostsFile::default()
        });
        let text = text.unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.ends_with("ff02::2\tip6-allrouters\n10.0.0.1\tdb\n172.17.0.2\tweb.corp.test web\n"));
    }

    #[test]
    fn every_form_of_extra_host_is_read() {
        let check = |host: &str, expected: &str| assert_eq!(hosts_file(&extra(&[host])).unwrap(), expected, "{host}");
        check("a:1.2.3.4", "1.2.3.4\ta\n");
        check("a=1.2.3.4", "1.2.3.4\ta\n");
        check("a:::1", "::1\ta\n");
        check("a:[::1]", "::1\ta\n");
        check("self:host-gateway", "172.17.0.1\tself\nfd00::1\tself\n");
    }

    #[test]
    fn extra_hosts_that_make_no_sense_are_refused() {
        for host in ["", "a", "a:", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:1.2.3.4\nb"] {
            assert!(
                matches!(hosts_file(&extra(&[host])), Err(NetError::InvalidExtraHost { .. })),
                "{host:?}"
            );
        }
        let without = HostsFile {
            host_gateway: Vec::new(),
            ..extra(&["a:host-gateway"])
        };
        assert!(matches!(hosts_file(&without), Err(NetError::NoHostGateway)));
    }

    #[test]
    fn linked_containers_are_named() {
        let parts = HostsFile {
            linked: vec![("172.17.0.5".parse().unwrap(), "store 3ab db".to_owned())],
            ..extra(&["a:1.2.3.4"])
        };
        assert_eq!(hosts_file(&parts).unwrap(), "1.2.3.4\ta\n172.17.0.5\tstore 3ab db\n");
    }

    #[test]
    fn the_hosts_file_of_the_host_is_kept_whole() {
        let parts = HostsFile {
            host_file: Some("127.0.0.1 localhost\n127.0.1.1 machine".to_owned()),
            ..extra(&["a:1.2.3.4"])
        };
        assert_eq!(
            hosts_file(&parts).unwrap(),
            "127.0.0.1 localhost\n127.0.1.1 machine\n1.2.3.4\ta\n"
        );
    }
}
