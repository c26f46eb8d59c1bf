//! `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.

use hyper::StatusCode;

use crate::http::serve::with_ping_headers;
use crate::http::{Outcome, Reply, Request};

/// Plain text, as Go's `_ping` answers.
const TEXT: &str = "text/plain; charset=utf-8";

/// `GET /_ping`
pub(crate) async fn ping(_request: Request) -> Outcome {
    Ok(with_ping_headers(Reply::whole(StatusCode::OK, TEXT, "OK")))
}

/// `HEAD /_ping`: the same headers, and a body that is said to be empty.
pub(crate) async fn head_ping(_request: Request) -> Outcome {
    Ok(with_ping_headers(Reply::whole(StatusCode::OK, TEXT, "")))
}
