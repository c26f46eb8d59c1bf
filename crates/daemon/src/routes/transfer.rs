//! Images in and out: pull, push, import, load, save, `/distribution`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use wharf_api::auth::AuthConfig;
use wharf_api::types as wire;
use wharf_engine::Error;
use wharf_engine::images::{ImportImage, PullImage, PullOutcome};
use wharf_engine::registry::{Credentials, LayerState, Progress, Sink};
use wharf_engine::store::{Digest, Loaded, Platform, Reference};

use super::archive;
use super::images::json_platform;
use super::progress::{self, Lines};
use crate::app::App;
use crate::convert::image;
use crate::http::body::BodyReader;
use crate::http::reply::TAR;
use crate::http::{Failure, Outcome, Reply, Request};

const AUTH_HEADER: HeaderName = HeaderName::from_static("x-registry-auth");
/// Between two lines about the bytes of one layer.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// `POST /images/create`: pull (`fromImage`) or import (`fromSrc`).
pub(crate) async fn create(request: Request) -> Outcome {
    if !request.query.text("fromImage").is_empty() {
        return pull(request).await;
    }
    match request.query.text("fromSrc") {
        "-" => import(request).await,
        "" => Err(Failure::invalid("one of fromImage and fromSrc is needed")),
        _ => Err(Failure::new(
            hyper::StatusCode::NOT_IMPLEMENTED,
            "importing from a URL is not supported by this engine: send the archive itself",
        )),
    }
}

/// The credentials of a request. COMPAT: what cannot be read counts as none.
fn credentials(request: &Request) -> Credentials {
    let auth = request
        .header(&AUTH_HEADER)
        .map(AuthConfig::from_header)
        .unwrap_or_default();
    credentials_of(&auth)
}

/// Credentials as the engine takes them.
pub(super) fn credentials_of(auth: &AuthConfig) -> Credentials {
    let (username, password) = auth.basic().unwrap_or_default();
    Credentials {
        username,
        password,
        identity_token: auth.identity_token.clone(),
        registry_token: auth.registry_token.clone(),
    }
}

async fn pull(request: Request) -> Outcome {
    let query = &request.query;
    let wanted = pull_reference(query.text("fromImage"), query.text("tag"))?;
    let platform = text_platform(query.text("platform"))?;
    let credentials = credentials(&request);
    let app = Arc::clone(&request.app);
    progress::stream(|lines| async move {
        let references = match wanted.is_name_only() {
            false => vec![wanted],
            true => {
                let tags = app.engine.images().remote_tags(&wanted, &credentials).await?;
                let with_tag = |tag: &String| wanted.with_tag(tag).map_err(Error::from);
                tags.iter().map(with_tag).collect::<Result<Vec<_>, _>>()?
            }
        };
        for reference in references {
            pull_one(&app, reference, platform.clone(), credentials.clone(), &lines).await?;
        }
        Ok(())
    })
    .await
}

/// The name to pull. COMPAT: a `tag` parameter wins, and may be a digest; a colon at the end of
/// the name is ignored; a name without tag or digest means all tags.
fn pull_reference(name: &str, tag: &str) -> Result<Reference, Error> {
    let name = Reference::parse(name.trim_end_matches(':'))?;
    if tag.is_empty() {
        return Ok(name);
    }
    match Digest::parse(tag) {
        Ok(digest) => Ok(name.with_digest(digest)),
        Err(_) => Ok(name.with_tag(tag)?),
    }
}

async fn pull_one(
    app: &App,
    reference: Reference,
    platform: Option<Platform>,
    credentials: Credentials,
    lines: &Lines,
) -> Result<(), Error> {
    let label = reference
        .tag()
        .map(str::to_owned)
        .or_else(|| reference.digest().map(ToString::to_string));
    let title = progress::status_line(format!("Pulling from {}", display_path(&reference)));
    let title = wire::ProgressMessage {
        id: label.unwrap_or_default(),
        ..title
    };
    let name = reference.familiar();
    let sink = sink(lines.clone(), Some(title.clone()));
    let outcome = app
        .engine
        .images()
        .pull(PullImage {
            reference,
            platform,
            credentials,
            sink,
        })
        .await?;
    let send = |line| drop(lines.send(line)); // a client that has gone is noticed elsewhere
    match outcome {
        PullOutcome::Embedded(image) => {
            send(title);
            send(progress::status_line(format!("Digest: {}", image.id)));
            send(progress::status_line(format!("Status: Image is up to date for {name}")));
        }
        PullOutcome::Fetched(pulled) => {
            send(progress::status_line(format!("Digest: {}", pulled.digest)));
            let news = if pulled.is_newer {
                "Downloaded newer image"
            } else {
                "Image is up to date"
            };
            send(progress::status_line(format!("Status: {news} for {name}")));
        }
    }
    Ok(())
}

/// COMPAT: on Docker Hub the path alone is shown (`library/busybox`), elsewhere too.
fn display_path(reference: &Reference) -> &str {
    reference.path()
}

/// Turns news into lines: `title` before the first, and not too many about the bytes of a layer.
fn sink(lines: Lines, title: Option<wire::ProgressMessage>) -> Sink {
    let state = Mutex::new((title, HashMap::<Digest, Instant>::new()));
    Arc::new(move |news| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(title) = state.0.take() {
            drop(lines.send(title)); // a client that has gone is noticed elsewhere
        }
        let Progress::Layer { blob, state: layer } = news else {
            return;
        };
        if is_frequent(&layer) {
            let now = Instant::now();
            let last = state.1.insert(blob.clone(), now);
            if let Some(last) = last.filter(|last| now.duration_since(*last) < PROGRESS_PAUSE) {
                state.1.insert(blob, last);
                return;
            }
        }
        drop(lines.send(progress::layer_line(&blob, &layer)));
    })
}

fn is_frequent(state: &LayerState) -> bool {
    matches!(
        state,
        LayerState::Downloading { .. } | LayerState::Extracting { .. } | LayerState::Pushing { .. }
    )
}

async fn import(mut request: Request) -> Outcome {
    let query = &request.query;
    let import = ImportImage {
        repo: query.text("repo").to_owned(),
        tag: query.text("tag").to_owned(),
        message: query.text("message").to_owned(),
        changes: query.all("changes"),
        platform: text_platform(query.text("platform"))?,
    };
    let app = Arc::clone(&request.app);
    let source = Box::new(BodyReader::new(request.take_body()));
    progress::stream(|lines| async move {
        let id = app.engine.images().import(import, source).await?;
        drop(lines.send(progress::status_line(id)));
        Ok(())
    })
    .await
}

/// The `platform` of pulls and imports: `os/architecture[/variant]`.
pub(super) fn text_platform(text: &str) -> Result<Option<Platform>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    Platform::parse(text)
        .map(Some)
        .map_err(|error| Error::from(error).into())
}

/// `POST /images/{name}/push`
pub(crate) async fn push(request: Request) -> Outcome {
    let query = &request.query;
    let name = Reference::parse(request.path("name")).map_err(Error::from)?;
    let name = match query.text("tag") {
        "" => name,
        tag => name.with_tag(tag).map_err(Error::from)?,
    };
    let credentials = credentials(&request);
    let app = Arc::clone(&request.app);
    progress::stream(|lines| async move {
        let images = app.engine.images();
        let names = if name.is_name_only() {
            images.local_tags(&name).await?
        } else {
            vec![name.clone()]
        };
        if names.is_empty() {
            let text = format!("An image does not exist locally with the tag: {}", name.familiar_name());
            return Err(Failure::not_found(text));
        }
        for name in names {
            push_one(&app, &name, credentials.clone(), &lines).await?;
        }
        Ok(())
    })
    .await
}

async fn push_one(app: &App, name: &Reference, credentials: Credentials, lines: &Lines) -> Result<(), Error> {
    let title = progress::status_line(format!("The push refers to repository [{}]", name.name()));
    let pushed = app
        .engine
        .images()
        .push(name, credentials, sink(lines.clone(), Some(title)))
        .await?;
    let tag = name.tag().unwrap_or_default();
    let text = format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size);
    drop(lines.send(progress::status_line(text)));
    let result = wire::PushResult {
        tag: tag.to_owned(),
        digest: pushed.digest.to_string(),
        size: i64::try_from(pushed.size).unwrap_or(i64::MAX),
    };
    let aux = serde_json::to_value(result).ok();
    drop(lines.send(wire::ProgressMessage {
        progress_detail: Some(wire::ProgressDetail::default()),
        aux,
        ..wire::ProgressMessage::default()
    }));
    Ok(())
}

/// `POST /images/load`. COMPAT: whatever is wrong with the archive is told in the stream.
pub(crate) async fn load(mut request: Request) -> Outcome {
    let platform = json_platform(&request.query)?;
    let app = Arc::clone(&request.app);
    let source = Box::new(BodyReader::new(request.take_body()));
    progress::stream(|lines| async move {
        match app.engine.images().load(source, platform).await {
            Ok(loaded) => loaded.iter().for_each(|image| drop(lines.send(loaded_line(image)))),
            Err(error) => drop(lines.send(progress::error_line(error.message(), None))),
        }
        Ok(())
    })
    .await
}

fn loaded_line(loaded: &Loaded) -> wire::ProgressMessage {
    progress::text_line(match loaded {
        Loaded::Named(name) => format!("Loaded image: {}\n", name.familiar()),
        Loaded::Id(id) => format!("Loaded image ID: {id}\n"),
    })
}

/// `GET /images/{name}/get`
pub(crate) async fn save_one(request: Request) -> Outcome {
    let names = vec![request.path("name").to_owned()];
    save(&request, names).await
}

/// `GET /images/get?names=a&names=b`
pub(crate) async fn save_several(request: Request) -> Outcome {
    let names = request.query.all("names");
    save(&request, names).await
}

async fn save(request: &Request, names: Vec<String>) -> Outcome {
    let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err(Failure::invalid("no image name was given"));
    }
    let platform = json_platform(&request.query)?;
    let bytes = request.app.engine.images().save(&names, platform).await?;
    Ok(Reply::stream(Some(TAR), archive::stream(bytes)))
}

/// `GET /distribution/{name}/json`
pub(crate) async fn distribution(request: Request) -> Outcome {
    let name = Reference::parse(request.path("name")).map_err(Error::from)?.tagged();
    let found = request
        .app
        .engine
        .images()
        .distribution(&name, &credentials(&request))
        .await?;
    let answer = wire::DistributionInspect {
        descriptor: image::descriptor_to_wire(&found.descriptor),
        platforms: Some(found.platforms.iter().map(image::platform_to_wire).collect()),
    };
    Reply::json(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_to_pull_take_tags_and_digests() {
        let check = |name: &str, tag: &str, expected: &str| {
            let reference = pull_reference(name, tag).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(reference.canonical(), expected);
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        check("busybox", "latest", "docker.io/library/busybox:latest");
        check("busybox:1", "", "docker.io/library/busybox:1");
        check("busybox:1", "2", "docker.io/library/busybox:2");
        check("busybox:", "", "docker.io/library/busybox");
        check("localhost:5000/x", &digest, &format!("localhost:5000/x@{digest}"));
        assert!(pull_reference("UPPER", "").is_err());
        assert!(pull_reference("busybox", "bad tag").is_err());
    }
}
