//! The instance's nftables table, `inet <instance>`.
//!
//! The rules are always the same ([`ruleset`]); networks and published ports
//! are elements of its sets and maps ([`elements`]). Both are pure values;
//! [`wire`] turns them into one transaction.
//!
//! # Published ports and the host's firewall
//! Our chains only translate and drop. They accept nothing on behalf of other
//! tables: an `accept` in nftables ends the evaluation of its own base chain
//! only, so a `drop` in the host's own `forward` chain (nftables, firewalld,
//! ufw, iptables) still decides over every published port, and a port that is
//! published on loopback or taken up by the proxy goes through the host's
//! `input` chain like any other service.
//!
//! # Order of decisions in `forward`
//! Replies go through; then containers of one network among themselves (unless
//! icc is off); then internal networks are closed in both directions; then what
//! a published port translated goes in; everything else towards a bridge is
//! dropped: other bridges, and neighbours that route to a container directly.

pub(crate) mod conntrack;
pub(crate) mod elements;
pub(crate) mod ruleset;
mod wire;

use std::io;
use std::net::Ipv4Addr;

use crate::model::Protocol;
use crate::netlink::{BatchError, Family, Socket};
use elements::Element;
use ruleset::Ruleset;

/// Table in a container's namespace that leads port 53 to the name service.
const RESOLVER_TABLE: &str = "wharf_resolver";

/// Makes port 53 of the resolver's address mean these ports, in the calling
/// thread's namespace. The sockets cannot be bound to 53 itself: a container
/// that serves names on every address could not bind its own any more.
pub(crate) fn alias_resolver(address: Ipv4Addr, udp: u16, tcp: u16) -> Result<(), BatchError> {
    let mut socket = Socket::open(Family::Netfilter).map_err(|source| BatchError { index: None, source })?;
    let mut messages = vec![wire::add_table(RESOLVER_TABLE), wire::delete_table(RESOLVER_TABLE)];
    messages.extend([wire::add_table(RESOLVER_TABLE), wire::add_output_filter(RESOLVER_TABLE)]);
    messages.extend(wire::add_port_alias(RESOLVER_TABLE, address, Protocol::Udp, udp));
    messages.extend(wire::add_port_alias(RESOLVER_TABLE, address, Protocol::Tcp, tcp));
    socket.transaction(&wire::begin(), &messages, &wire::end())
}

/// Changes the table of one instance.
#[derive(Debug)]
pub(crate) struct Firewall {
    socket: Socket,
    table: String,
}

impl Firewall {
    /// Opens a socket in the calling thread's namespace; changes nothing.
    pub(crate) fn open(table: &str) -> io::Result<Firewall> {
        Ok(Firewall {
            socket: Socket::open(Family::Netfilter)?,
            table: table.to_owned(),
        })
    }

    /// Replaces the whole table in one transaction.
    pub(crate) fn replace(&mut self, elements: &[Element]) -> Result<(), BatchError> {
        let ruleset = Ruleset::standard(&self.table);
        let mut messages = vec![wire::add_table(&self.table), wire::delete_table(&self.table)];
        messages.extend(wire::add_ruleset(&ruleset));
        messages.extend(wire::add_elements(&self.table, elements));
        self.commit(&messages)
    }

    /// Takes elements out and puts others in, in one transaction.
    pub(crate) fn change(&mut self, removed: &[Element], added: &[Element]) -> Result<(), BatchError> {
        let mut messages = wire::delete_elements(&self.table, removed);
        messages.extend(wire::add_elements(&self.table, added));
        if messages.is_empty() {
            Ok(())
        } else {
            self.commit(&messages)
        }
    }

    /// Removes the table; gone already is fine.
    pub(crate) fn remove(&mut self) -> Result<(), BatchError> {
        // ORDER: made first, so that deleting what does not exist is no error.
        self.commit(&[wire::add_table(&self.table), wire::delete_table(&self.table)])
    }

    fn commit(&mut self, messages: &[crate::netlink::Message]) -> Result<(), BatchError> {
        self.socket.transaction(&wire::begin(), messages, &wire::end())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::elements::{network_elements, port_element};
    use super::*;
    use crate::model::{NetworkRequest, PublishedPort};
    use crate::plan::{Surroundings, plan_network};

    #[test]
    fn the_ruleset_is_the_same_for_every_instance_but_for_its_name() {
        insta::assert_snapshot!(Ruleset::standard("wharf"));
    }

    fn text(elements: &[Element]) -> String {
        elements.iter().map(|element| format!("{element}\n")).collect()
    }

    fn elements_of(change: impl FnOnce(&mut NetworkRequest)) -> String {
        let mut request = NetworkRequest {
            id: "0123456789abcdef".repeat(4),
            name: "n".to_owned(),
            ..NetworkRequest::default()
        };
        request.enable_ipv6 = Some(true);
        change(&mut request);
        text(&network_elements(
            &plan_network("wharf", &request, &Surroundings::default()).expect("a valid request"),
        ))
    }

    #[test]
    fn networks_are_elements_of_sets() {
        let option = |option: &str| (format!("com.docker.network.bridge.{option}"), "false".to_owned());
        let all = [
            ("plain", elements_of(|_| {})),
            ("internal", elements_of(|request| request.internal = true)),
            (
                "without icc",
                elements_of(|request| request.options.extend([option("enable_icc")])),
            ),
            (
                "without masquerade",
                elements_of(|request| request.options.extend([option("enable_ip_masquerade")])),
            ),
        ];
        let all: String = all.iter().map(|(name, text)| format!("# {name}\n{text}")).collect();
        insta::assert_snapshot!(all);
    }

    #[test]
    fn published_ports_are_elements_of_maps_where_the_kernel_can_carry_them() {
        let check = |host_ip: &str, target: &str, expected: Option<&str>| {
            let port = PublishedPort {
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: host_ip.parse().expect("an address"),
                host_port: 8080,
            };
            let target: IpAddr = target.parse().expect("an address");
            assert_eq!(
                port_element(&port, target)
                    .map(|element| element.to_string())
                    .as_deref(),
                expected,
                "{host_ip}"
            );
        };
        check(
            "0.0.0.0",
            "172.17.0.2",
            Some("publish_any4 { tcp . 8080 : 172.17.0.2 . 80 }"),
        );
        check(
            "192.0.2.1",
            "172.17.0.2",
            Some("publish4 { 192.0.2.1 . tcp . 8080 : 172.17.0.2 . 80 }"),
        );
        check("::", "fd00::2", Some("publish_any6 { tcp . 8080 : fd00::2 . 80 }"));
        check(
            "2001:db8::1",
            "fd00::2",
            Some("publish6 { 2001:db8::1 . tcp . 8080 : fd00::2 . 80 }"),
        );
        check("127.0.0.1", "172.17.0.2", None);
        check("::1", "fd00::2", None);
        check("::", "172.17.0.2", None);
    }
}
