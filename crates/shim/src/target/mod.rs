//! A log's target beside its files: syslog, GELF, Fluentd, the journal.
//!
//! Owns: the plan of a target (what the engine decides), the formats, the bounded queue, the
//! connection. Does not own: the files of the log, and when descriptors are looked at.
//!
//! ```text
//! output of the process --> LineSplitter --> Queue (bounded, raw lines) --> Encode --> Outgoing --> Link
//!                                              | full: counted, said later                          |
//!                                              '---- waits while the target is away <---------------'
//! ```
//!
//! Nothing here blocks: sockets are non-blocking, names and TLS are left to a helper process, and
//! what the queue cannot hold is dropped and counted. The files of the log do not depend on it.

mod plan;

#[cfg(feature = "server")]
mod encode;
#[cfg(feature = "server")]
mod fluentd;
#[cfg(feature = "server")]
mod gelf;
#[cfg(feature = "server")]
mod journald;
#[cfg(feature = "server")]
mod lines;
#[cfg(feature = "server")]
mod link;
#[cfg(feature = "server")]
mod outgoing;
#[cfg(feature = "server")]
mod queue;
#[cfg(feature = "server")]
mod remote;
#[cfg(feature = "server")]
mod syslog;

#[cfg(feature = "server")]
pub use link::Wish;
pub use plan::{Address, Compression, Format, SyslogForm, TargetPlan, TlsPlan};
#[cfg(feature = "server")]
pub use remote::Remote;
