//! `/images`: what is here. Transfers are in `transfer`.

use hyper::StatusCode;
use serde_json::json;
use wharf_api::types as wire;
use wharf_engine::images::SharedSizes;
use wharf_engine::store::Platform;

use crate::convert::{filters, image};
use crate::http::{Failure, Outcome, Query, Reply, Request};

/// `GET /images/json`
pub(crate) async fn list(request: Request) -> Outcome {
    let query = &request.query;
    let mut filters = filters::from_query(query)?;
    // COMPAT: before API 1.25 a parameter of its own stood for the reference filter.
    if !request.version.at_least(25)
        && let Some(name) = query.nonempty("filter")
    {
        filters.insert("reference", name);
    }
    let shared = if query.flag("shared-size") {
        SharedSizes::Sum
    } else {
        SharedSizes::Skip
    };
    let manifests = query.flag("manifests") && request.version.at_least(47);
    let listed = request.app.engine.images().list(&filters, shared).await?;
    let summary = |listed| {
        let mut summary = image::summary_to_wire(listed, request.version);
        if manifests {
            summary.manifests = image::manifests_to_wire(&listed.image);
        }
        summary
    };
    let list: Vec<_> = listed.iter().map(summary).collect();
    Reply::json(&list)
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(request: Request) -> Outcome {
    let query = &request.query;
    let found = request.app.engine.images().find(request.path("name")).await?;
    let manifests = query.flag("manifests") && request.version.at_least(48);
    let platform = json_platform(query)?;
    if manifests && platform.is_some() {
        return Err(Failure::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let content = found.platform(platform.as_ref()).map_err(wharf_engine::Error::from)?;
    let mut answer = image::inspect_to_wire(&found, content, request.version);
    if manifests {
        answer["Manifests"] = json!(image::manifests_to_wire(&found));
    }
    Reply::json(&answer)
}

/// `GET /images/{name}/history`
pub(crate) async fn history(request: Request) -> Outcome {
    let platform = json_platform(&request.query)?;
    let rows = request
        .app
        .engine
        .images()
        .history(request.path("name"), platform)
        .await?;
    let list: Vec<_> = rows.iter().map(image::history_to_wire).collect();
    Reply::json(&list)
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(request: Request) -> Outcome {
    let (repository, tag) = (request.query.text("repo"), request.query.text("tag"));
    request
        .app
        .engine
        .images()
        .tag(request.path("name"), repository, tag)
        .await?;
    Ok(Reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(request: Request) -> Outcome {
    let name = request.path("name");
    if name.trim().is_empty() {
        return Err(Failure::invalid("image name cannot be blank"));
    }
    let removed = request
        .app
        .engine
        .images()
        .remove(name, request.query.flag("force"))
        .await?;
    let list: Vec<_> = removed.iter().map(image::removed_to_wire).collect();
    Reply::json(&list)
}

/// `POST /images/prune`
pub(crate) async fn prune(request: Request) -> Outcome {
    let report = request
        .app
        .engine
        .images()
        .prune(&filters::from_query(&request.query)?)
        .await?;
    let deleted: Vec<_> = report.removed.iter().map(image::removed_to_wire).collect();
    let answer = wire::ImagesPruneResponse {
        images_deleted: Some(deleted).filter(|list| !list.is_empty()),
        space_reclaimed: report.space_reclaimed,
    };
    Reply::json(&answer)
}

/// `GET /images/search`
pub(crate) async fn search(_request: Request) -> Outcome {
    Err(Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "searching a registry is not supported by this engine",
    ))
}

/// The `platform` of reads and transfers: an OCI platform as JSON.
pub(super) fn json_platform(query: &Query) -> Result<Option<Platform>, Failure> {
    let Some(text) = query.nonempty("platform") else {
        return Ok(None);
    };
    let platform: Platform = serde_json::from_str(&text)
        .map_err(|error| Failure::invalid(format!("failed to parse platform {text:?}: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Failure::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(platform))
}
