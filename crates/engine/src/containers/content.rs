//! What a container has made of its image: differences, its whole tree, a new image.
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use wharf_store::{Digest, ImageConfig, LayerSource, NewImage, RunConfig};

use super::ByteStream;
use super::archive::produce;
use super::paths::{Places, lower_dirs};
use super::rootfs;
use crate::Shared;
use crate::error::{Error, Result};
use crate::images::parse_target;
use crate::model::config::Empty;
use crate::model::requests::{ChangeKind, CommitContainer, PathChange};
use crate::model::{ContainerConfig, ContainerRecord, HealthConfig};

/// How long a commit's content is protected before its record is.
const LEASE: Duration = Duration::from_secs(3600);

/// Paths that differ from the image. Blocking.
///
/// COMPAT: mount points made for the container are not shown, as in Docker.
pub(crate) fn changes(shared: &Shared, record: &ContainerRecord) -> Result<Vec<PathChange>> {
    let places = Places::of(&shared.config, &record.id);
    let found = wharf_store::changes(&places.upper(), &lower_dirs(&shared.config.root, record))?;
    let change = |c: wharf_store::Change| PathChange {
        path: c.path.to_string_lossy().into_owned(),
        kind: match c.kind {
            wharf_store::ChangeKind::Modified => ChangeKind::Modified,
            wharf_store::ChangeKind::Added => ChangeKind::Added,
            wharf_store::ChangeKind::Deleted => ChangeKind::Deleted,
        },
    };
    Ok(found.into_iter().map(change).collect())
}

/// The whole tree, without volumes, as a tar stream. Blocking until it begins.
pub(crate) fn export(shared: &Shared, record: &ContainerRecord) -> Result<ByteStream> {
    let root = rootfs::whole(shared, record)?;
    produce("export", move |out| {
        let dir = root.open_at("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        wharf_store::export_tree(dir.as_fd(), out).map_err(io::Error::other)
    })
}

/// Makes an image of the container's upper directory on its own image's layers; answers the id. Blocking.
pub(crate) fn commit(shared: &Shared, record: &ContainerRecord, request: &CommitContainer) -> Result<String> {
    let store = &shared.store;
    let name = if request.repo.is_empty() {
        None
    } else {
        Some(parse_target(&request.repo, &request.tag)?)
    };
    let id = Digest::parse(&record.image_id)
        .map_err(|e| Error::internal(format!("image id of {}", record.id)).with_source(e))?;
    let parent = store.image(&id)?;
    let base = Arc::clone(parent.platform(None)?);
    let lease = store.lease("commit", LEASE)?;
    let upper = Places::of(&shared.config, &record.id).upper();
    let layer = store.commit_layer(&lease, LayerSource::Copy(&upper))?;
    let mut config = base.config.clone();
    describe(&mut config, record, request)?;
    let layers: Vec<_> = base.layers.iter().cloned().chain([layer]).collect();
    let image = store.create_image(
        &lease,
        NewImage {
            config,
            layers: &layers,
            name: name.as_ref(),
            parent: Some(&id),
        },
    )?;
    Ok(image.id.to_string())
}

/// Author, history and configuration of the new image.
fn describe(config: &mut ImageConfig, record: &ContainerRecord, request: &CommitContainer) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    config.created = Some(now.clone());
    config.author = (!request.author.is_empty()).then(|| request.author.clone());
    config.config = run_config(request.config.as_ref().unwrap_or(&record.config), &config.config);
    wharf_build::apply_changes(&mut config.config, &request.changes)?;
    let command = [record.path.clone()]
        .into_iter()
        .chain(record.args.iter().cloned())
        .collect::<Vec<_>>();
    config.history.push(wharf_store::History {
        created: Some(now),
        author: config.author.clone(),
        created_by: Some(command.join(" ")),
        comment: (!request.comment.is_empty()).then(|| request.comment.clone()),
        ..wharf_store::History::default()
    });
    Ok(())
}

/// A container's configuration as an image's; what only images have stays as it was.
fn run_config(from: &ContainerConfig, image: &RunConfig) -> RunConfig {
    let set = |m: &BTreeMap<String, Empty>| {
        m.keys()
            .map(|k| (k.clone(), json!({})))
            .collect::<BTreeMap<String, Value>>()
    };
    RunConfig {
        user: from.user.clone(),
        exposed_ports: from.exposed_ports.as_ref().map(set),
        env: from.env.clone(),
        entrypoint: from.entrypoint.clone(),
        cmd: from.cmd.clone(),
        healthcheck: from.healthcheck.as_ref().map(health),
        volumes: from.volumes.as_ref().map(set),
        working_dir: from.working_dir.clone(),
        on_build: from.on_build.clone(),
        labels: Some(from.labels.clone()).filter(|l| !l.is_empty()),
        stop_signal: Some(from.stop_signal.clone()).filter(|s| !s.is_empty()),
        stop_timeout: from.stop_timeout,
        shell: from.shell.clone(),
        ..image.clone()
    }
}

/// A health check as images hold it; zero means inherited and is left out.
fn health(check: &HealthConfig) -> Value {
    let mut value = serde_json::Map::new();
    value.insert("Test".into(), json!(check.test));
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", check.retries),
    ];
    for (key, time) in times.into_iter().filter(|(_, t)| *t != 0) {
        value.insert(key.into(), json!(time));
    }
    Value::Object(value)
}
