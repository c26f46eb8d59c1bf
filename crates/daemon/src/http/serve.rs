//! From a parsed HTTP request to a reply: checks, routing, version, the handler's task.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HOST, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Version};
use percent_encoding::percent_decode_str;
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::route::{Lifetime, Matched};
use super::{ApiVersion, Failure, Outcome, Query, Reply, Request, query, version};
use crate::app::App;

/// Answers one request. Never fails: every failure is a reply.
pub(crate) async fn answer(app: Arc<App>, request: hyper::Request<Incoming>) -> Reply {
    let id = app.next_request_id();
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::debug_span!("request", id, %method, path);
    let engine = app.engine.clone();
    let reply = route(app, id, request).instrument(span).await;
    // A client may keep its connection for days.
    engine.worked();
    let (status, elapsed_ms) = (reply.status.as_u16(), started.elapsed().as_millis() as u64);
    if reply.status.is_server_error() {
        tracing::warn!(request = id, %method, path, status, elapsed_ms, "request failed");
    } else {
        tracing::debug!(request = id, %method, path, status, elapsed_ms, "request answered");
    }
    reply
}

async fn route(app: Arc<App>, id: u64, request: hyper::Request<Incoming>) -> Reply {
    if let Err(failure) = check_form(&request) {
        return failure.into();
    }
    if request.method() == Method::OPTIONS {
        return with_common_headers(Reply::empty(StatusCode::OK));
    }
    let decoded = match percent_decode_str(request.uri().path()).decode_utf8() {
        Ok(path) => path.into_owned(),
        Err(_) => return Failure::invalid("the path is not UTF-8").into(),
    };
    let mut segments: Vec<&str> = decoded.trim_start_matches('/').split('/').collect();
    let asked = segments.first().and_then(|first| version::from_segment(first));
    if asked.is_some() {
        segments.remove(0);
    }
    let Some(matched) = app.router.find(request.method(), &segments) else {
        return Failure::page_not_found().into();
    };
    let asked = asked.unwrap_or(ApiVersion::MAX);
    let refusal = version::refusal(asked).filter(|_| !version::is_tolerated(asked, &segments));
    let reply = match refusal {
        Some(words) => Failure::invalid(words).into(),
        None => handle(&app, id, request, asked, matched).await,
    };
    with_common_headers(reply)
}

/// Refuses what HTTP itself forbids and hyper lets through.
fn check_form(request: &hyper::Request<Incoming>) -> Result<(), Failure> {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        return Err(Failure::invalid("missing required Host header"));
    }
    if !query::percent_escapes_are_whole(request.uri().path()) {
        return Err(Failure::invalid(format!(
            "invalid URL escape in {:?}",
            request.uri().path()
        )));
    }
    Ok(())
}

async fn handle(
    app: &Arc<App>,
    id: u64,
    request: hyper::Request<Incoming>,
    version: ApiVersion,
    matched: Matched<'_>,
) -> Reply {
    let query = match Query::parse(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(failure) => return failure.into(),
    };
    let (parts, body) = request.into_parts();
    let request = Request::new(
        Arc::clone(app),
        version,
        query,
        (id, parts.headers, body),
        matched.parameters,
    );
    let handler = (matched.route.handler)(request);
    let task = Task(tokio::spawn(handler.in_current_span()), matched.route.lifetime);
    task.outcome().await.unwrap_or_else(Reply::from)
}

/// A handler at work: a panic stays inside, and its lifetime says what a vanished client does.
struct Task(JoinHandle<Outcome>, Lifetime);

impl Task {
    async fn outcome(mut self) -> Outcome {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => {
                tracing::error!("a request handler panicked; this is a bug");
                Err(Failure::internal(
                    "internal error: the request handler panicked; see the engine's log",
                ))
            }
            Err(_) => Err(Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the engine is shutting down",
            )),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.1 == Lifetime::WithClient {
            self.0.abort();
        }
    }
}

/// Adds what every known route answers with. COMPAT: unknown routes lack these.
fn with_common_headers(mut reply: Reply) -> Reply {
    let headers = &mut reply.headers;
    let api = HeaderValue::from_str(&ApiVersion::MAX.to_string()).expect("invariant: digits and a dot");
    headers.insert(HeaderName::from_static("api-version"), api);
    headers.insert(
        HeaderName::from_static("docker-experimental"),
        HeaderValue::from_static("false"),
    );
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    let server = HeaderValue::from_static(concat!("Wharf/", env!("CARGO_PKG_VERSION"), " (linux)"));
    headers.insert(hyper::header::SERVER, server);
    reply
}

/// The headers by which clients negotiate; only `_ping` sends them.
pub(crate) fn with_ping_headers(reply: Reply) -> Reply {
    reply
        .with_header(
            HeaderName::from_static("builder-version"),
            HeaderValue::from_static("1"),
        )
        .with_header(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"))
        .with_header(
            CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-store, must-revalidate"),
        )
        .with_header(hyper::header::PRAGMA, HeaderValue::from_static("no-cache"))
}
