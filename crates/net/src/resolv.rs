//! Content of `/etc/resolv.conf`, by Docker's rules.

use std::net::IpAddr;

use crate::error::NetError;
use crate::model::Upstream;
use crate::namespace::RESOLVER_ADDRESS;

const HOST_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved lists the servers behind its stub.
const SYSTEMD_FILE: &str = "/run/systemd/resolve/resolv.conf";
const SYSTEMD_STUB: &str = "127.0.0.53";
/// COMPAT: what Docker falls back to when the host has no server a container can reach.
const FALLBACK_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

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

/// The parts of a file that count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => settings.servers.extend(words.next().map(str::to_owned)),
            // The last of them wins, and `domain` is a search list of one.
            Some("search" | "domain") => settings.search = words.map(str::to_owned).collect(),
            Some("options") => settings.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    settings
}

/// A server's address without an IPv6 zone, which only its host knows.
fn address_of(server: &str) -> Option<IpAddr> {
    server.split('%').next()?.parse().ok()
}

/// Plans the file; an address that does not parse is an error.
pub fn resolv_conf(mode: ResolvMode, request: &ResolvRequest) -> Result<ResolvConf, NetError> {
    if let Some(wrong) = request.servers.iter().find(|server| address_of(server).is_none()) {
        return Err(NetError::InvalidAddress { text: wrong.clone() });
    }
    let host = parse(&request.host_file);
    let mut settings = overridden(host, request);
    let mut upstream = Vec::new();
    match mode {
        ResolvMode::Host => {}
        ResolvMode::Copy if request.servers.is_empty() => keep_reachable(&mut settings, request.has_ipv6),
        ResolvMode::Copy => {}
        ResolvMode::NameService => {
            upstream = plan_upstream(&settings.servers, !request.servers.is_empty());
            settings.servers = vec![RESOLVER_ADDRESS.to_string()];
            if !settings.options.iter().any(|option| option.starts_with("ndots:")) {
                settings.options.push("ndots:0".to_owned());
            }
        }
    }
    Ok(ResolvConf {
        content: write(&settings),
        upstream,
    })
}

/// What the user says replaces what the host has, kind by kind.
fn overridden(host: Settings, request: &ResolvRequest) -> Settings {
    let pick = |mine: &[String], hosts: Vec<String>| if mine.is_empty() { hosts } else { mine.to_vec() };
    let mut settings = Settings {
        servers: pick(&request.servers, host.servers),
        search: pick(&request.search, host.search),
        options: pick(&request.options, host.options),
    };
    settings.search.retain(|domain| domain != ".");
    settings
}

fn keep_reachable(settings: &mut Settings, has_ipv6: bool) {
    let is_reachable = |address: IpAddr| !address.is_loopback() && (has_ipv6 || address.is_ipv4());
    settings
        .servers
        .retain(|server| address_of(server).is_some_and(is_reachable));
    if settings.servers.is_empty() {
        settings.servers = FALLBACK_SERVERS.map(str::to_owned).to_vec();
    }
}

/// The host's loopback servers can be asked from the host only; all others are
/// asked from the container, whose network decides whether they are reachable.
fn plan_upstream(servers: &[String], chosen_by_user: bool) -> Vec<Upstream> {
    let addresses = servers.iter().filter_map(|server| address_of(server));
    addresses
        .map(|address| Upstream {
            address,
            from_host: !chosen_by_user && address.is_loopback(),
        })
        .collect()
}

fn write(settings: &Settings) -> String {
    let mut text = String::from("# Generated by Wharf from the host's file and the container's options.\n");
    settings
        .servers
        .iter()
        .for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    for (keyword, words) in [("search", &settings.search), ("options", &settings.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

/// The host's resolv.conf; when that names only systemd-resolved's stub, the
/// file with its real servers. A missing file is an empty one.
pub fn read_host_file() -> String {
    let own = std::fs::read_to_string(HOST_FILE).unwrap_or_default();
    if parse(&own).servers != [SYSTEMD_STUB] {
        return own;
    }
    std::fs::read_to_string(SYSTEMD_FILE).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# a comment\nnameserver 127.0.0.1\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\n\
        domain old.test\nsearch corp.test lab.test\noptions edns0 trust-ad\n";

    fn request(change: impl FnOnce(&mut ResolvRequest)) -> ResolvRequest {
        let mut request = ResolvRequest {
            host_file: HOST.to_owned(),
            ..ResolvRequest::default()
        };
        change(&mut request);
        request
    }

    fn lines(mode: ResolvMode, request: &ResolvRequest) -> Vec<String> {
        let content = resolv_conf(mode, request).unwrap().content;
        content
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_copy_drops_servers_a_container_cannot_reach() {
        let expected = [
            "nameserver 10.0.0.53",
            "search corp.test lab.test",
            "options edns0 trust-ad",
        ];
        assert_eq!(lines(ResolvMode::Copy, &request(|_| {})), expected);
        let with_ipv6 = lines(ResolvMode::Copy, &request(|request| request.has_ipv6 = true));
        assert!(with_ipv6.contains(&"nameserver fe80::1%eth0".to_owned()));
        let stub = request(|request| request.host_file = "nameserver 127.0.0.53\n".to_owned());
        assert_eq!(
            lines(ResolvMode::Copy, &stub),
            ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
        );
    }

    #[test]
    fn the_users_settings_replace_the_hosts_kind_by_kind() {
        let mine = request(|request| {
            request.servers = words(&["9.9.9.9"]);
            request.search = words(&["."]);
            request.options = words(&["ndots:3"]);
        });
        assert_eq!(
            lines(ResolvMode::Copy, &mine),
            ["nameserver 9.9.9.9", "options ndots:3"]
        );
        assert_eq!(
            lines(ResolvMode::Host, &mine),
            ["nameserver 9.9.9.9", "options ndots:3"]
        );
    }

    #[test]
    fn the_name_service_stands_in_for_every_server_and_forwards_to_them() {
        let conf = resolv_conf(ResolvMode::NameService, &request(|_| {})).unwrap();
        let upstream: Vec<(String, bool)> = conf
            .upstream
            .iter()
            .map(|server| (server.address.to_string(), server.from_host))
            .collect();
        let expected = [
            ("127.0.0.1".to_owned(), true),
            ("10.0.0.53".to_owned(), false),
            ("fe80::1".to_owned(), false),
        ];
        assert_eq!(upstream, expected);
        let expected = [
            "nameserver 127.0.0.11",
            "search corp.test lab.test",
            "options edns0 trust-ad ndots:0",
        ];
        assert_eq!(lines(ResolvMode::NameService, &request(|_| {})), expected);

        let mine = request(|request| {
            request.servers = words(&["127.0.0.1"]);
            request.options = words(&["ndots:2"]);
        });
        assert!(!resolv_conf(ResolvMode::NameService, &mine).unwrap().upstream[0].from_host);
        assert!(lines(ResolvMode::NameService, &mine).contains(&"options ndots:2".to_owned()));
    }

    #[test]
    fn the_host_mode_keeps_the_hosts_servers() {
        let kept = lines(ResolvMode::Host, &request(|_| {}));
        assert_eq!(
            kept[..3],
            [
                "nameserver 127.0.0.1",
                "nameserver 10.0.0.53",
                "nameserver fe80::1%eth0"
            ]
        );
    }

    #[test]
    fn a_server_that_is_no_address_is_refused() {
        let wrong = request(|request| request.servers = words(&["resolver.test"]));
        assert!(matches!(
            resolv_conf(ResolvMode::Copy, &wrong),
            Err(NetError::InvalidAddress { .. })
        ));
    }
}
