//! `/containers/{id}/archive` and `/export`: files in and out of containers.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderName;
use wharf_api::types as wire;
use wharf_engine::containers::ByteStream;
use wharf_engine::model::requests::{PathStat, PutArchive};

use crate::http::body::{Body, BodyReader};
use crate::http::reply::TAR;
use crate::http::{Failure, Outcome, Reply, Request};

/// What is at a path, as base64 of JSON.
const STAT_HEADER: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
/// COMPAT: Docker types its exports so, other archives as tar.
const EXPORT: &str = "application/octet-stream";

/// `HEAD /containers/{id}/archive`
pub(crate) async fn stat(request: Request) -> Outcome {
    let path = path_of(&request)?;
    let stat = request
        .app
        .engine
        .containers()
        .archive_stat(request.path("id"), &path)
        .await?;
    Ok(with_stat(Reply::empty(StatusCode::OK), &stat))
}

/// `GET /containers/{id}/archive`
pub(crate) async fn fetch(request: Request) -> Outcome {
    let path = path_of(&request)?;
    let (stat, bytes) = request
        .app
        .engine
        .containers()
        .archive_get(request.path("id"), &path)
        .await?;
    Ok(with_stat(Reply::stream(Some(TAR), stream(bytes)), &stat))
}

/// `PUT /containers/{id}/archive`
pub(crate) async fn put(mut request: Request) -> Outcome {
    let path = path_of(&request)?;
    let options = PutArchive {
        no_overwrite_dir_non_dir: request.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: request.query.flag("copyUIDGID"),
    };
    let source = Box::new(BodyReader::new(request.take_body()));
    let containers = request.app.engine.containers();
    containers
        .archive_put(request.path("id"), &path, options, source)
        .await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `GET /containers/{id}/export`
pub(crate) async fn export(request: Request) -> Outcome {
    let bytes = request.app.engine.containers().export(request.path("id")).await?;
    Ok(Reply::stream(Some(EXPORT), stream(bytes)))
}

fn path_of(request: &Request) -> Result<PathBuf, Failure> {
    match request.query.text("path") {
        "" => Err(Failure::invalid("bad parameter: 'path' cannot be empty")),
        path => Ok(Path::new(path).to_owned()),
    }
}

fn with_stat(reply: Reply, stat: &PathStat) -> Reply {
    let stat = wire::PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: stat.mode,
        mtime: stat.mtime.to_string(),
        link_target: stat.link_target.clone(),
    };
    let json = serde_json::to_vec(&stat).expect("invariant: wire types always encode");
    reply.with_text_header(STAT_HEADER, &STANDARD.encode(json))
}

/// A body from bytes that the engine produces; a failure cuts the connection, so that the
/// client does not take half an archive for a whole one.
pub(super) fn stream(mut bytes: ByteStream) -> Body {
    let (writer, body) = Body::channel();
    tokio::spawn(async move {
        while let Some(piece) = bytes.recv().await {
            match piece {
                Ok(piece) => {
                    if writer.write(piece).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!("an archive breaks off: {}", error.chain());
                    return writer.fail(error.message()).await;
                }
            }
        }
    });
    body
}
