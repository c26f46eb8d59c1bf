//! Netlink by hand: the few messages this crate needs, without a dependency.
//!
//! A [`Message`] is built attribute by attribute, a [`Socket`] sends a batch of
//! them in one system call and reads all answers without waiting: the kernel
//! has processed a batch when the sending call returns.
//! [`route`] has the requests of rtnetlink; those of nftables are in
//! [`crate::firewall`].

mod message;
pub(crate) mod route;
mod socket;

pub(crate) use message::{Attributes, Message};
pub(crate) use socket::{BatchError, Family, Socket};
