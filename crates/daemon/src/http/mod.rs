//! The HTTP side of the daemon: what Docker's clients expect of the wire,
//! independent of what any route does.
//!
//! ```text
//!  connection ── serve ──> Router ── matched ──> version check ──> handler (its own task)
//!      │                     │ no match: 404 page not found            │
//!      │                     └ malformed path: 400                     ├─ Reply (buffered or streamed)
//!      └────────── takeover: the raw socket leaves HTTP <──────────────┘
//! ```

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod failure;
pub(crate) mod hijack;
pub(crate) mod json;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod route;
pub(crate) mod serve;
pub(crate) mod version;

pub(crate) use failure::Failure;
pub(crate) use query::Query;
pub(crate) use reply::Reply;
pub(crate) use request::Request;
pub(crate) use version::ApiVersion;

/// What every handler returns.
pub(crate) type Outcome = Result<Reply, Failure>;
