//! `/networks`.

use hyper::StatusCode;
use wharf_api::types as wire;

use crate::convert::filters;
use crate::convert::network::{self, Members};
use crate::http::{Failure, Outcome, Reply, Request};

/// `GET /networks`. Lists told the containers until API 1.28.
pub(crate) async fn list(request: Request) -> Outcome {
    let networks = request
        .app
        .engine
        .networks()
        .list(&filters::from_query(&request.query)?)?;
    let members = if request.version.at_least(28) {
        Members::Left
    } else {
        Members::Told
    };
    let list: Vec<_> = networks.iter().map(|found| network::to_wire(found, members)).collect();
    Reply::json(&list)
}

/// `GET /networks/{id}`
pub(crate) async fn inspect(request: Request) -> Outcome {
    let scope = request.query.text("scope");
    let found = request.app.engine.networks().inspect(request.path("id"))?;
    if !["", "local"].contains(&scope) {
        return Err(Failure::not_found(format!("network {} not found", request.path("id"))));
    }
    Reply::json(&network::to_wire(&found, Members::Told))
}

/// `POST /networks/create`
pub(crate) async fn create(mut request: Request) -> Outcome {
    let template = wire::NetworkCreateRequest {
        ipam: Some(wire::Ipam::default()),
        config_from: Some(wire::ConfigReference::default()),
        ..wire::NetworkCreateRequest::default()
    };
    let wanted = request.json_like(&template).await?.unwrap_or_default();
    let id = request
        .app
        .engine
        .networks()
        .create(network::create_from_wire(wanted))
        .await?;
    let answer = wire::NetworkCreateResponse {
        id: id.to_string(),
        warning: String::new(),
    };
    Reply::json_with(StatusCode::CREATED, &answer)
}

/// `POST /networks/{id}/connect`
pub(crate) async fn connect(mut request: Request) -> Outcome {
    let template = wire::NetworkConnectRequest {
        endpoint_config: Some(wire::EndpointSettings::default()),
        ..wire::NetworkConnectRequest::default()
    };
    let wanted = request.json_like(&template).await?.unwrap_or_default();
    let settings = network::settings_from_wire(wanted.endpoint_config.unwrap_or_default());
    request
        .app
        .engine
        .networks()
        .connect(request.path("id"), &wanted.container, settings)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`
pub(crate) async fn disconnect(mut request: Request) -> Outcome {
    let wanted: wire::NetworkDisconnectRequest = request.json().await?.unwrap_or_default();
    request
        .app
        .engine
        .networks()
        .disconnect(request.path("id"), &wanted.container, wanted.force)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `DELETE /networks/{id}`
pub(crate) async fn remove(request: Request) -> Outcome {
    request.app.engine.networks().remove(request.path("id")).await?;
    Ok(Reply::no_content())
}

/// `POST /networks/prune`
pub(crate) async fn prune(request: Request) -> Outcome {
    let deleted = request
        .app
        .engine
        .networks()
        .prune(&filters::from_query(&request.query)?)
        .await?;
    let answer = wire::NetworksPruneResponse {
        networks_deleted: Some(deleted).filter(|list| !list.is_empty()),
    };
    Reply::json(&answer)
}
