//! `/build`: the classic builder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::HeaderName;
use serde::de::DeserializeOwned;
use wharf_api::auth::{self, AuthConfigs};
use wharf_api::types as wire;
use wharf_engine::Error;
use wharf_engine::build::classic::{Classic, Message};
use wharf_engine::build::{BuildRequest, Cancel, Limits, Ulimit};
use wharf_engine::builds::Build;
use wharf_engine::registry::Credentials;

use super::progress::{self, Lines};
use super::transfer::{credentials_of, text_platform};
use crate::http::body::BodyReader;
use crate::http::{Failure, Outcome, Query, Reply, Request};

const CONFIG_HEADER: HeaderName = HeaderName::from_static("x-registry-config");

/// `POST /build`
pub(crate) async fn build(mut request: Request) -> Outcome {
    let query = &request.query;
    check_supported(query)?;
    let cancel = Cancel::default();
    let mut wanted = BuildRequest {
        cancel: cancel.clone(),
        ..build_request(query)?
    };
    wanted.no_cache |= !has_cache_source(&request).await?;
    let quiet = query.flag("q");
    let credentials = credentials(&request);
    let app = Arc::clone(&request.app);
    let archive = Box::new(BodyReader::new(request.take_body()));
    progress::stream(|lines| async move {
        // A client that goes away drops this future, and with it the build.
        let _guard = CancelOnDrop(cancel);
        let told = Arc::new(Telling::new(lines, quiet));
        let teller = Arc::clone(&told);
        let events = Arc::new(move |event| teller.event(event));
        let build = Build {
            request: wanted,
            archive,
            credentials,
            events,
        };
        let result = app.engine.builds().build(build).await?;
        told.finish(result)
    })
    .await
}

/// Whether the build may use what was built before.
///
/// COMPAT: who names images to take steps from (`--cache-from`) gets none when none of them is
/// here; otherwise every image here is looked at.
async fn has_cache_source(request: &Request) -> Result<bool, Failure> {
    let sources: Vec<String> = json(&request.query, "cachefrom")?.unwrap_or_default();
    let images = request.app.engine.images();
    for source in &sources {
        if images.find(source).await.is_ok() {
            return Ok(true);
        }
    }
    Ok(sources.is_empty())
}

/// Turns events into lines, and knows whether any were sent.
struct Telling {
    lines: Lines,
    classic: Mutex<Option<Classic>>,
    begun: AtomicBool,
}

impl Telling {
    fn new(lines: Lines, quiet: bool) -> Self {
        Self {
            lines,
            classic: Mutex::new(Some(Classic::new(quiet))),
            begun: AtomicBool::new(false),
        }
    }

    fn event(&self, event: wharf_engine::build::Event) {
        self.begun.store(true, Ordering::Relaxed);
        let mut classic = self.classic.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = classic.as_mut().map(|classic| classic.event(event)).unwrap_or_default();
        self.send(messages);
    }

    /// COMPAT: a failure before the first step is a status, a later one a line.
    fn finish(&self, result: Result<String, wharf_engine::build::BuildError>) -> Result<(), Failure> {
        match result {
            Err(error) if !self.begun.load(Ordering::Relaxed) => Err(Error::from(error).into()),
            result => {
                let classic = self.classic.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.send(classic.map(|classic| classic.finish(&result)).unwrap_or_default());
                Ok(())
            }
        }
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            drop(self.lines.send(line(message))); // a client that has gone is noticed elsewhere
        }
    }
}

fn line(message: Message) -> wire::ProgressMessage {
    match message {
        Message::Stream(text) => progress::text_line(text),
        Message::Aux(id) => wire::ProgressMessage {
            aux: serde_json::to_value(wire::BuildResult { id }).ok(),
            ..wire::ProgressMessage::default()
        },
        Message::Status {
            id,
            status,
            progress: Some((current, total)),
        } => progress::progress_of(&id.unwrap_or_default(), &status, current, total.unwrap_or(0)),
        Message::Status {
            id,
            status,
            progress: None,
        } => progress::status_of(&id.unwrap_or_default(), status),
        Message::Error { code, message } => progress::error_line(&message, code),
    }
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Refuses by name what this builder does not have.
fn check_supported(query: &Query) -> Result<(), Failure> {
    match query.text("version") {
        "" | "1" => {}
        "2" => {
            return Err(Failure::new(
                StatusCode::NOT_IMPLEMENTED,
                "BuildKit builds over this route are not supported by this engine: set DOCKER_BUILDKIT=0",
            ));
        }
        other => return Err(Failure::invalid(format!("invalid builder version {other:?}"))),
    }
    if !query.text("remote").is_empty() {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "remote build contexts are not supported by this engine: send the context itself",
        ));
    }
    let outputs: Vec<serde_json::Value> = json(query, "outputs")?.unwrap_or_default();
    if !outputs.is_empty() {
        return Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "build outputs other than an image are not supported",
        ));
    }
    Ok(())
}

fn build_request(query: &Query) -> Result<BuildRequest, Failure> {
    let platform = query.nonempty("platform");
    text_platform(query.text("platform"))?;
    Ok(BuildRequest {
        dockerfile: query.text("dockerfile").to_owned(),
        tags: query.all("t").into_iter().filter(|tag| !tag.is_empty()).collect(),
        build_args: json(query, "buildargs")?.unwrap_or_default(),
        labels: json(query, "labels")?.unwrap_or_default(),
        target: query.nonempty("target"),
        platform,
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        network: query.nonempty("networkmode"),
        extra_hosts: query
            .all("extrahosts")
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::to_owned)
            .collect(),
        limits: limits(query)?,
        squash: query.flag("squash"),
        ..BuildRequest::default()
    })
}

fn limits(query: &Query) -> Result<Limits, Failure> {
    let ulimits: Vec<wire::Ulimit> = json(query, "ulimits")?.unwrap_or_default();
    let ulimit = |limit: wire::Ulimit| Ulimit {
        name: limit.name,
        soft: limit.soft,
        hard: limit.hard,
    };
    let positive = |number: Option<i64>| number.filter(|number| *number != 0);
    let natural = |number: Option<u64>| number.filter(|number| *number != 0);
    Ok(Limits {
        memory_bytes: positive(query.number("memory")?),
        memory_swap_bytes: positive(query.number("memswap")?),
        cpu_shares: natural(query.number("cpushares")?),
        cpu_period_us: natural(query.number("cpuperiod")?),
        cpu_quota_us: positive(query.number("cpuquota")?),
        cpuset_cpus: query.nonempty("cpusetcpus"),
        cpuset_mems: query.nonempty("cpusetmems"),
        shm_size_bytes: natural(query.number("shmsize")?),
        cgroup_parent: query.nonempty("cgroupparent"),
        ulimits: ulimits.into_iter().map(ulimit).collect(),
    })
}

/// A parameter that is JSON; empty and `null` are `None`.
fn json<T: DeserializeOwned>(query: &Query, key: &str) -> Result<Option<T>, Failure> {
    match query.nonempty(key) {
        None => Ok(None),
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| Failure::invalid(format!("error reading build parameter {key}: {error}"))),
    }
}

/// Credentials for all registries. COMPAT: what cannot be read counts as none.
fn credentials(request: &Request) -> BTreeMap<String, Credentials> {
    let configs: AuthConfigs = request
        .header(&CONFIG_HEADER)
        .map(auth::decode_header)
        .unwrap_or_default();
    configs
        .iter()
        .map(|(host, auth)| (host.clone(), credentials_of(auth)))
        .collect()
}

/// `POST /build/prune`
pub(crate) async fn prune(request: Request) -> Outcome {
    let filters = crate::convert::filters::from_query(&request.query)?;
    let (caches, space) = request.app.engine.system().prune_build_cache(&filters).await?;
    let answer = wire::BuildPruneResponse {
        caches_deleted: Some(caches).filter(|list| !list.is_empty()),
        space_reclaimed: space,
    };
    Reply::json(&answer)
}

/// `POST /build/cancel`: only BuildKit builds have ids; classic ones end with their connection.
pub(crate) async fn cancel(request: Request) -> Outcome {
    match request.query.text("id") {
        "" => Err(Failure::invalid("build ID not provided")),
        _ => Ok(Reply::no_content()),
    }
}
