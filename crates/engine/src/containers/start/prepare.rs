//! Everything a start needs before the shim: namespace, files, mounts, `config.json`.
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharf_net::{NamespaceHold, NamespaceRequest, Pinning, Upstream};
use wharf_runtime::spec::Spec;
use wharf_shim::plan::{ConsoleSize, LaunchPlan, RootfsPlan, RuntimePlan, StdioPlan};
use wharf_sys::path::RootDir;

use super::{files, host_facts, network};
use crate::Shared;
use crate::containers::blocking::{blocking, blocking_within};
use crate::containers::links;
use crate::containers::paths::{Places, cgroup_path, lower_dirs};
use crate::error::{Context, Error, Result};
use crate::logging;
use crate::model::annotations::host_view;
use crate::model::{ContainerRecord, IpcMode, MountKind, MountPoint, NetworkMode, PidMode, Status};
use crate::operations;
use crate::realtime;
use crate::spec::{self, HostFacts};
use crate::volumes::{self, Giving};

/// Longest time a preparation may take: it looks at the sources of mounts.
const PREPARE_DEADLINE: Duration = Duration::from_secs(20);

/// A sysfs that is being made, or stands.
pub(crate) type Sysfs = JoinHandle<Option<OwnedFd>>;

/// What was prepared.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: LaunchPlan,
    pub(super) upstream: Vec<Upstream>,
    /// The mounts, with the places that plugins have their volumes at.
    pub(super) mounts: Vec<MountPoint>,
    /// To be kept until the shim has made the container: the plan names a path through it.
    pub(super) netns: Option<NamespaceHold>,
    /// To be kept as long.
    pub(super) _sysfs: Option<Sysfs>,
}

/// Other containers that this one joins, as they are now.
#[derive(Clone, Debug, Default)]
struct Joined {
    network: Option<Arc<ContainerRecord>>,
    pid: Option<Arc<ContainerRecord>>,
    ipc: Option<Arc<ContainerRecord>>,
}

/// Prepares a start; tells `standing` when the network namespace stands. What it leaves in the kernel is undone by
/// releasing network and mounts.
pub(super) async fn prepare(
    shared: &Arc<Shared>,
    record: &ContainerRecord,
    networks: &network::Networks,
    standing: oneshot::Sender<()>,
) -> Result<Prepared> {
    let joined = resolve_joined(shared, record)?;
    let mut record = record.clone();
    mount_plugged(shared, &mut record).await?;
    let (shared, networks) = (Arc::clone(shared), networks.clone());
    blocking_within(PREPARE_DEADLINE, "preparing the container", move || {
        prepare_blocking(&shared, record, &networks, (&joined, standing))
    })
    .await
}

/// Has the volumes of plugins mounted; their places become the sources of the mounts.
async fn mount_plugged(shared: &Arc<Shared>, record: &mut ContainerRecord) -> Result<()> {
    if record.mounts.iter().all(|mount| mount.plugin().is_none()) {
        return Ok(());
    }
    let id = record.id.to_string();
    // What an earlier run could not give back goes first: a plugin must not lose count.
    volumes::release(shared, &id, Giving::Awaited).await?;
    for mount in &mut record.mounts {
        if let Some(plugin) = mount.plugin() {
            let place = volumes::mount(shared, plugin, &mount.name, &id).await?.keep();
            mount.source = place.to_string_lossy().into_owned();
            operations::step("mounted");
        }
    }
    Ok(())
}

fn resolve_joined(shared: &Shared, record: &ContainerRecord) -> Result<Joined> {
    let running = |name: &str, what: &str| -> Result<Arc<ContainerRecord>> {
        let other = shared.containers.find(name)?.record();
        match other.state.status {
            Status::Running | Status::Paused => Ok(other),
            _ => Err(Error::conflict(format!(
                "cannot join {what} of a non running container: {}",
                other.id
            ))),
        }
    };
    let network = match record.host.network() {
        NetworkMode::Container(name) => Some(running(&name, "network")?),
        _ => None,
    };
    let pid = match PidMode::parse(&record.host.pid_mode) {
        Ok(PidMode::Container(name)) => Some(running(&name, "PID")?),
        _ => None,
    };
    let ipc = match IpcMode::parse(&record.host.ipc_mode) {
        Ok(IpcMode::Container(name)) => Some(joinable_ipc(running(&name, "IPC")?)?),
        _ => None,
    };
    Ok(Joined { network, pid, ipc })
}

fn joinable_ipc(other: Arc<ContainerRecord>) -> Result<Arc<ContainerRecord>> {
    match IpcMode::parse(&other.host.ipc_mode) {
        Ok(IpcMode::Shareable | IpcMode::Host) => Ok(other),
        _ => Err(Error::invalid(format!(
            "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            other.id
        ))),
    }
}

fn prepare_blocking(
    shared: &Shared,
    mut record: ContainerRecord,
    networks: &network::Networks,
    (joined, standing): (&Joined, oneshot::Sender<()>),
) -> Result<Prepared> {
    let places = Places::of(&shared.config, &record.id);
    make_dirs(&places)?;
    let files_dir = match &joined.network {
        Some(other) => {
            record.config.hostname.clone_from(&other.config.hostname);
            record.config.domainname.clone_from(&other.config.domainname);
            Places::of(&shared.config, &other.id).dir
        }
        None => places.dir.clone(),
    };
    let upstream = match &joined.network {
        Some(_) => Vec::new(),
        None => {
            let linked = links::hosts_lines(shared, &record)?;
            files::write_first(&places.dir, &record, networks, shared.net.host_gateway(), linked)?.upstream
        }
    };
    let plan = launch_plan(shared, &record, &places)?;
    let netns = prepare_namespace(shared, &record, joined, (&upstream, &plan.runtime))?;
    let _ = standing.send(()); // nobody waits where the start was given up
    let sysfs = netns.as_ref().map(make_sysfs);
    let mounts = record.mounts.clone();
    for mount in &mut record.mounts {
        prepare_mount(shared, mount)?;
    }
    realtime::ensure(shared, &record, &record.host.resources)?;
    let facts = HostFacts {
        cgroup_path: cgroup_path(&shared.config, &record),
        cgroup_v2: shared.cgroup_v2(),
        netns: netns.as_ref().map(NamespaceHold::path),
        pid_of_pid_container: joined.pid.as_ref().map(|c| c.state.pid),
        pid_of_ipc_container: joined.ipc.as_ref().map(|c| c.state.pid),
        shared_shm: prepare_shm(shared, &record, joined)?,
        files_dir,
        devices: host_facts::wanted_devices(&record.host)?,
        host_devices: if record.host.privileged {
            host_facts::all_devices()
        } else {
            Vec::new()
        },
        block_devices: host_facts::block_devices(&record.host.resources),
        init_binary: shared.config.shim_binary.clone(),
        known_capabilities: shared.capabilities.clone(),
        apparmor: crate::system::has_apparmor(),
        default_pids_limit: shared.config.live.now().default_pids_limit,
        recursive_read_only: wharf_sys::mount::is_new_interface_available(),
    };
    let spec = spec::generate(&record, &facts)?;
    write_spec(&places.dir, &spec)?;
    Ok(Prepared {
        plan,
        upstream,
        mounts,
        netns,
        _sysfs: sysfs,
    })
}

fn make_dirs(places: &Places) -> Result<()> {
    for dir in [places.upper(), places.work(), places.dir.join("logs")] {
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(e).internal(|| format!("create {}", dir.display()));
            }
            _ => {}
        }
    }
    forget_volatile(&places.work())
}

/// The kernel's mark of an overlay that was volatile keeps it from being mounted again, as the machine might have
/// crashed in between. A container that is restarted was not there then: a crash ends it for good.
fn forget_volatile(work: &Path) -> Result<()> {
    let mark = work.join("work/incompat");
    match std::fs::remove_dir_all(&mark) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).internal(|| format!("remove {}", mark.display())),
        _ => Ok(()),
    }
}

/// The namespace to join: its own pinned one, another container's, or the host's (`None`).
fn prepare_namespace(
    shared: &Shared,
    record: &ContainerRecord,
    joined: &Joined,
    (upstream, runtime): (&[Upstream], &RuntimePlan),
) -> Result<Option<NamespaceHold>> {
    if let Some(other) = &joined.network {
        let hold = || shared.net.hold_namespace(other.id.as_str());
        return Ok(network::has_own_namespace(other).then(hold).transpose()?);
    }
    if !network::has_own_namespace(record) {
        return Ok(None);
    }
    let request = NamespaceRequest {
        container_id: record.id.to_string(),
        upstream: upstream.to_vec(),
        pinning: match runtime {
            RuntimePlan::Builtin => Pinning::Apart,
            _ => Pinning::InPlace,
        },
    };
    Ok(Some(shared.net.create_namespace(&request)?))
}

/// Makes the sysfs of a container's namespace beside everything else; the shim mounts it a moment later.
fn make_sysfs(netns: &NamespaceHold) -> Sysfs {
    let netns = netns.clone();
    // Without it the mount only takes longer.
    tokio::task::spawn_blocking(move || netns.make_sysfs().ok())
}

/// Makes the source of a mount usable and puts its host path into the mount point.
fn prepare_mount(shared: &Shared, mount: &mut MountPoint) -> Result<()> {
    match mount.kind {
        MountKind::Tmpfs => Ok(()),
        MountKind::Bind => prepare_bind(mount),
        MountKind::Volume => {
            let source = match mount.plugin() {
                Some(_) => PathBuf::from(&mount.source),
                None => shared.volumes.attach(&mount.name)?,
            };
            mount.source = within(&source, &mount.subpath, &mount.name)?
                .to_string_lossy()
                .into_owned();
            Ok(())
        }
        MountKind::Image => Err(Error::unimplemented(format!(
            "image mounts are not supported by this engine (mount of {} on {})",
            mount.name, mount.destination
        ))),
    }
}

fn prepare_bind(mount: &MountPoint) -> Result<()> {
    let source = Path::new(&mount.source);
    match std::fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && mount.create_source => std::fs::create_dir_all(source)
            .internal(|| format!("error while creating mount source path '{}'", mount.source)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            mount.source
        ))),
        Err(e) => Err(e).internal(|| format!("examine mount source {}", mount.source)),
    }
}

/// SECURITY: a subpath is resolved inside the volume; a link in it cannot lead out.
fn within(source: &Path, subpath: &str, volume: &str) -> Result<PathBuf> {
    if subpath.is_empty() {
        return Ok(source.to_owned());
    }
    let wrong =
        |e: rustix::io::Errno| Error::invalid(format!("cannot access path {subpath:?} within volume {volume}: {e}"));
    let root = RootDir::open(source).map_err(wrong)?;
    let open = |flags: OFlags| root.open_at(subpath, OFlags::PATH | flags, Mode::empty());
    let found = open(OFlags::empty()).map_err(|e| {
        // COMPAT: clients read a missing program out of the system's words for a missing file; a link is there.
        if e == rustix::io::Errno::NOENT && open(OFlags::NOFOLLOW).is_ok() {
            return Error::invalid(format!("path {subpath:?} leads to nothing within volume {volume}"));
        }
        wrong(e)
    })?;
    std::fs::read_link(wharf_sys::fd::proc_path(&found))
        .internal(|| format!("locate {subpath:?} within volume {volume}"))
}

/// A /dev/shm that others may join lives on the host, in the run directory.
fn prepare_shm(shared: &Shared, record: &ContainerRecord, joined: &Joined) -> Result<Option<PathBuf>> {
    if let Some(other) = &joined.ipc {
        return Ok(Some(match IpcMode::parse(&other.host.ipc_mode) {
            Ok(IpcMode::Host) => PathBuf::from("/dev/shm"),
            _ => Places::of(&shared.config, &other.id).shm,
        }));
    }
    if IpcMode::parse(&record.host.ipc_mode) != Ok(IpcMode::Shareable) {
        return Ok(None);
    }
    let path = Places::of(&shared.config, &record.id).shm;
    std::fs::create_dir_all(&path).internal(|| format!("create {}", path.display()))?;
    let size = std::ffi::CString::new(format!("mode=1777,size={}", record.host.shm_size))
        .map_err(|_| Error::internal("a size has no NUL"))?;
    let flags =
        rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOEXEC;
    rustix::mount::mount("shm", &path, "tmpfs", flags, Some(size.as_c_str()))
        .internal(|| format!("mount /dev/shm of {} on {}", record.id.short(), path.display()))?;
    Ok(Some(path))
}

fn write_spec(dir: &Path, spec: &Spec) -> Result<()> {
    let path = dir.join("config.json");
    let bytes = serde_json::to_vec(spec).internal(|| "write config.json".into())?;
    std::fs::write(&path, bytes).internal(|| format!("write {}", path.display()))
}

fn launch_plan(shared: &Shared, record: &ContainerRecord, places: &Places) -> Result<LaunchPlan> {
    let [rows, cols] = record.host.console_size.map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    Ok(LaunchPlan {
        id: record.id.to_string(),
        bundle: places.dir.clone(),
        rootfs: rootfs_plan(shared, record, places),
        user: Some(user_or_root(&record.config.user)),
        group_add: record.host.group_add.clone().unwrap_or_default(),
        stdio: StdioPlan {
            terminal: record.config.tty,
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            console_size: (rows > 0 && cols > 0).then_some(ConsoleSize { rows, cols }),
        },
        log: logging::plan(&shared.config, record, &places.log(&record.id))?,
        runtime: shared
            .config
            .live
            .now()
            .runtimes
            .plan(&record.host.runtime, &shared.config)?,
        host_view: host_view(record.host.annotations.as_ref()).unwrap_or(shared.config.live.now().default_host_view),
        hierarchy: Some(shared.hierarchy.clone()),
        bare: shared.bare.plan(),
        shim_cgroup: Some(format!("/{}/shims", shared.config.instance)),
    })
}

/// Nobody named is root, who is looked up too: the image may give it a home and groups.
pub(crate) fn user_or_root(user: &str) -> String {
    if user.is_empty() {
        "0".to_owned()
    } else {
        user.to_owned()
    }
}

fn rootfs_plan(shared: &Shared, record: &ContainerRecord, places: &Places) -> RootfsPlan {
    RootfsPlan::Overlay {
        lower: lower_dirs(&shared.config.root, record),
        upper: places.upper(),
        work: places.work(),
        // It is deleted with its end, or by the next engine after a crash.
        volatile: record.host.auto_remove,
    }
}

/// Gives back volumes and the shared /dev/shm. Goes on past failures, reports the first.
pub(crate) async fn release_mounts(shared: &Arc<Shared>, record: &ContainerRecord, giving: Giving) -> Result<()> {
    let plugged = volumes::release(shared, record.id.as_str(), giving);
    let (plugged, own) = tokio::join!(plugged, release_own(shared, record));
    own.and(plugged)
}

/// What this engine itself has mounted.
async fn release_own(shared: &Arc<Shared>, record: &ContainerRecord) -> Result<()> {
    let shareable = IpcMode::parse(&record.host.ipc_mode) == Ok(IpcMode::Shareable);
    let volumes: Vec<String> = record
        .mounts
        .iter()
        .filter(|m| m.kind == MountKind::Volume && m.plugin().is_none())
        .map(|m| m.name.clone())
        .collect();
    if volumes.is_empty() && !shareable {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    let shm = Places::of(&shared.config, &record.id).shm;
    blocking("releasing the mounts", move || {
        let mut first = None;
        for name in volumes {
            if let Err(error) = shared.volumes.release(&name) {
                first.get_or_insert(Error::from(error));
            }
        }
        if shareable {
            unmount_shm(&shm);
        }
        first.map_or(Ok(()), Err)
    })
    .await
}

/// Takes a shared /dev/shm away; containers that joined it keep theirs.
pub(crate) fn unmount_shm(path: &Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH); // not mounted is fine
    let _ = std::fs::remove_dir(path); // not there is fine
}
