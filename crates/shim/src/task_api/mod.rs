//! The protocol between containerd and the shims of containers, both sides' share of it.
//!
//! ```text
//! frame      10 bytes of header, then data: what goes over the socket (ttrpc)
//! connection frames come and go without blocking
//! proto      protobuf's encoding, for messages declared with `message!`
//! envelope   request and response of a call, and what an error is
//! messages   the task service, version 2 and 3 (they differ in name only), and its events
//! metrics    what the task service measures, for cgroup version 1 and 2
//! ```
//! Written after containerd's `api/` and ttrpc's `PROTOCOL.md`. Only unary calls: the task service has no others.

pub(crate) mod connection;
pub(crate) mod envelope;
pub(crate) mod frame;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod proto;
