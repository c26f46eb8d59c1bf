//! The container's first process, from the clone to the program: a list of
//! steps in the child, in order. Nothing here returns to the caller's code.

pub(crate) mod attach;
pub(crate) mod cgroup_tree;
pub(crate) mod classic;
pub(crate) mod copy_up;
pub(crate) mod devices;
pub(crate) mod identity;
pub(crate) mod masks;
pub(crate) mod program;
pub(crate) mod rootfs;
pub(crate) mod settings;
pub(crate) mod settle;
pub(crate) mod user;

use crate::bare::{self, Bare};
use crate::channel::{Channel, Message, unexpected};
use crate::hooks::HookOutput;
use crate::plan::mounts::{Kind, MountPlan};
use crate::plan::namespaces::NamespacePlan;
use crate::spec::Spec;
use crate::{Gate, Rootfs, RuntimeError, sources, trace};
use classic::MountApi;
use rustix::io::Errno;
use settle::ProcessPlan;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use wharf_sys::namespace::{self, CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWTIME, CLONE_NEWUSER};
use wharf_sys::path::RootDir;

/// Everything init needs, decided and opened before the clone.
#[derive(Debug)]
pub(crate) struct InitPlan {
    pub(crate) id: String,
    pub(crate) spec: Arc<Spec>,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: Rootfs,
    /// The root as a detached mount; none with the classic interface.
    pub(crate) rootfs_mount: Option<OwnedFd>,
    /// A directory that the root is attached to before it is pivoted to.
    pub(crate) place: PathBuf,
    /// That directory, opened by init with the rights of the host.
    pub(crate) place_dir: Option<OwnedFd>,
    pub(crate) mounts: Vec<MountPlan>,
    /// The opened trees of binds, by index of the mount.
    pub(crate) sources: Vec<Option<OwnedFd>>,
    /// Nodes of devices, in the order of the configuration.
    pub(crate) nodes: Vec<devices::Node>,
    /// The same made outside, with a user namespace that may make none.
    pub(crate) made_nodes: Vec<Option<OwnedFd>>,
    /// /dev is to be read-only, once it is filled.
    pub(crate) is_dev_read_only: bool,
    /// Directories of the cgroup as detached mounts.
    pub(crate) cgroup_tree: cgroup_tree::CgroupTree,
    /// Files through which it joins its cgroup (version 1).
    pub(crate) cgroup_entries: Vec<OwnedFd>,
    pub(crate) namespaces: NamespacePlan,
    /// Kinds already joined around the clone.
    pub(crate) joined: u32,
    /// The runtime moves init into its cgroup or writes its id maps.
    pub(crate) awaits_runtime: bool,
    pub(crate) process: ProcessPlan,
    pub(crate) gate: Gate,
    pub(crate) api: MountApi,
    pub(crate) no_new_keyring: bool,
    pub(crate) no_pivot: bool,
    /// Where its mounts begin; with a copy of the caller's if absent.
    pub(crate) bare: Option<Bare>,
}

/// Runs init, told whether it is in its cgroup (version 2); it ends with the exit code of its failure if there is one.
pub(crate) fn run(mut plan: InitPlan, mut channel: Channel, placed: Result<(), Errno>) -> ! {
    let placed = placed.map_err(|errno| RuntimeError::system("cgroup", "join the cgroup", errno));
    match placed.and_then(|()| set_up_and_execute(&mut plan, &mut channel)) {
        Ok(never) => match never {},
        Err(error) => end(&channel, error),
    }
}

/// Reports the failure and ends the process, whose descriptors may already
/// be closed: nothing that owns one is dropped.
pub(crate) fn end(channel: &Channel, error: RuntimeError) -> ! {
    let code = error.exit_code();
    let _ = channel.send(&Message::Failed(error));
    wharf_sys::clone::exit(if code == 125 { 1 } else { code })
}

fn set_up_and_execute(plan: &mut InitPlan, channel: &mut Channel) -> Result<std::convert::Infallible, RuntimeError> {
    settings::reset_signals()?;
    settings::open_umask();
    settings::hide_from_others(&plan.namespaces)?;
    // ORDER: before anything that the limits are about.
    crate::cgroups::enter(&plan.cgroup_entries)?;
    settings::unbind_from_cpus();
    join_namespaces(plan)?;
    trace::point("init: cloned");
    if plan.awaits_runtime {
        wait_prepared(channel)?;
        trace::point("init: prepared");
    }
    enter_new_namespaces(plan)?;
    request_devices(plan, channel)?;
    settings::new_session(plan)?;
    settings::set_host_names(plan)?;
    let lsm = settings::open_lsm(&plan.process.process)?;
    settings::set_oom_score(&plan.process.process, channel)?;
    let hook_output = open_hook_output(&plan.spec)?;
    let root = build_root(plan, channel)?;
    let console = open_console(plan, &root, channel)?;
    finish_root(plan, &root)?;
    if plan.bare.take().is_some() {
        bare::leave(&root)?;
    } else if plan.namespaces.has(CLONE_NEWNS) {
        rootfs::pivot(&root, plan.no_pivot)?;
    } else {
        rootfs::change_root(&root)?;
    }
    drop(root);
    if let Some(word) = &plan.spec.linux().rootfs_propagation {
        rootfs::propagate_root(word)?;
    }
    trace::point("init: pivoted");
    let keep: Vec<_> = lsm
        .iter()
        .map(AsFd::as_fd)
        .chain([channel.as_fd()])
        .chain(gate_fd(&plan.gate))
        .chain(hook_output.fds())
        .collect();
    let settled = settle::settle(&plan.process, console, &keep, channel)?;
    trace::point("init: settled");
    let filter = receive_filter(&plan.process, channel)?;
    let filter = settle::load_listened(&plan.process, filter, channel)?;
    tell(channel, &Message::Standing)?;
    wait_go(&plan.gate, channel)?;
    settle::confine(&plan.process, filter.as_deref(), &lsm)?;
    // SECURITY: what the container's own files make of a hook has no more rights than its program.
    let surroundings = (settled.environment(), &hook_output);
    crate::hooks::run_start_container(&plan.spec, &plan.id, &plan.bundle, surroundings)?;
    Err(settled.execute())
}

/// For the hooks that run when the host's files are out of sight.
fn open_hook_output(spec: &Spec) -> Result<HookOutput, RuntimeError> {
    match &spec.hooks {
        Some(hooks) if !hooks.start_container.is_empty() => HookOutput::open(&spec.annotations),
        _ => Ok(HookOutput::default()),
    }
}

fn gate_fd(gate: &Gate) -> Option<std::os::fd::BorrowedFd<'_>> {
    match gate {
        Gate::Socket(listener) => Some(listener.as_fd()),
        Gate::Channel | Gate::Open => None,
    }
}

/// Says something to the runtime; one that is gone ends init.
fn tell(channel: &Channel, message: &Message) -> Result<(), RuntimeError> {
    channel
        .send(message)
        .map_err(|errno| RuntimeError::system("channel", "answer the runtime", errno))
}

fn join_namespaces(plan: &InitPlan) -> Result<(), RuntimeError> {
    for (kind, fd) in &plan.namespaces.join {
        if plan.joined & kind != 0 {
            continue;
        }
        namespace::enter(fd, *kind).map_err(|errno| {
            let name = crate::plan::namespaces::file_name(*kind);
            RuntimeError::system("join namespaces", format!("join the {name} namespace"), errno)
        })?;
    }
    Ok(())
}

fn wait_prepared(channel: &Channel) -> Result<(), RuntimeError> {
    match channel.receive()? {
        Some(Message::Prepared) => Ok(()),
        None => Err(unexpected("nothing before the container was prepared")),
        Some(_) => Err(unexpected("something else than that the container is prepared")),
    }
}

/// ORDER: after the cgroup was joined, so that its directory is the root of
/// the cgroup namespace; after the id maps were written.
fn enter_new_namespaces(plan: &mut InitPlan) -> Result<(), RuntimeError> {
    if plan.namespaces.has(CLONE_NEWUSER) {
        // The root of the user namespace may not be let through to it.
        plan.place_dir = Some(rootfs::open_place(&plan.place)?);
        settings::become_root_of_user_namespace(plan.process.groups)?;
    }
    if plan.namespaces.makes(CLONE_NEWCGROUP) {
        namespace::unshare(CLONE_NEWCGROUP)
            .map_err(|errno| RuntimeError::system("namespaces", "make a cgroup namespace", errno))?;
    }
    if plan.namespaces.makes(CLONE_NEWNET) {
        crate::net_devices::bring_up_loopback()?;
    }
    if plan.namespaces.makes(CLONE_NEWTIME) {
        settings::enter_time_namespace(&plan.spec.linux().time_offsets)?;
    }
    Ok(())
}

/// The host's devices can only be moved from the host's namespace.
fn request_devices(plan: &InitPlan, channel: &Channel) -> Result<(), RuntimeError> {
    if plan.spec.linux().net_devices.is_empty() {
        return Ok(());
    }
    tell(channel, &Message::MoveDevices)?;
    match channel.receive()? {
        Some(Message::DevicesMoved) => Ok(()),
        _ => Err(unexpected("something else than that the network devices are in")),
    }
}

/// Attaches the root and everything planned below it.
fn build_root(plan: &mut InitPlan, channel: &Channel) -> Result<RootDir, RuntimeError> {
    let own_mounts = plan.namespaces.has(CLONE_NEWNS);
    if let Some(bare) = &plan.bare {
        bare.enter()?;
        plan.place = PathBuf::from(bare::PLACE);
    } else if own_mounts {
        rootfs::isolate_mounts()?;
    }
    let place = match plan.place_dir.take() {
        Some(opened) => opened,
        None => rootfs::open_place(&plan.place)?,
    };
    if let (MountApi::Classic, Rootfs::Overlay { .. }) = (plan.api, &plan.rootfs) {
        plan.sources = classic::open_hidden(&plan.mounts, &plan.place);
    }
    let root = rootfs::attach_rootfs(plan.rootfs_mount.take(), &plan.rootfs, (&plan.place, place))?;
    if !own_mounts {
        rootfs::isolate_root(&root, plan.api)?;
    }
    trace::point("init: root attached");
    for (index, (mount, source)) in plan.mounts.iter().zip(&plan.sources).enumerate() {
        if mount.kind == Kind::Cgroup {
            cgroup_tree::attach_cgroups(&root, mount, &plan.cgroup_tree)?;
            continue;
        }
        let lent = sources::open_lent((index, mount), source.as_ref(), channel)?;
        attach::attach_mount(&root, mount, source.as_ref().or(lent.as_ref()), plan.api)?;
    }
    trace::point("init: mounts");
    if !has_host_dev(&plan.mounts) {
        devices::populate_dev(&root)?;
    }
    devices::make_devices(&root, &plan.spec.linux().devices, &plan.nodes, &plan.made_nodes)?;
    // Those kept open would count against the program's own limit.
    plan.sources.clear();
    plan.made_nodes.clear();
    run_outer_hooks(plan, &root, channel)?;
    Ok(root)
}

/// A /dev bound from the host is used as it is.
fn has_host_dev(mounts: &[MountPlan]) -> bool {
    mounts.iter().any(|mount| {
        matches!(mount.kind, Kind::Bind { .. })
            && mount.destination.components().as_path() == std::path::Path::new("/dev")
    })
}

/// prestart and createRuntime run in the runtime, createContainer here.
fn run_outer_hooks(plan: &InitPlan, root: &RootDir, channel: &Channel) -> Result<(), RuntimeError> {
    if plan.spec.has_outer_hooks() {
        tell(channel, &Message::RunHooks)?;
        match channel.receive()? {
            Some(Message::HooksDone) => {}
            _ => return Err(unexpected("something else than that the hooks are done")),
        }
    }
    if plan.spec.hooks.is_some() {
        // COMPAT: hooks of runc find the container's root as their directory.
        rustix::process::fchdir(root)
            .map_err(|errno| RuntimeError::system("hooks", "enter the container's root", errno))?;
    }
    crate::hooks::run_create_container(&plan.spec, &plan.id, &plan.bundle)
}

fn open_console(
    plan: &InitPlan,
    root: &RootDir,
    channel: &Channel,
) -> Result<Option<wharf_sys::pty::Pty>, RuntimeError> {
    if !plan.process.wants_terminal() {
        return Ok(None);
    }
    let pty = devices::open_console(root)?;
    devices::attach_console(root, &pty, plan.api)?;
    settle::hand_over_console(&plan.process, &pty, channel)?;
    Ok(Some(pty))
}

/// What must come last: nothing may be written below afterwards.
fn finish_root(plan: &mut InitPlan, root: &RootDir) -> Result<(), RuntimeError> {
    let linux = plan.spec.linux();
    // ORDER: before /proc/sys is read-only. Where the host's is out of sight, a procfs of our own stands in for it.
    settings::apply_sysctls(&linux.sysctl, &plan.namespaces, root)?;
    masks::make_paths_read_only(root, &linux.readonly_paths, plan.api)?;
    let null = plan.bare.as_mut().and_then(|bare| bare.null.take());
    masks::mask_paths(root, &linux.masked_paths, (plan.api, null))?;
    if plan.is_dev_read_only {
        rootfs::make_read_only(root, std::path::Path::new("/dev"), plan.api)?;
    }
    settings::ensure_directory(root, &plan.process.process.cwd)?;
    if plan.spec.root.as_ref().is_some_and(|root| root.readonly) {
        rootfs::make_root_read_only(root, plan.api)?;
    }
    trace::point("init: masks");
    Ok(())
}

pub(crate) fn receive_filter(process: &ProcessPlan, channel: &Channel) -> Result<Option<Vec<u8>>, RuntimeError> {
    if !process.has_filter {
        return Ok(None);
    }
    match channel.receive()? {
        Some(Message::Filter(bytes)) => Ok(Some(bytes)),
        _ => Err(unexpected("something else than the filter")),
    }
}

/// Waits until the program may run. A runtime that died before ends init.
fn wait_go(gate: &Gate, channel: &mut Channel) -> Result<(), RuntimeError> {
    if matches!(gate, Gate::Open) {
        return Ok(());
    }
    if let Gate::Socket(listener) = gate {
        match channel.receive()? {
            Some(Message::Kept) => {}
            _ => return Err(unexpected("the end before the container was recorded")),
        }
        *channel = settings::accept_start(listener)?;
    }
    match channel.receive()? {
        Some(Message::Go) => Ok(()),
        _ => Err(unexpected("the end before the container was started")),
    }
}

/// A C string of a short text without NUL.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}
