//! Creating and starting a container: the runtime's side.

use crate::bare;
use crate::birth;
use crate::cgroups::open_entries;
use crate::channel::{self, Channel, Message, unexpected};
use crate::group::{CgroupGuard, create_group};
use crate::host_root::{HostRoot, HostRootGuard};
use crate::init::classic::MountApi;
use crate::init::identity::Groups;
use crate::init::{self, InitPlan, cgroup_tree, rootfs, settle};
use crate::listener::Listened;
use crate::plan::id_maps::complete_id_maps;
use crate::plan::labels::label_mounts;
use crate::plan::mounts::{Kind, MountPlan, Propagation, parse_propagation, plan_mounts};
use crate::plan::namespaces::plan_namespaces;
use crate::resctrl::{self, ResctrlGroup, ResctrlGuard};
use crate::sources::{Lent, open_sources};
use crate::spec::{IdMapping, Linux, Spec, validate};
use crate::{CreateRequest, ErrorKind, Gate, Rootfs, RuntimeError, Scope, seccomp, trace};
use crate::{device_nodes, user_namespace};
use rustix::process::WaitIdOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wharf_cgroup::Cgroup;
use wharf_sys::clone::{Child, CloneOptions};
use wharf_sys::handle;
use wharf_sys::mount::MOUNT_ATTR_RDONLY;
use wharf_sys::namespace::{CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_NEWTIME, CLONE_NEWUSER};

/// A container whose init has set everything up and waits for [`Created::start`].
///
/// Dropping it without `start` or [`Created::leave`] kills init and removes
/// the cgroup.
#[derive(Debug)]
pub struct Created {
    init: Option<InitGuard>,
    channel: Channel,
    cgroup: Option<CgroupGuard>,
    /// Taken away after init and the cgroup.
    host_root: HostRootGuard,
    resctrl: ResctrlGuard,
    console: Option<OwnedFd>,
    warnings: Vec<String>,
    /// Init does not wait for us.
    is_open: bool,
}

/// Init, killed and reaped unless it is kept.
#[derive(Debug)]
struct InitGuard {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl InitGuard {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd
            .as_ref()
            .expect("invariant: taken only when the guard is consumed")
            .as_fd()
    }

    fn keep(mut self) -> (i32, OwnedFd) {
        (
            self.pid,
            self.pidfd
                .take()
                .expect("invariant: taken only when the guard is consumed"),
        )
    }
}

impl Drop for InitGuard {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            let _ = wharf_sys::signal::send(&pidfd, 9);
            let _ = handle::wait(&pidfd, WaitIdOptions::EXITED);
        }
    }
}

/// Creates the container: cgroup, namespaces, mounts, rights.
///
/// On return init waits before the program. On failure nothing is left.
///
/// # Errors
/// [`RuntimeError`] with the failed step.
pub fn create(request: CreateRequest) -> Result<Created, RuntimeError> {
    create_while(request, |_| Ok(()))
}

/// [`create`], with something to do while init, whose process id it is told,
/// sets itself up.
///
/// # Errors
/// As [`create`]; those of `meanwhile`, with nothing left either.
pub fn create_while(
    request: CreateRequest,
    meanwhile: impl FnOnce(i32) -> Result<(), RuntimeError>,
) -> Result<Created, RuntimeError> {
    trace::point("configuration read");
    validate::validate(&request.spec)?;
    crate::privileges::check(request.spec.linux())?;
    let filter_cache = request.filter_cache.clone();
    seccomp::check_names(&request.spec)?;
    let is_open = matches!(request.gate, Gate::Open);
    let choice = request.cgroup;
    let mut plan = plan_init(request)?;
    trace::point("plan");
    // ORDER: limits stand before the first process is in the group.
    let cgroup = create_group(&plan.id, &plan.spec, choice)?;
    let host_root = match plan.namespaces.has(CLONE_NEWNS) {
        true => None,
        false => Some(HostRoot::note(&plan.place)?),
    };
    // ORDER: before the clone, whose guard ends init first.
    let host_root = HostRootGuard::new(host_root);
    open_cgroup_tree(&mut plan, cgroup.group())?;
    plan.cgroup_entries = open_entries(cgroup.group())?;
    let resctrl = resctrl::create_group(plan.spec.linux(), &plan.id)?;
    trace::point("cgroups");
    let warnings = std::mem::take(&mut plan.process.warnings);
    let hooks = HookContext {
        spec: Arc::clone(&plan.spec),
        id: plan.id.clone(),
        bundle: plan.bundle.clone(),
        lent: Lent::of(&plan.mounts, &plan.sources),
    };
    let (ours, theirs) = channel::pair()?;
    let places = (&cgroup, resctrl.group());
    let init = clone_init(plan, theirs, &ours, places, &hooks.spec)?;
    // ORDER: compiled while init mounts; sent after the hooks, for whose end
    // init waits first.
    let seccomp = hooks.spec.linux().seccomp.as_ref();
    let filter = seccomp
        .map(|seccomp| seccomp::compile_cached(seccomp, filter_cache.as_deref()))
        .transpose()?
        .map(|filter| Message::Filter(filter.bytes()));
    trace::point("seccomp compiled");
    let mut created = Created {
        init: Some(init),
        channel: ours,
        cgroup: Some(cgroup),
        host_root,
        resctrl,
        console: None,
        warnings,
        is_open,
    };
    // An init that has failed meanwhile says so below, which is the better error.
    let done = meanwhile(created.pid());
    created.await_standing(&hooks, filter)?;
    done?;
    if let Some(cgroup) = &mut created.cgroup {
        cgroup.release_holder();
    }
    trace::point("standing");
    Ok(created)
}

/// What the runtime needs to answer init.
struct HookContext {
    spec: Arc<Spec>,
    id: String,
    bundle: PathBuf,
    lent: Lent,
}

/// Decides everything and opens what lies outside the container.
fn plan_init(request: CreateRequest) -> Result<InitPlan, RuntimeError> {
    let CreateRequest {
        id,
        bundle,
        spec,
        rootfs,
        ..
    } = request;
    let bundle = std::path::absolute(&bundle).unwrap_or(bundle);
    let rootfs = match rootfs {
        Rootfs::Directory(path) => Rootfs::Directory(bundle.join(path)),
        overlay @ Rootfs::Overlay { .. } => overlay,
    };
    let process = spec.process.clone().unwrap_or_default();
    let process = settle::plan_process(settle::ProcessRequest {
        process,
        user: request.user,
        group_add: request.group_add,
        stdio: request.stdio,
        preserve_fds: request.preserve_fds,
        groups: Groups::of(&spec.annotations),
        linux: spec.linux(),
        seccomp: spec.linux().seccomp.as_ref(),
    })?;
    let mut mounts = plan_mounts(&bundle, &spec.mounts)?;
    strip_root(&mut mounts, &rootfs);
    complete_id_maps(&mut mounts, spec.linux())?;
    label_mounts(&mut mounts, spec.linux().mount_label.as_deref())?;
    drop_unmapped_groups(&mut mounts, spec.linux());
    let is_dev_read_only = leave_dev_writable(&mut mounts);
    add_default_propagation(&mut mounts, spec.linux().rootfs_propagation.as_deref());
    let namespaces = plan_namespaces(spec.linux())?;
    let is_locked = namespaces.has(CLONE_NEWUSER);
    mounts.iter_mut().for_each(|mount| mount.is_locked = is_locked);
    let api = MountApi::probe();
    api.check(&mounts)?;
    let outside = api.outside(&mounts)?;
    let rootfs_mount = rootfs::open_rootfs(&rootfs, outside)?;
    let nodes = init::devices::plan_nodes(&spec.linux().devices)?;
    let made_nodes = match namespaces.makes(CLONE_NEWUSER) && outside == MountApi::New {
        true => device_nodes::make_all(spec.linux(), &nodes),
        false => Vec::new(),
    };
    let sources = open_sources(&mounts, &rootfs, outside)?;
    let place = attach_place(&bundle, &spec, &rootfs);
    let mut plan = InitPlan {
        id,
        bundle,
        rootfs,
        rootfs_mount,
        place,
        place_dir: None,
        mounts,
        sources,
        nodes,
        is_dev_read_only,
        made_nodes,
        cgroup_tree: cgroup_tree::CgroupTree::default(),
        cgroup_entries: Vec::new(),
        joined: 0,
        awaits_runtime: false,
        namespaces,
        process,
        gate: request.gate,
        api,
        no_new_keyring: request.no_new_keyring,
        no_pivot: request.no_pivot,
        bare: None,
        spec,
    };
    plan.bare = bare::choose(request.bare, &plan);
    Ok(plan)
}

/// A destination may be written as the host sees it, below the root.
///
/// COMPAT: as runc takes it.
fn strip_root(mounts: &mut [MountPlan], rootfs: &Rootfs) {
    let Rootfs::Directory(root) = rootfs else { return };
    for mount in mounts.iter_mut().filter(|_| root != Path::new("/")) {
        if let Ok(inside) = mount.destination.strip_prefix(root) {
            mount.destination = Path::new("/").join(inside);
        }
    }
}

/// A file system for /dev must take nodes and mounts before it is read-only;
/// tells whether it is to be.
fn leave_dev_writable(mounts: &mut [MountPlan]) -> bool {
    let is_dev = |plan: &&mut MountPlan| {
        matches!(plan.kind, Kind::Filesystem(_)) && plan.destination.components().as_path() == Path::new("/dev")
    };
    let Some(dev) = mounts.iter_mut().rfind(is_dev) else {
        return false;
    };
    let is_read_only = dev.top.set & MOUNT_ATTR_RDONLY != 0;
    dev.top.set &= !MOUNT_ATTR_RDONLY;
    is_read_only
}

/// COMPAT: as crun does, a group that the container's user namespace does not map is not asked for
/// on its terminals; usual configurations name `gid=5`.
fn drop_unmapped_groups(mounts: &mut [MountPlan], linux: &Linux) {
    if linux.gid_mappings.is_empty() {
        return;
    }
    let is_mapped = |item: &str| {
        let gid = item.strip_prefix("gid=").and_then(|gid| gid.parse().ok());
        gid.is_none_or(|gid| IdMapping::host_of(&linux.gid_mappings, gid).is_some())
    };
    for mount in mounts {
        if mount.kind == Kind::Filesystem("devpts".to_owned()) {
            mount.data.retain(|item| is_mapped(item));
        }
    }
}

/// A bind that says nothing of propagation takes that of the root: slave
/// unless the configuration says otherwise.
fn add_default_propagation(mounts: &mut [MountPlan], root: Option<&str>) {
    let default = root
        .and_then(parse_propagation)
        .map_or(crate::plan::mounts::MS_SLAVE, |wanted| wanted.flag);
    for mount in mounts {
        if matches!(mount.kind, Kind::Bind { .. }) && mount.propagation.is_empty() {
            mount.propagation.push(Propagation {
                flag: default,
                recursive: true,
            });
        }
    }
}

/// Where the root is attached in init's mount namespace: the place the
/// configuration names, or the bundle.
fn attach_place(bundle: &Path, spec: &Spec, rootfs: &Rootfs) -> PathBuf {
    if let Rootfs::Directory(path) = rootfs {
        return path.clone();
    }
    let named = spec
        .root
        .as_ref()
        .map(|root| bundle.join(&root.path))
        .filter(|path| path.is_dir());
    named.unwrap_or_else(|| bundle.to_owned())
}

fn open_cgroup_tree(plan: &mut InitPlan, group: Option<&Cgroup>) -> Result<(), RuntimeError> {
    if let (Some(group), true) = (group, plan.mounts.iter().any(|mount| mount.kind == Kind::Cgroup)) {
        plan.cgroup_tree = cgroup_tree::open_tree(group, plan.api.outside(&plan.mounts)?)?;
    }
    Ok(())
}

/// Clones init and prepares it: cgroup, id maps.
fn clone_init(
    mut plan: InitPlan,
    theirs: Channel,
    ours: &Channel,
    (cgroup, class): (&CgroupGuard, Option<&ResctrlGroup>),
    spec: &Spec,
) -> Result<InitGuard, RuntimeError> {
    let is_late = cgroup.needs_late_entry();
    let into = cgroup.group().filter(|_| !is_late).and_then(Cgroup::open_dir);
    let late_mounts = if plan.bare.is_some() { CLONE_NEWNS } else { 0 };
    let options = CloneOptions {
        // These are made by init itself: when it is in the cgroup, before
        // the clocks tick, and of other mounts than ours.
        flags: plan.namespaces.new & !(CLONE_NEWCGROUP | CLONE_NEWTIME | late_mounts),
        cgroup: into,
    };
    let writes_maps = plan.namespaces.makes(CLONE_NEWUSER);
    plan.awaits_runtime = is_late || writes_maps;
    let awaits_runtime = plan.awaits_runtime;
    plan.joined = birth::entered_before(&plan.namespaces);
    let joined = plan.joined;
    // Init takes the plan along, and the descriptors with it.
    let opened = plan.namespaces.open_again()?;
    let join: Vec<_> = opened.iter().map(|(kind, fd)| (*kind, fd.as_fd())).collect();
    let cloned = birth::clone_init(&join, joined, options, |placed| init::run(plan, theirs, placed));
    trace::point("cloned");
    let Child { pid, pidfd } = cloned?;
    let guard = InitGuard {
        pid: pid.as_raw_nonzero().get(),
        pidfd: Some(pidfd),
    };
    if is_late {
        cgroup.add(guard.pid)?;
    }
    if let Some(class) = class {
        class.add(guard.pid)?;
    }
    let linux = spec.linux();
    if writes_maps {
        user_namespace::write_maps(guard.pid, &linux.uid_mappings, &linux.gid_mappings)?;
    }
    if awaits_runtime {
        let _ = ours.send(&Message::Prepared);
    }
    Ok(guard)
}

impl Created {
    /// Reads what init says until everything stands.
    fn await_standing(&mut self, hooks: &HookContext, mut filter: Option<Message>) -> Result<(), RuntimeError> {
        let has_devices = !hooks.spec.linux().net_devices.is_empty();
        // ORDER: init takes the filter after the last answer that it waits for.
        let mut awaited = usize::from(has_devices) + hooks.lent.count() + usize::from(hooks.spec.has_outer_hooks());
        let mut answer = |channel: &Channel, message: Option<Message>| {
            // An init that failed has closed its end; its error is read below.
            if let Some(message) = message {
                awaited = awaited.saturating_sub(1);
                let _ = channel.send(&message);
            }
            if let Some(message) = filter.take_if(|_| awaited == 0) {
                let _ = channel.send(&message);
            }
        };
        answer(&self.channel, None);
        loop {
            match self.channel.receive()? {
                Some(Message::Standing) => return Ok(()),
                Some(Message::Warning(text)) => self.warnings.push(text),
                Some(Message::Console(master)) => self.console = Some(master),
                Some(Message::MoveDevices) => {
                    crate::net_devices::move_all(&hooks.spec.linux().net_devices, self.pid())?;
                    answer(&self.channel, Some(Message::DevicesMoved));
                }
                Some(Message::MapIds(index, tree)) => {
                    hooks.lent.map_ids(index, &tree)?;
                    answer(&self.channel, Some(Message::IdsMapped));
                }
                Some(Message::RunHooks) => {
                    crate::hooks::run_create_runtime(&hooks.spec, &hooks.id, self.pid(), &hooks.bundle)?;
                    answer(&self.channel, Some(Message::HooksDone));
                }
                Some(Message::Listener(number)) => self.hand_over_listener(hooks, number)?,
                Some(Message::Failed(error)) => return Err(error),
                Some(_) => return Err(unexpected("a message out of turn")),
                None => return Err(RuntimeError::new(ErrorKind::System, "init", self.how_init_ended())),
            }
        }
    }

    /// Gives the listener of init's filter to the agent.
    fn hand_over_listener(&self, hooks: &HookContext, number: i32) -> Result<(), RuntimeError> {
        let seccomp = hooks.spec.linux().seccomp.as_ref();
        let listened = Listened {
            seccomp: seccomp.ok_or_else(|| unexpected("a listener nobody asked for"))?,
            pid: self.pid(),
            pidfd: self.pidfd(),
            state: crate::hooks::state(&hooks.spec, &hooks.id, "creating", self.pid(), &hooks.bundle),
        };
        listened.hand_over(number)?;
        let _ = self.channel.send(&Message::ListenerTaken);
        Ok(())
    }

    /// For an init that ended without a word, such as one killed for memory.
    fn how_init_ended(&self) -> String {
        let Some(init) = &self.init else {
            return "init is gone".to_owned();
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = handle::wait(init.pidfd(), options).ok().flatten();
        match status
            .as_ref()
            .map(|status| (status.terminating_signal(), status.exit_status()))
        {
            Some((Some(9), _)) => {
                "container init was killed (out of memory? the memory limit may be too low)".to_owned()
            }
            Some((Some(signal), _)) => format!("container init was ended by signal {signal}"),
            Some((None, Some(code))) => format!("container init exited with code {code}"),
            _ => "container init ended".to_owned(),
        }
    }

    /// Init's process id, as the caller sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.init.as_ref().map_or(0, |init| init.pid)
    }

    /// A descriptor of init.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.init
            .as_ref()
            .expect("invariant: init is taken only when self is consumed")
            .pidfd()
    }

    /// Init's cgroup; none without `linux.cgroupsPath`.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref().and_then(CgroupGuard::group)
    }

    /// Init's class of cache and memory bandwidth; none without `linux.intelRdt`.
    #[must_use]
    pub fn resctrl(&self) -> Option<&ResctrlGroup> {
        self.resctrl.group()
    }

    /// Where the root is attached on the host; none with a mount namespace.
    #[must_use]
    pub fn host_root(&self) -> Option<&HostRoot> {
        self.host_root.root()
    }

    /// The unit of systemd that holds the cgroup, if one does.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.cgroup.as_ref().and_then(CgroupGuard::scope)
    }

    /// The master side of the terminal, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What went wrong without harm, such as a limit that may not be raised.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Lets init execute the program and waits until execve succeeded or
    /// failed. After a failure init ends with code 126, 127 or 1, to be
    /// reaped by the caller through [`Created::pid`] or by dropping this.
    ///
    /// # Errors
    /// The error of execve or of the last steps before it.
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        if !self.is_open {
            let failed = |errno| RuntimeError::system("start", "release the container", errno);
            self.channel.send(&Message::Go).map_err(failed)?;
        }
        let result = await_execution(&self.channel);
        trace::point("started");
        result
    }

    /// Kills init, reaps it and removes the cgroup.
    pub fn abort(self) {
        drop(self);
    }

    /// Takes the parts out and lets the container go on by itself: the
    /// process id, its descriptor, and the cgroup.
    #[must_use]
    pub fn leave(mut self) -> (i32, OwnedFd, Option<Cgroup>) {
        // An init that is gone meanwhile is a container that has ended.
        let _ = self.channel.send(&Message::Kept);
        let init = self
            .init
            .take()
            .expect("invariant: init is taken only when self is consumed");
        self.resctrl.keep();
        let (pid, pidfd) = init.keep();
        self.host_root.keep();
        (pid, pidfd, self.cgroup.take().and_then(CgroupGuard::keep))
    }
}

/// Waits until execve closed the channel, or the error came.
pub(crate) fn await_execution(channel: &Channel) -> Result<(), RuntimeError> {
    match channel.receive()? {
        None => Ok(()),
        Some(Message::Failed(error)) => Err(error),
        Some(_) => Err(unexpected("a message out of turn")),
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        // ORDER: the group can be removed only when init is gone.
        self.init.take();
        self.cgroup.take();
    }
}
