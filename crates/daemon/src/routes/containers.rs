//! `/containers`: create, change, read. Streams and archives have files of their own.

use hyper::StatusCode;
use wharf_api::ApiVersion;
use wharf_api::types as wire;
use wharf_engine::model::ContainerRecord;
use wharf_engine::model::requests::{
    ChangeKind, CommitContainer, CreateContainer, ListContainers, RemoveOptions, StopOptions, UpdateContainer,
    WaitCondition,
};

use crate::app::App;
use crate::convert::{self, config, container, filters, host, network};
use crate::http::body::Body;
use crate::http::reply::JSON;
use crate::http::{Failure, Outcome, Reply, Request};

/// A body longer than this is the configuration that clients sent until API 1.24. COMPAT:
/// shorter ones (`{}`, `null`) are taken for empty.
const LONGEST_EMPTY_BODY: usize = 7;

/// `GET /containers/json`
pub(crate) async fn list(request: Request) -> Outcome {
    let limit: i64 = request.query.number("limit")?.unwrap_or(0);
    let query = ListContainers {
        all: request.query.flag("all"),
        limit: usize::try_from(limit).unwrap_or(0),
        size: request.query.flag("size"),
        filters: filters::from_query(&request.query)?,
    };
    let mut list = Vec::new();
    for listed in request.app.engine.containers().list(query).await? {
        let mut summary = container::summary_to_wire(&listed, request.version);
        if request.version.at_least(48) {
            summary.image_manifest_descriptor = manifest_of(&request.app, &listed.record).await;
        }
        list.push(summary);
    }
    Reply::json(&list)
}

/// The manifest a container was made from; `None` when its image is gone.
async fn manifest_of(app: &App, record: &ContainerRecord) -> Option<wire::Descriptor> {
    let image = app.engine.images().find(&record.image_id).await.ok()?;
    let mut contents = image.platforms.iter();
    let content = contents.find(|content| content.manifest_descriptor.digest.as_str() == record.manifest_digest)?;
    let mut descriptor = convert::image::descriptor_to_wire(&content.manifest_descriptor);
    descriptor
        .platform
        .get_or_insert_with(|| convert::image::platform_to_wire(&content.platform));
    Some(descriptor)
}

/// `GET /containers/{id}/json`
pub(crate) async fn inspect(request: Request) -> Outcome {
    let with_size = request.query.flag("size");
    let found = request
        .app
        .engine
        .containers()
        .inspect(request.path("id"), with_size)
        .await?;
    let manifest = manifest_of(&request.app, &found.record).await;
    Reply::json(&container::inspect_to_wire(&found, manifest, request.version))
}

/// `POST /containers/create`
pub(crate) async fn create(mut request: Request) -> Outcome {
    let template = wire::ContainerCreateRequest {
        host_config: Some(wire::HostConfig::default()),
        networking_config: Some(wire::NetworkingConfig::default()),
        ..wire::ContainerCreateRequest::default()
    };
    let Some(mut wanted) = request.json_like(&template).await? else {
        return Err(Failure::invalid(
            "config cannot be empty in order to create a container",
        ));
    };
    let version = request.version;
    adapt_to_version(&mut wanted, version)?;
    let platform = if version.at_least(41) {
        request.query.text("platform")
    } else {
        ""
    };
    let create = CreateContainer {
        name: request.query.text("name").to_owned(),
        platform: platform.to_owned(),
        config: config::from_wire(wanted.config),
        host: host::from_wire(wanted.host_config.unwrap_or_default()),
        endpoints: network::endpoints_from_wire(wanted.networking_config),
        legacy_single_network: !version.at_least(44),
    };
    let created = request.app.engine.containers().create(create).await?;
    let answer = wire::ContainerCreateResponse {
        id: created.id,
        warnings: created.warnings,
    };
    Reply::json_with(StatusCode::CREATED, &answer)
}

/// Gives an older client what it means: fields that its version does not have are not looked
/// at, and defaults that have changed since are the old ones.
fn adapt_to_version(wanted: &mut wire::ContainerCreateRequest, version: ApiVersion) -> Result<(), Failure> {
    let host = wanted.host_config.get_or_insert_default();
    if !version.at_least(40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    if !version.at_least(41) && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".to_owned();
    }
    if !version.at_least(42) {
        host.console_size = [0, 0];
    }
    if !version.at_least(43) {
        host.annotations.clear();
    }
    for mount in &mut host.mounts {
        adapt_mount(mount, version)?;
    }
    if !version.at_least(44)
        && let Some(health) = &mut wanted.config.healthcheck
    {
        health.start_interval = 0;
    }
    if !version.at_least(48)
        && let Some(endpoints) = wanted
            .networking_config
            .as_mut()
            .and_then(|c| c.endpoints_config.as_mut())
    {
        endpoints
            .values_mut()
            .flatten()
            .for_each(|settings| settings.gw_priority = 0);
    }
    Ok(())
}

fn adapt_mount(mount: &mut wire::Mount, version: ApiVersion) -> Result<(), Failure> {
    if mount.kind == "image" && !version.at_least(48) {
        return Err(Failure::invalid(
            "mounts of type \"image\" need API version 1.48 or newer",
        ));
    }
    let subpath = mount
        .volume_options
        .as_ref()
        .is_some_and(|options| !options.subpath.is_empty());
    if subpath && !version.at_least(45) {
        return Err(Failure::invalid(
            "VolumeOptions.Subpath needs API version 1.45 or newer",
        ));
    }
    if let Some(bind) = &mut mount.bind_options {
        bind.non_recursive &= version.at_least(40);
        bind.create_mountpoint &= version.at_least(42);
    }
    if mount.kind == "bind" && mount.read_only && !version.at_least(44) {
        mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
    }
    Ok(())
}

/// `POST /containers/{id}/start`
pub(crate) async fn start(mut request: Request) -> Outcome {
    if request.read_body(1 << 20).await?.len() > LONGEST_EMPTY_BODY {
        return Err(Failure::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    request.app.engine.containers().start(request.path("id")).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/stop`
pub(crate) async fn stop(request: Request) -> Outcome {
    let options = stop_options(&request)?;
    request
        .app
        .engine
        .containers()
        .stop(request.path("id"), options)
        .await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/restart`
pub(crate) async fn restart(request: Request) -> Outcome {
    let options = stop_options(&request)?;
    request
        .app
        .engine
        .containers()
        .restart(request.path("id"), options)
        .await?;
    Ok(Reply::no_content())
}

/// Before API 1.42 the signal was not looked at.
fn stop_options(request: &Request) -> Result<StopOptions, Failure> {
    let signal = request
        .query
        .nonempty("signal")
        .filter(|_| request.version.at_least(42));
    Ok(StopOptions {
        signal,
        timeout_s: request.query.number("t")?,
        for_shutdown: request.query.flag("shutdown"), // ours
    })
}

/// `POST /containers/{id}/kill`
pub(crate) async fn kill(request: Request) -> Outcome {
    let signal = request.query.nonempty("signal");
    request
        .app
        .engine
        .containers()
        .kill(request.path("id"), signal.as_deref())
        .await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/pause`
pub(crate) async fn pause(request: Request) -> Outcome {
    request.app.engine.containers().pause(request.path("id")).await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/unpause`
pub(crate) async fn unpause(request: Request) -> Outcome {
    request.app.engine.containers().unpause(request.path("id")).await?;
    Ok(Reply::no_content())
}

/// `GET /containers/{id}/why`, which is ours.
pub(crate) async fn why(request: Request) -> Outcome {
    let told = request.app.engine.containers().why(request.path("id")).await?;
    Reply::json(&container::why_to_wire(told))
}

/// `POST /containers/{id}/rename`
pub(crate) async fn rename(request: Request) -> Outcome {
    request
        .app
        .engine
        .containers()
        .rename(request.path("id"), request.query.text("name"))
        .await?;
    Ok(Reply::no_content())
}

/// `POST /containers/{id}/update`
pub(crate) async fn update(mut request: Request) -> Outcome {
    let wanted: wire::ContainerUpdateRequest = request.json().await?.unwrap_or_default();
    let policy = host::policy_from_wire(wanted.restart_policy);
    let update = UpdateContainer {
        resources: host::resources_from_wire(wanted.resources, None),
        restart_policy: Some(policy).filter(|policy| !policy.name.is_empty()),
        annotations: wanted.annotations,
    };
    let warnings = request
        .app
        .engine
        .containers()
        .update(request.path("id"), update)
        .await?;
    let answer = wire::ContainerUpdateResponse {
        warnings: Some(warnings).filter(|list| !list.is_empty()),
    };
    Reply::json(&answer)
}

/// `POST /containers/{id}/resize`
pub(crate) async fn resize(request: Request) -> Outcome {
    let (height, width) = terminal_size(&request)?;
    request
        .app
        .engine
        .containers()
        .resize(request.path("id"), height, width)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `h` and `w`, both required.
pub(super) fn terminal_size(request: &Request) -> Result<(u32, u32), Failure> {
    let side = |key: &str, what: &str| {
        let given = request.query.number::<u32>(key)?;
        given.ok_or_else(|| Failure::invalid(format!("invalid resize {what} \"\": invalid syntax")))
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

/// `POST /containers/{id}/wait`: the headers come at once, the answer with the end.
pub(crate) async fn wait(request: Request) -> Outcome {
    let condition = wait_condition(&request)?;
    let waiting = request
        .app
        .engine
        .containers()
        .wait(request.path("id"), condition)
        .await?;
    let (writer, body) = Body::channel();
    let answer = async move {
        let result = tokio::select! {
            result = waiting.result() => result,
            () = writer.closed() => return,
        };
        let error = result.error.map(|message| wire::WaitError { message });
        let answer = wire::WaitResponse {
            status_code: result.status_code,
            error,
        };
        let _ = writer.write_json(&answer, "\n").await; // an error means that the client has gone
    };
    if request.version.at_least(30) {
        tokio::spawn(answer);
    } else {
        answer.await;
    }
    Ok(Reply::stream(Some(JSON), body))
}

fn wait_condition(request: &Request) -> Result<WaitCondition, Failure> {
    if !request.version.at_least(30) {
        return Ok(WaitCondition::NotRunning);
    }
    match request.query.text("condition") {
        "" | "not-running" => Ok(WaitCondition::NotRunning),
        "next-exit" => Ok(WaitCondition::NextExit),
        "removed" => Ok(WaitCondition::Removed),
        other => Err(Failure::invalid(format!("invalid condition: {other:?}"))),
    }
}

/// `DELETE /containers/{id}`
pub(crate) async fn remove(request: Request) -> Outcome {
    let query = &request.query;
    let options = RemoveOptions {
        force: query.flag("force"),
        volumes: query.flag("v"),
        link: query.flag("link"),
    };
    request
        .app
        .engine
        .containers()
        .remove(request.path("id"), options)
        .await?;
    Ok(Reply::no_content())
}

/// `POST /containers/prune`
pub(crate) async fn prune(request: Request) -> Outcome {
    let report = request
        .app
        .engine
        .containers()
        .prune(filters::from_query(&request.query)?)
        .await?;
    let answer = wire::ContainersPruneResponse {
        containers_deleted: Some(report.deleted).filter(|list| !list.is_empty()),
        space_reclaimed: report.space_reclaimed,
    };
    Reply::json(&answer)
}

/// `GET /containers/{id}/top`
pub(crate) async fn top(request: Request) -> Outcome {
    let ps_args = request.query.nonempty("ps_args").unwrap_or_else(|| "-ef".to_owned());
    let table = request
        .app
        .engine
        .containers()
        .top(request.path("id"), &ps_args)
        .await?;
    Reply::json(&wire::ContainerTop {
        processes: table.processes,
        titles: table.titles,
    })
}

/// `GET /containers/{id}/changes`. COMPAT: no changes are `null`.
pub(crate) async fn changes(request: Request) -> Outcome {
    let changes = request.app.engine.containers().changes(request.path("id")).await?;
    let convert = |change: wharf_engine::model::requests::PathChange| wire::FilesystemChange {
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
        path: change.path,
    };
    let list: Vec<_> = changes.into_iter().map(convert).collect();
    Reply::json(&Some(list).filter(|list| !list.is_empty()))
}

/// `POST /commit`
pub(crate) async fn commit(mut request: Request) -> Outcome {
    let config: Option<wire::CommitRequest> = request.json().await?;
    let query = &request.query;
    let name = query.text("container");
    if name.is_empty() {
        return Err(Failure::invalid("invalid container name or ID: value is empty"));
    }
    let commit = CommitContainer {
        repo: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        comment: query.text("comment").to_owned(),
        author: query.text("author").to_owned(),
        pause: query.flag_or("pause", true),
        changes: query.all("changes"),
        config: config.map(|commit| config::from_wire(commit.config)),
    };
    let id = request.app.engine.containers().commit(name, commit).await?;
    Reply::json_with(StatusCode::CREATED, &wire::IdResponse { id })
}
