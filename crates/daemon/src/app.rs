//! What every request handler shares.

use std::sync::atomic::{AtomicU64, Ordering};

use wharf_engine::Engine;

use crate::http::route::Router;
use crate::routes;

/// The daemon's state: the engine and the way to its handlers.
pub(crate) struct App {
    /// The engine behind the routes.
    pub(crate) engine: Engine,
    /// Every route.
    pub(crate) router: Router,
    requests: AtomicU64,
}

impl App {
    /// The application over a started engine.
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            router: Router::new(routes::all()),
            requests: AtomicU64::new(0),
        }
    }

    /// A number for the next request, for the log.
    pub(crate) fn next_request_id(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}
