//! Swarm and plugins: what an engine outside a swarm, without plugins, answers.

use hyper::{Method, StatusCode};

use crate::http::route::{Lifetime, Route};
use crate::http::{Failure, Outcome, Reply, Request};

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
    to connect this node to swarm and try again.";

/// Routes that need a swarm, and the plugin routes.
pub(super) fn all() -> Vec<Route> {
    let mut all: Vec<Route> = SWARM_ROUTES
        .iter()
        .map(|(method, pattern)| {
            Route::new(method.clone(), pattern, Lifetime::WithClient, |request| {
                Box::pin(refuse(request))
            })
        })
        .collect();
    all.extend(routes! {
        POST "/swarm/init" WithClient => unsupported_swarm;
        POST "/swarm/join" WithClient => unsupported_swarm;
        GET "/plugins" WithClient => list_plugins;
        GET "/plugins/privileges" WithClient => unsupported_plugins;
        POST "/plugins/pull" WithClient => unsupported_plugins;
        POST "/plugins/create" WithClient => unsupported_plugins;
        GET "/plugins/{name...}/json" WithClient => no_plugin;
        POST "/plugins/{name...}/enable" WithClient => no_plugin;
        POST "/plugins/{name...}/disable" WithClient => no_plugin;
        POST "/plugins/{name...}/upgrade" WithClient => no_plugin;
        POST "/plugins/{name...}/push" WithClient => no_plugin;
        POST "/plugins/{name...}/set" WithClient => no_plugin;
        DELETE "/plugins/{name...}" WithClient => no_plugin;
    });
    all
}

const SWARM_ROUTES: [(Method, &str); 28] = [
    (Method::GET, "/swarm"),
    (Method::POST, "/swarm/leave"),
    (Method::POST, "/swarm/update"),
    (Method::GET, "/swarm/unlockkey"),
    (Method::POST, "/swarm/unlock"),
    (Method::GET, "/nodes"),
    (Method::GET, "/nodes/{id}"),
    (Method::DELETE, "/nodes/{id}"),
    (Method::POST, "/nodes/{id}/update"),
    (Method::GET, "/services"),
    (Method::POST, "/services/create"),
    (Method::GET, "/services/{id}"),
    (Method::DELETE, "/services/{id}"),
    (Method::POST, "/services/{id}/update"),
    (Method::GET, "/services/{id}/logs"),
    (Method::GET, "/tasks"),
    (Method::GET, "/tasks/{id}"),
    (Method::GET, "/tasks/{id}/logs"),
    (Method::GET, "/secrets"),
    (Method::POST, "/secrets/create"),
    (Method::GET, "/secrets/{id}"),
    (Method::DELETE, "/secrets/{id}"),
    (Method::POST, "/secrets/{id}/update"),
    (Method::GET, "/configs"),
    (Method::POST, "/configs/create"),
    (Method::GET, "/configs/{id}"),
    (Method::DELETE, "/configs/{id}"),
    (Method::POST, "/configs/{id}/update"),
];

/// 503, in the words that clients know.
pub(crate) async fn refuse(_request: Request) -> Outcome {
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM))
}

async fn unsupported_swarm(_request: Request) -> Outcome {
    Err(Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "swarm mode is not supported by this engine",
    ))
}

async fn list_plugins(_request: Request) -> Outcome {
    Reply::json::<[wharf_api::types::PluginSummary]>(&[])
}

async fn no_plugin(request: Request) -> Outcome {
    Err(Failure::not_found(format!(
        "plugin {:?} not found",
        request.path("name")
    )))
}

async fn unsupported_plugins(_request: Request) -> Outcome {
    Err(Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "managed plugins are not supported by this engine",
    ))
}
