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
    let upper = places.upper();
    if !upper.exists() {
        return Ok(Vec::new()); // never started
    }
    let found = wharf_store::changes(&upper, &lower_dirs(&shared.config.root, record))?;
    let change = |c: wharf_store::Change| PathChange {
        path: c.path.to_string_lossy().into_owned(),
        kind: match c.kind {
            wharf_store::ChangeKind::Modified => ChangeKind::Modified,
            wharf_store::ChangeKind::Added => ChangeKind::Added,
            wharf_store::ChangeKind::Deleted => ChangeKind::Deleted,
        },
    };
    Ok(without_mount_points(found.into_iter().map(change).collect()))
}

/// Files and directories that every container gets from the engine.
const MOUNT_POINTS: [&str; 7] = [
    "/.dockerenv",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/dev",
    "/proc",
    "/sys",
];

/// Leaves out what the engine made itself, and directories that changed only by that.
fn without_mount_points(found: Vec<PathChange>) -> Vec<PathChange> {
    let below = |path: &str, dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let ours = |change: &PathChange| {
        let path = change.path.as_str();
        change.kind != ChangeKind::Deleted && MOUNT_POINTS.iter().any(|point| path == *point || below(path, "/dev"))
    };
    let (made, kept): (Vec<_>, Vec<_>) = found.into_iter().partition(ours);
    let has_made = |dir: &str| made.iter().any(|change| below(&change.path, dir));
    let idle = |change: &PathChange| {
        let alone = !kept.iter().any(|other| below(&other.path, &change.path));
        change.path == "/etc" && change.kind != ChangeKind::Deleted && has_made("/etc") && alone
    };
    kept.iter().filter(|change| !idle(change)).cloned().collect()
}

/// The whole tree, without volumes, as a tar stream. Blocking until it begins.
pub(crate) fn export(shared: &Shared, record: &ContainerRecord) -> Result<ByteStream> {
    let root = rootfs::whole(shared, record)?;
    produce("export", move |out| {
        let dir = root.open_at("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
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
    config.comment = (!request.comment.is_empty()).then(|| request.comment.clone());
    let merged = match &request.config {
        Some(given) => merge(given.clone(), &record.config),
        None => record.config.clone(),
    };
    config.config = run_config(&merged, &config.config);
    wharf_build::apply_changes(&mut config.config, &request.changes)?;
    // COMPAT: the command of the configuration, without its entrypoint.
    let command = record.config.cmd.clone().unwrap_or_default();
    config.history.push(wharf_store::History {
        created: Some(now),
        author: config.author.clone(),
        created_by: Some(command.join(" ")),
        comment: config.comment.clone(),
        ..wharf_store::History::default()
    });
    Ok(())
}

/// The given configuration wins; what it lacks is the container's. COMPAT: Docker's rules for
/// commits (oracle api/commit_route).
fn merge(mut given: ContainerConfig, own: &ContainerConfig) -> ContainerConfig {
    let or = |text: String, own: &str| if text.is_empty() { own.to_owned() } else { text };
    given.user = or(given.user, &own.user);
    given.working_dir = or(given.working_dir, &own.working_dir);
    given.stop_signal = or(given.stop_signal, &own.stop_signal);
    if given.entrypoint.is_none() {
        if given.cmd.as_ref().is_none_or(Vec::is_empty) {
            given.cmd.clone_from(&own.cmd);
        }
        given.entrypoint.clone_from(&own.entrypoint);
    }
    given.env = merge_env(given.env, own.env.as_deref().unwrap_or_default());
    for (key, value) in &own.labels {
        given.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (given, own) in [
        (&mut given.exposed_ports, &own.exposed_ports),
        (&mut given.volumes, &own.volumes),
    ] {
        if let Some(own) = own {
            given.get_or_insert_default().extend(own.clone());
        }
    }
    given.healthcheck = given.healthcheck.or_else(|| own.healthcheck.clone());
    given.stop_timeout = given.stop_timeout.or(own.stop_timeout);
    given.shell = given.shell.or_else(|| own.shell.clone());
    given.on_build = given.on_build.or_else(|| own.on_build.clone());
    given
}

/// Variables that are not given are the container's.
fn merge_env(given: Option<Vec<String>>, own: &[String]) -> Option<Vec<String>> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut merged = given.unwrap_or_default();
    let known: std::collections::BTreeSet<String> = merged.iter().map(|variable| name(variable)).collect();
    merged.extend(own.iter().filter(|variable| !known.contains(&name(variable))).cloned());
    Some(merged).filter(|list| !list.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paths: &[&str]) -> Vec<String> {
        let added = |path: &&str| PathChange {
            path: (*path).to_owned(),
            kind: ChangeKind::Added,
        };
        let changes = without_mount_points(paths.iter().map(added).collect());
        changes.into_iter().map(|change| change.path).collect()
    }

    #[test]
    fn mount_points_of_the_engine_are_no_changes() {
        assert_eq!(
            shown(&["/dev", "/dev/pts", "/etc", "/etc/hosts", "/proc"]),
            Vec::<String>::new()
        );
        assert_eq!(
            shown(&["/etc", "/etc/hosts", "/etc/passwd", "/new"]),
            ["/etc", "/etc/passwd", "/new"]
        );
        assert_eq!(shown(&["/etc", "/developer"]), ["/etc", "/developer"]);
    }

    #[test]
    fn a_commit_s_configuration_wins_and_what_it_lacks_is_kept() {
        let own = ContainerConfig {
            working_dir: "/tmp".into(),
            env: Some(vec!["BASE=1".into(), "P=/bin".into()]),
            cmd: Some(vec!["sh".into()]),
            labels: BTreeMap::from([("l".into(), "1".into())]),
            ..ContainerConfig::default()
        };
        let given = ContainerConfig {
            env: Some(vec!["BASE=2".into()]),
            user: "1".into(),
            ..ContainerConfig::default()
        };
        let merged = merge(given, &own);
        assert_eq!(merged.env, Some(vec!["BASE=2".to_owned(), "P=/bin".to_owned()]));
        assert_eq!((merged.user.as_str(), merged.working_dir.as_str()), ("1", "/tmp"));
        assert_eq!((merged.cmd, merged.labels), (own.cmd, own.labels));
    }
}
