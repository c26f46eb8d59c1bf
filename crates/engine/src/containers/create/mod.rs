//! Creating a container: validate, plan, journal, commit. Nothing is left behind on failure.
mod endpoints;
pub(crate) mod image;
pub(crate) mod limits;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod validate;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wharf_store::{Image, Platform, PlatformImage};
use wharf_volume::NewVolume;

use self::mounts::PlannedMount;
use self::validate::Surroundings;
use super::blocking::blocking;
use super::happened;
use super::paths::{Places, lower_dirs};
use super::rootfs;
use super::task::{self, Beginning};
use crate::Shared;
use crate::db::JournalId;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::images::Images;
use crate::model::requests::{ContainerCreated, CreateContainer};
use crate::model::*;
use crate::operations::{self, OperationKind};
use crate::volumes::{self, VolumeService};

/// Longest time a create may take before the next start undoes it.
const DEADLINE: Duration = Duration::from_secs(300);

/// Creates a container.
pub(super) async fn create(
    shared: &Arc<Shared>,
    id: ContainerId,
    mut request: CreateContainer,
) -> Result<ContainerCreated> {
    let live = shared.config.live.now();
    let around = Surroundings {
        limits: &shared.host_limits,
        runtimes: &live.runtimes,
        logging: &live.logging,
        cgroup_v2: shared.cgroup_v2(),
    };
    let name = wanted_name(&request.name)?;
    if request.config.image.is_empty() {
        return Err(Error::invalid("no image given: the field Image must not be empty"));
    }
    let warnings = validate::check_request(&mut request, &around)?;
    let image = Images::new(Arc::clone(shared)).resolve(&request.config.image).await?;
    let platform = Arc::clone(image.platform(wanted_platform(&request.platform)?.as_ref())?);
    let _held = hold_image(shared, &image, &platform).await?;
    image::merge_image(&mut request.config, &platform.config.config)?;
    let (path, args) = image::command_line(&mut request.config)?;
    resolve_joined(shared, &mut request)?;
    fill_hostname(&mut request, &id);
    let inherited = inherited_mounts(shared, &request.host)?;
    let planned = mounts::plan_mounts(&request.host, &request.config, inherited)?;
    check_sources(&planned)?;
    let record = record_of(shared, request, id, &image, &platform, (path, args));
    endpoints::check(shared, &record)?;
    let id = record.id.clone();
    let name = reserve(shared, name, &id)?;
    match commit(
        shared,
        ContainerRecord {
            name: name.clone(),
            ..record
        },
        planned,
    )
    .await
    {
        Ok(()) => Ok(ContainerCreated {
            id: id.to_string(),
            warnings,
        }),
        Err(error) => {
            shared.containers.release_name(&name, &id);
            Err(error)
        }
    }
}

/// Keeps the image from being removed until the container's record shows its use, with all layers unpacked (a repair
/// may have taken one away).
async fn hold_image(
    shared: &Arc<Shared>,
    image: &Arc<Image>,
    platform: &Arc<PlatformImage>,
) -> Result<wharf_store::ImageHold> {
    let (store, id, platform) = (shared.store.clone(), image.id.clone(), Arc::clone(platform));
    blocking("holding the image", move || {
        let held = store.hold_image(&id)?;
        if store.lower_dirs(&platform).is_err() {
            let lease = store.lease("create", DEADLINE)?;
            store.ensure_unpacked(&lease, &platform)?;
        }
        Ok(held)
    })
    .await
}

/// The name without its slash; `None` when one is to be made up.
fn wanted_name(text: &str) -> Result<Option<String>> {
    let name = text.strip_prefix('/').unwrap_or(text);
    if name.is_empty() {
        return Ok(None);
    }
    names::check_name(name)?;
    Ok(Some(name.to_owned()))
}

fn wanted_platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        Ok(None)
    } else {
        Ok(Some(Platform::parse(text)?))
    }
}

fn reserve(shared: &Shared, name: Option<String>, id: &ContainerId) -> Result<String> {
    if let Some(name) = name {
        shared.containers.reserve_name(&name, id)?;
        return Ok(name);
    }
    for attempt in 0..100 {
        let made_up = names::made_up_name(attempt);
        if shared.containers.reserve_name(&made_up, id).is_ok() {
            return Ok(made_up);
        }
    }
    Err(Error::internal("no free name was found"))
}

/// Names of other containers become ids; unknown ones are refused.
/// COMPAT: as a bad request, because clients pull an image when they read "not found".
fn resolve_joined(shared: &Shared, request: &mut CreateContainer) -> Result<()> {
    let find = |name: &str| -> Result<ContainerId> {
        let found = shared
            .containers
            .find(name)
            .map_err(|e| e.with_kind(ErrorKind::InvalidArgument))?;
        Ok(found.id.clone())
    };
    let host = &mut request.host;
    if let Ok(IpcMode::Container(name)) = IpcMode::parse(&host.ipc_mode) {
        host.ipc_mode = format!("container:{}", find(&name)?);
    }
    if let Ok(PidMode::Container(name)) = PidMode::parse(&host.pid_mode) {
        host.pid_mode = format!("container:{}", find(&name)?);
    }
    // COMPAT: an unknown container of the network mode passes here and fails at start.
    if let NetworkMode::Container(name) = host.network()
        && let Ok(found) = shared.containers.find(&name)
    {
        host.network_mode = format!("container:{}", found.id);
    }
    for link in host.links.iter().flatten() {
        let name = link.split_once(':').map_or(link.as_str(), |(name, _)| name);
        find(name).map_err(|e| Error::invalid(format!("could not get container for {name}: {e}")))?;
    }
    Ok(())
}

fn fill_hostname(request: &mut CreateContainer, id: &ContainerId) {
    if !request.config.hostname.is_empty() {
        return;
    }
    let host = &request.host;
    let uses_hosts = host.network() == NetworkMode::Host || UtsMode::parse(&host.uts_mode) == Ok(UtsMode::Host);
    request.config.hostname = match host.network() {
        _ if uses_hosts => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        NetworkMode::Container(_) => String::new(), // the other container's, at start
        _ => id.short().to_owned(),
    };
}

fn inherited_mounts(shared: &Shared, host: &HostConfig) -> Result<Vec<MountPoint>> {
    let mut all = Vec::new();
    for text in host.volumes_from.iter().flatten() {
        let (name, read_only) = mounts::parse_volumes_from(text)?;
        let donor = shared
            .containers
            .find(&name)
            .map_err(|e| e.with_kind(ErrorKind::InvalidArgument))?;
        all.extend(donor.record().mounts.iter().cloned().map(|mut mount| {
            mount.rw = mount.rw && !read_only;
            mount.copy_up = false;
            mount.anonymous = false;
            mount
        }));
    }
    Ok(all)
}

fn check_sources(planned: &[PlannedMount]) -> Result<()> {
    for mount in planned.iter().filter(|m| m.source_must_exist) {
        if !Path::new(&mount.point.source).exists() {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                mount.point.source
            )));
        }
    }
    Ok(())
}

fn record_of(
    shared: &Shared,
    request: CreateContainer,
    id: ContainerId,
    image: &Image,
    platform: &PlatformImage,
    (path, args): (String, Vec<String>),
) -> ContainerRecord {
    let mut record = ContainerRecord {
        dir: Places::of(&shared.config, &id).dir.to_string_lossy().into_owned(),
        id,
        name: String::new(),
        created: Timestamp::now(),
        config: request.config,
        host: request.host,
        image_id: image.id.to_string(),
        manifest_digest: platform.manifest_descriptor.digest.to_string(),
        layers: platform.layers.iter().map(|l| l.diff_id.to_string()).collect(),
        platform: format!("{}/{}", platform.platform.os, platform.platform.architecture),
        path,
        args,
        mounts: Vec::new(),
        endpoints: BTreeMap::new(),
        published: Vec::new(),
        upstream: Vec::new(),
        state: State::default(),
        restart_count: 0,
        manually_stopped: false,
        story: Story::default(),
        shut_down: false,
    };
    if record.config.network_disabled {
        "none".clone_into(&mut record.host.network_mode);
    }
    record.endpoints = endpoints_of(shared, &record, request.endpoints);
    record
}

/// The endpoints of a new container: that of its network mode and those named besides.
fn endpoints_of(
    shared: &Shared,
    record: &ContainerRecord,
    mut asked: BTreeMap<String, EndpointSettings>,
) -> BTreeMap<String, EndpointRecord> {
    let own = match record.host.network() {
        NetworkMode::Container(_) => return BTreeMap::new(),
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Named(name) => name,
    };
    if let Some(default) = asked.remove("default") {
        asked.entry("bridge".to_owned()).or_insert(default);
    }
    asked.entry(own).or_default();
    let endpoints = asked.into_iter().map(|(name, settings)| {
        let network = shared.networks.resolve(&name).ok();
        let shown = network.as_ref().map_or(name, |n| n.name.clone());
        let predefined = network.as_ref().is_some_and(|n| n.predefined);
        let endpoint = EndpointRecord {
            network_name: shown.clone(),
            network_id: network.map(|n| n.id.clone()).unwrap_or_default(),
            ..EndpointRecord::default()
        };
        (shown, predefined, EndpointRecord { settings, ..endpoint })
    });
    endpoints
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(name, predefined, mut endpoint)| {
            endpoint.dns_names = endpoint_names(record, predefined, &endpoint.settings);
            (name, endpoint)
        })
        .collect()
}

/// The names a container answers to on a network; none on the predefined ones.
pub(super) fn endpoint_names(record: &ContainerRecord, predefined: bool, settings: &EndpointSettings) -> Vec<String> {
    if predefined {
        return Vec::new();
    }
    let mut names: Vec<String> = Vec::new();
    let aliases = settings.aliases.iter().flatten().cloned();
    let own = [record.id.short().to_owned(), record.config.hostname.clone()];
    for name in [record.name.clone()].into_iter().chain(aliases).chain(own) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Makes directory and volumes, commits the record, starts the container's task.
async fn commit(shared: &Arc<Shared>, mut record: ContainerRecord, planned: Vec<PlannedMount>) -> Result<()> {
    for endpoint in record.endpoints.clone().into_iter() {
        let (name, mut endpoint) = endpoint;
        let predefined = shared.networks.resolve(&name).is_ok_and(|n| n.predefined);
        endpoint.dns_names = endpoint_names(&record, predefined, &endpoint.settings);
        record.endpoints.insert(name, endpoint);
    }
    super::links::make_canonical(shared, &mut record);
    let anonymous: Vec<&str> = planned
        .iter()
        .filter(|m| m.point.anonymous)
        .map(|m| m.point.name.as_str())
        .collect();
    let journal = journal_volumes(shared, &record, &anonymous).await?;
    let result = match build(shared, &mut record, planned).await {
        Ok(()) => write(shared, &record, journal).await,
        failed => failed,
    };
    if let Err(error) = result {
        undo(shared, &record).await;
        if let Some(row) = journal {
            shared.db.call(move |db| db.journal_end(row)).await?;
        }
        return Err(error);
    }
    operations::step("recorded");
    happened::publish(&shared.events, &record, "create", &[]);
    task::spawn(shared, record, Beginning::Idle);
    Ok(())
}

/// Writes down which volumes are about to be made for this container alone: nothing else tells that they are not to be
/// kept. Without any no row is needed: a directory that no record names says itself that it is left over.
async fn journal_volumes(
    shared: &Arc<Shared>,
    record: &ContainerRecord,
    anonymous: &[&str],
) -> Result<Option<JournalId>> {
    if anonymous.is_empty() {
        return Ok(None);
    }
    let args = serde_json::json!({ "anonymous": anonymous });
    let row = operations::journal(shared, OperationKind::Create, record.id.as_str(), args).await?;
    operations::step("journalled");
    Ok(Some(row))
}

async fn write(shared: &Arc<Shared>, record: &ContainerRecord, journal: Option<JournalId>) -> Result<()> {
    operations::step("built");
    let (stored, rows) = (record.clone(), Vec::from_iter(journal));
    let put = move |db: &crate::db::Db| db.put_container_ending(&stored, &rows);
    shared.db.call(put).await
}

async fn build(shared: &Arc<Shared>, record: &mut ContainerRecord, planned: Vec<PlannedMount>) -> Result<()> {
    let dir = Places::of(&shared.config, &record.id).dir;
    make_dir(&dir)?;
    operations::step("directory");
    make_upper(&Places::of(&shared.config, &record.id).upper())?;
    operations::step("upper");
    for mount in planned {
        let point = match mount.point.kind {
            MountKind::Volume => make_volume(shared, record, mount).await?,
            _ => mount.point,
        };
        record.mounts.push(point);
    }
    Ok(())
}

fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(dir)
        .internal(|| format!("create {}", dir.display()))
}

/// The writable directory, whose mode is that of `/`, whatever the engine's umask.
/// COMPAT: programs look for `/.dockerenv` to learn that they run in a container.
fn make_upper(upper: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let set_mode = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755));
    let marker = upper.join(".dockerenv");
    std::fs::create_dir(upper)
        .and_then(|()| set_mode(upper))
        .and_then(|()| std::fs::write(&marker, ""))
        .and_then(|()| set_mode(&marker))
        .internal(|| format!("create {}", upper.display()))
}

/// Makes a volume when it is missing and fills a fresh one from the image.
async fn make_volume(shared: &Arc<Shared>, record: &ContainerRecord, mount: PlannedMount) -> Result<MountPoint> {
    let mut point = mount.point;
    let service = VolumeService::new(Arc::clone(shared));
    let new = NewVolume {
        name: point.name.clone(),
        anonymous: point.anonymous,
        driver: point.driver.clone(),
        options: mount.driver_options,
        labels: mount.labels,
    };
    // COMPAT: no 404 for a missing driver, because clients pull an image when they read "not found".
    let volume = service.ensure(new).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.with_kind(ErrorKind::InvalidArgument),
        _ => error,
    })?;
    operations::step("volume");
    point.name.clone_from(&volume.name);
    point.driver.clone_from(&volume.driver);
    point.source = volume.mountpoint.to_string_lossy().into_owned();
    if point.copy_up {
        let done = copy_up(shared, record, &point).await;
        if let Err(error) = done {
            if point.anonymous {
                remove_volume(shared, &point).await;
            }
            return Err(error);
        }
    }
    Ok(point)
}

async fn copy_up(shared: &Arc<Shared>, record: &ContainerRecord, point: &MountPoint) -> Result<()> {
    if !point.subpath.is_empty() {
        return Ok(());
    }
    let lower = lower_dirs(&shared.config.root, record);
    let (volumes, name, path) = (shared.volumes.clone(), point.name.clone(), point.destination.clone());
    // COMPAT: a plugin's volume is mounted for this alone, as Docker does.
    let hold = match point.plugin() {
        Some(plugin) => Some(volumes::mount(shared, plugin, &point.name, &format!("{}/fill", record.id)).await?),
        None => None,
    };
    blocking("filling a volume from the image", move || {
        let Some(layers) = rootfs::layers(&lower)? else {
            return Ok(());
        };
        if let Some(hold) = &hold {
            return Ok(volumes.fill_at(&name, hold.path(), layers.as_fd(), Path::new(&path))?);
        }
        volumes.attach(&name)?;
        let filled = volumes.fill(&name, layers.as_fd(), Path::new(&path));
        volumes.release(&name)?;
        Ok(filled?)
    })
    .await
}

async fn remove_volume(shared: &Arc<Shared>, point: &MountPoint) {
    let service = VolumeService::new(Arc::clone(shared));
    if let Err(error) = service.discard(&point.name, &point.driver).await {
        tracing::warn!(volume = point.name, "undoing a create: {}", error.chain());
    }
}

/// Takes back what a failed create made.
async fn undo(shared: &Arc<Shared>, record: &ContainerRecord) {
    for mount in record.mounts.iter().filter(|m| m.anonymous) {
        remove_volume(shared, mount).await;
    }
    super::remove::delete_tree(&Places::of(&shared.config, &record.id).dir);
}
