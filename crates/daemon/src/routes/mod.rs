//! Every route, in one table: method, path, what happens when the client goes away, handler.

use hyper::Method;

use crate::http::route::{Lifetime, Route};

/// `METHOD "pattern" lifetime => handler` lines to a list of routes.
macro_rules! routes {
    ($($method:ident $pattern:literal $lifetime:ident => $handler:path;)*) => {
        vec![$(Route::new(
            Method::$method,
            $pattern,
            Lifetime::$lifetime,
            |request| Box::pin($handler(request)),
        )),*]
    };
}

mod system;

/// The table. Order matters only where patterns overlap: literals come before names.
pub(crate) fn all() -> Vec<Route> {
    routes! {
        GET "/_ping" WithClient => system::ping;
        HEAD "/_ping" WithClient => system::head_ping;
    }
}
