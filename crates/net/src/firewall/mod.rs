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

pub(crate) mod elements;
pub(crate) mod ruleset;
mod wire;

use std::io;

use crate::netlink::{BatchError, Family, Socket};
use elements::Element;
use ruleset::Ruleset;

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
