//! `/volumes`.

use hyper::StatusCode;
use wharf_api::types as wire;
use wharf_engine::volumes::{NewVolume, PruneScope};

use super::swarm;
use crate::convert::{filters, volume};
use crate::http::{Outcome, Reply, Request};

/// `GET /volumes`
pub(crate) async fn list(request: Request) -> Outcome {
    let found = request
        .app
        .engine
        .volumes()
        .list(&filters::from_query(&request.query)?)
        .await?;
    let list = wire::VolumeList {
        volumes: Some(found.volumes.into_iter().map(volume::to_wire).collect()),
        warnings: Some(found.warnings).filter(|list| !list.is_empty()),
    };
    Reply::json(&list)
}

/// `GET /volumes/{name}`
pub(crate) async fn inspect(request: Request) -> Outcome {
    let found = request.app.engine.volumes().inspect(request.path("name")).await?;
    Reply::json(&volume::to_wire(found))
}

/// `POST /volumes/create`: 201 also for a volume that is there already.
pub(crate) async fn create(mut request: Request) -> Outcome {
    let wanted: wire::VolumeCreateRequest = request.json().await?.unwrap_or_default();
    let new = NewVolume {
        anonymous: false,
        name: wanted.name,
        driver: wanted.driver,
        options: wanted.driver_opts,
        labels: wanted.labels,
    };
    let made = request.app.engine.volumes().ensure(new).await?;
    Reply::json_with(StatusCode::CREATED, &volume::to_wire(made))
}

/// `PUT /volumes/{name}`: cluster volumes only, so there is nothing to update outside a swarm.
pub(crate) async fn update(request: Request) -> Outcome {
    swarm::refuse(request).await
}

/// `DELETE /volumes/{name}`
pub(crate) async fn remove(request: Request) -> Outcome {
    let force = request.query.flag("force");
    request.app.engine.volumes().remove(request.path("name"), force).await?;
    Ok(Reply::no_content())
}

/// `POST /volumes/prune`. Before API 1.42 named volumes went too.
pub(crate) async fn prune(request: Request) -> Outcome {
    let scope = if request.version.at_least(42) {
        PruneScope::Anonymous
    } else {
        PruneScope::All
    };
    let report = request
        .app
        .engine
        .volumes()
        .prune(&filters::from_query(&request.query)?, scope)
        .await?;
    let answer = wire::VolumesPruneResponse {
        volumes_deleted: Some(report.deleted).filter(|list| !list.is_empty()),
        space_reclaimed: report.space_reclaimed,
    };
    Reply::json(&answer)
}
