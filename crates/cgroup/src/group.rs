//! One control group.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::dir::{Dir, Made};
use crate::error::CgroupError;
use crate::hierarchy::{Controller, Hierarchy, Version};
use crate::resources::Resources;
use crate::stats::Stats;
use crate::{capacity, delegate, details, freeze, parse, remove, v1, v2};

/// Controllers that every v1 group takes part in: those with safe defaults, counters, or the
/// means to stop it. The others cost a directory only where a limit asks for them.
const EAGER: [Controller; 7] = [
    Controller::Cpu,
    Controller::Cpuacct,
    Controller::Memory,
    Controller::Devices,
    Controller::Freezer,
    Controller::Blkio,
    Controller::Pids,
];

/// How long what is to be killed is given to stand still before.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// How often what would not stand still is signalled, as it may fork meanwhile.
const KILL_ROUNDS: u32 = 5;

/// A control group: one directory on version 2, one per controller in use on version 1.
///
/// Holds the directories open; dropping it leaves the group in place (see [`Cgroup::delete`]).
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    hierarchy: Hierarchy,
    layout: Layout,
    is_new: bool,
    /// On a hybrid host, where it takes part in it: the directory in the unified hierarchy.
    unified: Option<Dir>,
}

#[derive(Debug)]
enum Layout {
    V1(Vec<Branch>),
    V2(Dir),
}

/// The directory in one v1 hierarchy.
#[derive(Debug)]
struct Branch {
    controllers: Vec<Controller>,
    /// Of a hierarchy without controllers: `name=NAME`, or empty for the unified one.
    name: Option<String>,
    dir: Arc<Dir>,
}

impl Cgroup {
    /// Makes the group's directories (parents too). Succeeds if they exist already.
    ///
    /// # Errors
    /// [`CgroupError::InvalidPath`] for a path that is relative, the root, or climbs;
    /// [`CgroupError::Create`] with what the kernel refused. Directories made so far stay.
    pub fn create(hierarchy: &Hierarchy, path: &str) -> Result<Self, CgroupError> {
        check_path(path)?;
        let mut is_new = true;
        let layout = match hierarchy.version() {
            Version::V2 => {
                let (dir, made) = create_v2(unified_root(hierarchy)?, path)?;
                is_new = made != Made::Nothing;
                Layout::V2(dir)
            }
            Version::V1 => {
                let mut branches = Vec::new();
                for mount in hierarchy.mounts().iter().filter(|mount| is_eager(&mount.controllers)) {
                    let (dir, made) = Dir::create(&mount.path, path)?;
                    is_new &= made != Made::Nothing;
                    if mount.controllers.contains(&Controller::Cpuset) {
                        fill_cpuset(&mount.path, path)?;
                    }
                    branches.push(Branch {
                        controllers: mount.controllers.clone(),
                        name: None,
                        dir: Arc::new(dir),
                    });
                }
                Layout::V1(branches)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            hierarchy: hierarchy.clone(),
            layout,
            is_new,
            unified: None,
        })
    }

    /// Takes over a group that a supervisor made: on version 2 as it is, on version 1 with what it
    /// lacks of the controllers that every group of ours takes part in.
    ///
    /// # Errors
    /// As [`Cgroup::open`] and [`Cgroup::create`].
    pub fn adopt(hierarchy: &Hierarchy, path: &str) -> Result<Self, CgroupError> {
        match hierarchy.version() {
            Version::V2 => Self::open(hierarchy, path),
            Version::V1 => Self::create(hierarchy, path),
        }
    }

    /// Whether [`Cgroup::create`] made every directory of it, so that nobody can be in it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// On version 1 takes part in the hierarchies that only keep track of processes too
    /// (`name=systemd` and the unified one), which a supervisor inside the group or one outside
    /// needs; on version 2 there are none. To be called before a process is in the group.
    ///
    /// # Errors
    /// [`CgroupError::Create`] with what the kernel refused.
    pub fn join_tracking(&self) -> Result<(), CgroupError> {
        for (_, mount) in self.hierarchy.tracking() {
            Dir::create(mount, &self.path)?;
        }
        Ok(())
    }

    /// On a hybrid host takes part in the unified hierarchy, which limits nothing there: its processes are
    /// then born in it by [`Cgroup::open_dir`]. Nothing happens on another host.
    ///
    /// # Errors
    /// [`CgroupError::Create`] with what the kernel refused.
    pub fn join_unified(&mut self) -> Result<(), CgroupError> {
        if let (Version::V1, Some(mount)) = (self.version(), self.hierarchy.unified()) {
            self.unified = Some(Dir::create(mount, &self.path)?.0);
        }
        Ok(())
    }

    /// Lets a user make groups below this one and move its processes among them: on version 2 by
    /// ownership of the directory and the files the kernel lists for that (cgroups(7), "Delegation");
    /// on version 1 only in the hierarchies of [`Cgroup::join_tracking`], which limit nothing.
    ///
    /// # Errors
    /// [`CgroupError::Delegate`].
    pub fn delegate(&self, uid: u32) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2(dir) => delegate::delegate_v2(dir, uid),
            Layout::V1(_) => {
                for branch in self.lazy() {
                    match branch.name.as_deref() {
                        None => {}
                        Some("") => delegate::delegate_v2(&branch.dir, uid)?,
                        Some(_) => delegate::delegate_v1(&branch.dir, uid)?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Opens a group made earlier; on version 1 controllers without its directory are skipped.
    ///
    /// # Errors
    /// [`CgroupError::Open`] if no directory of it exists.
    pub fn open(hierarchy: &Hierarchy, path: &str) -> Result<Self, CgroupError> {
        check_path(path)?;
        Self::open_where(hierarchy, path, |_| Some(path.to_owned()))
    }

    /// The group a process is in. The root group is refused, as nothing may be done to it.
    ///
    /// # Errors
    /// [`CgroupError::Read`] if the process is gone, [`CgroupError::InvalidPath`] for the root.
    pub fn of_process(hierarchy: &Hierarchy, pid: u32) -> Result<Self, CgroupError> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = std::fs::read_to_string(&file).map_err(|source| CgroupError::Read { path: file, source })?;
        let found = parse::parse_proc_cgroup(&text);
        let path_of = |name: &str| {
            found
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, path)| (*path).to_owned())
        };
        let main = match hierarchy.version() {
            Version::V2 => path_of(""),
            Version::V1 => EAGER.iter().rev().find_map(|controller| path_of(controller.name())),
        };
        let main = main.ok_or(CgroupError::NoHierarchy)?;
        check_path(&main)?;
        Self::open_where(hierarchy, &main, |controller| {
            path_of(controller.name()).filter(|path| path != "/")
        })
    }

    /// Opens the directory below each mount that `path_of` names for its first controller.
    fn open_where(
        hierarchy: &Hierarchy,
        path: &str,
        path_of: impl Fn(Controller) -> Option<String>,
    ) -> Result<Self, CgroupError> {
        let below = |mount: &Path, path: &str| mount.join(path.trim_start_matches('/'));
        let missing = || CgroupError::Open {
            path: PathBuf::from(path),
            source: rustix::io::Errno::NOENT.into(),
        };
        let layout = match hierarchy.version() {
            Version::V2 => Layout::V2(Dir::open(below(unified_root(hierarchy)?, path))?.ok_or_else(missing)?),
            Version::V1 => {
                let mut branches = Vec::new();
                for mount in hierarchy.mounts().iter().filter(|mount| is_eager(&mount.controllers)) {
                    let path = mount.controllers.first().and_then(|first| path_of(*first));
                    let dir = path
                        .map(|path| Dir::open(below(&mount.path, &path)))
                        .transpose()?
                        .flatten();
                    let controllers = mount.controllers.clone();
                    branches.extend(dir.map(|dir| Branch {
                        controllers,
                        name: None,
                        dir: Arc::new(dir),
                    }));
                }
                if branches.is_empty() {
                    return Err(missing());
                }
                Layout::V1(branches)
            }
        };
        let unified = match (hierarchy.version(), hierarchy.unified()) {
            (Version::V1, Some(mount)) => Dir::open(below(mount, path))?,
            _ => None,
        };
        Ok(Self {
            path: path.to_owned(),
            hierarchy: hierarchy.clone(),
            layout,
            is_new: false,
            unified,
        })
    }

    /// Path below the hierarchy, beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The hierarchy it is in.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Interface of the hierarchy.
    pub fn version(&self) -> Version {
        self.hierarchy.version()
    }

    /// Directory per controller name (v1), or the one directory under the empty name (v2), as the
    /// OCI runtime state and the container's own cgroup mount need them.
    pub fn directories(&self) -> BTreeMap<String, PathBuf> {
        match &self.layout {
            Layout::V2(dir) => BTreeMap::from([(String::new(), dir.path().to_path_buf())]),
            Layout::V1(branches) => {
                let each = |branch: &Branch| {
                    let path = branch.dir.path().to_path_buf();
                    let controllers = branch.controllers.iter().map(|c| c.name().to_owned());
                    controllers
                        .chain(branch.name.clone())
                        .map(|name| (name, path.clone()))
                        .collect::<Vec<_>>()
                };
                branches
                    .iter()
                    .flat_map(each)
                    .chain(self.lazy().into_iter().flat_map(|b| each(&b)))
                    .collect()
            }
        }
    }

    /// On version 1 the files through which a process of one thread moves itself in by writing `0`,
    /// one per hierarchy that it is not born in; none on version 2.
    ///
    /// ORDER: `tasks` spares the kernel a lock over all forks, which `cgroup.procs` takes (10 ms).
    pub fn entry_files(&self) -> Vec<PathBuf> {
        match &self.layout {
            Layout::V2(_) => Vec::new(),
            Layout::V1(branches) => {
                let file = |branch: &Branch| branch.dir.path().join(branch.entry_file());
                let lazy = self.lazy();
                let is_left = |branch: &&Branch| self.unified.is_none() || branch.name.as_deref() != Some("");
                branches.iter().chain(lazy.iter().filter(is_left)).map(file).collect()
            }
        }
    }

    /// The directory for CLONE_INTO_CGROUP; on version 1 that in the unified hierarchy, if it takes part.
    pub fn open_dir(&self) -> Option<BorrowedFd<'_>> {
        match &self.layout {
            Layout::V2(dir) => Some(dir.fd()),
            Layout::V1(_) => self.unified.as_ref().map(Dir::fd),
        }
    }

    /// Writes limits to a new, empty group, device rules included.
    ///
    /// # Errors
    /// [`CgroupError::MissingController`] if a limit needs a controller that is not there,
    /// [`CgroupError::InvalidValue`] for what this version cannot express, and
    /// [`CgroupError::Write`] for what the kernel refuses. Limits written before stay.
    pub fn apply(&self, resources: &Resources) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2(dir) => {
                v2::apply_limits(dir, resources)?;
                v2::apply_devices(dir, resources)
            }
            Layout::V1(_) => {
                let branches = |controller: Controller, setting: &str| self.ensure_branch(controller, setting);
                v1::apply_limits(&branches, resources)?;
                v1::apply_devices(&branches, resources)
            }
        }
    }

    /// Changes limits of a group in use; memory and swap are written in the order that keeps each
    /// step valid. Device rules are only touched when given, and then no task sees a state between
    /// the old rules and the new.
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    pub fn update(&self, resources: &Resources) -> Result<(), CgroupError> {
        let Layout::V1(_) = &self.layout else {
            return self.apply(resources);
        };
        let before = self.lazy().len();
        let branches = |controller: Controller, setting: &str| self.ensure_branch(controller, setting);
        v1::apply_limits(&branches, resources)?;
        if self.lazy().len() != before {
            for pid in self.pids()? {
                self.add(pid)?;
            }
        }
        if resources.devices.is_empty() {
            return Ok(());
        }
        let was_frozen = self.is_frozen()?;
        if !was_frozen {
            self.freeze()?;
        }
        let written = v1::apply_devices(&branches, resources);
        if !was_frozen {
            self.thaw()?;
        }
        written
    }

    /// Moves a process (all its threads) into the group.
    ///
    /// # Errors
    /// [`CgroupError::Write`], with ESRCH if the process is gone.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let pid = pid.to_string();
        match &self.layout {
            Layout::V2(dir) => dir.write("cgroup.procs", &pid),
            Layout::V1(branches) => {
                let lazy = self.lazy();
                branches
                    .iter()
                    .chain(&lazy)
                    .try_for_each(|branch| branch.dir.write("cgroup.procs", &pid))
            }
        }
    }

    /// Moves the calling process, which must have a single thread, into the group.
    ///
    /// On version 1 this goes through `tasks`, which spares the kernel a lock over all forks and
    /// with it some ten milliseconds.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn enter(&self) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2(dir) => dir.write("cgroup.procs", "0"),
            Layout::V1(branches) => {
                let lazy = self.lazy();
                branches
                    .iter()
                    .chain(&lazy)
                    .try_for_each(|branch| branch.dir.write(branch.entry_file(), "0"))
            }
        }
    }

    /// Stops every task, those of the groups below too; blocks until the kernel says that all stand still, which
    /// they then do until [`Cgroup::thaw`]. At once for a group that is frozen already.
    ///
    /// Until it returns tasks may run: on version 2 each until it stands still. On version 1 those that stand still
    /// keep others from getting there (a parent waits for the child of its vfork), so every 50 ms all are let go for
    /// a millisecond.
    ///
    /// # Errors
    /// [`CgroupError::Deadline`] after ten seconds, when a task does not get there (one in uninterruptible sleep):
    /// the group is thawed then. [`CgroupError::MissingController`] on version 1 without the freezer.
    /// [`CgroupError::Open`], [`CgroupError::Read`] and [`CgroupError::Write`] when the group goes away meanwhile.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.freeze_within(freeze::DEADLINE)
    }

    fn freeze_within(&self, deadline: Duration) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2(dir) => freeze::freeze_v2(dir, deadline),
            Layout::V1(_) => freeze::freeze_v1(&*self.freezer()?, deadline),
        }
    }

    /// Lets the tasks go on.
    ///
    /// # Errors
    /// [`CgroupError::Write`] if the kernel refuses.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2(dir) => dir.write("cgroup.freeze", "0"),
            Layout::V1(_) => self.freezer()?.write("freezer.state", "THAWED"),
        }
    }

    /// Whether the group is frozen (or being frozen).
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match &self.layout {
            Layout::V2(dir) => Ok(dir.read("cgroup.freeze")?.is_some_and(|text| text.trim() == "1")),
            Layout::V1(_) => match self.branch(Controller::Freezer) {
                None => Ok(false),
                Some(dir) => Ok(dir.read("freezer.state")?.is_some_and(|text| text.trim() != "THAWED")),
            },
        }
    }

    /// Kills every process in the group and below it, frozen ones too, and those that they fork
    /// meanwhile. Does not wait for them to be gone.
    ///
    /// # Errors
    /// [`CgroupError::Read`] if the processes cannot be listed.
    pub fn kill(&self) -> Result<(), CgroupError> {
        const SIGKILL: i32 = 9;
        let pids = self.pids()?;
        self.refuse_own(&pids)?;
        if let Layout::V2(dir) = &self.layout {
            // KERNEL(5.14): before, processes are killed one by one.
            if dir.try_write("cgroup.kill", "1").is_ok() {
                return Ok(());
            }
        }
        if pids.is_empty() {
            return Ok(());
        }
        // ORDER: frozen tasks cannot fork, so the list is complete; the signal takes effect at the thaw.
        // A group that will not freeze (one of its tasks is in uninterruptible sleep) is signalled all the same.
        let is_frozen = self.freeze_within(KILL_PATIENCE).is_ok();
        let rounds = if is_frozen { 1 } else { KILL_ROUNDS };
        let signalled = (0..rounds).try_for_each(|_| self.signal(SIGKILL));
        if is_frozen || self.is_frozen()? {
            self.thaw()?;
        }
        signalled
    }

    /// Sends a signal to every process in the group and below it.
    ///
    /// # Errors
    /// [`CgroupError::Read`] if the processes cannot be listed, [`CgroupError::InvalidPath`] if the
    /// caller is among them: then this is not a container's group. Processes that are gone count
    /// as signalled.
    pub fn signal(&self, signal: i32) -> Result<(), CgroupError> {
        let pids = self.pids()?;
        self.refuse_own(&pids)?;
        for pid in pids {
            let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
                continue;
            };
            if let Ok(pidfd) = wharf_sys::handle::open(pid) {
                // Only ESRCH is possible for root: the process has ended.
                let _ = wharf_sys::signal::send(pidfd.as_fd(), signal);
            }
        }
        Ok(())
    }

    /// Process ids in the group and below it, sorted.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        let mut found = BTreeSet::new();
        match &self.layout {
            Layout::V2(dir) => collect_pids(dir, &mut found)?,
            Layout::V1(branches) => {
                // Every branch holds the same processes; one that is still there is enough.
                if let Some(branch) = branches.last() {
                    collect_pids(&branch.dir, &mut found)?;
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Measures everything the mounted controllers offer.
    ///
    /// # Errors
    /// [`CgroupError::Read`]; counters that this kernel does not have are 0 or empty instead.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match &self.layout {
            Layout::V2(dir) => v2::read_stats(dir),
            Layout::V1(_) => v1::read_stats(&|controller| self.branch(controller)),
        }
    }

    /// Measures what [`Cgroup::stats`] leaves out.
    ///
    /// # Errors
    /// As [`Cgroup::stats`].
    pub fn details(&self) -> Result<details::Details, CgroupError> {
        match &self.layout {
            Layout::V2(dir) => details::read_v2(dir),
            Layout::V1(_) => details::read_v1(&|controller| self.branch(controller)),
        }
    }

    /// The most that it may use, as the limits of it and of the groups around it stand now.
    ///
    /// # Errors
    /// [`CgroupError::Read`]; what no mounted controller limits has no limit.
    pub fn capacity(&self) -> Result<capacity::Capacity, CgroupError> {
        match &self.layout {
            Layout::V2(dir) => capacity::read_v2(dir, unified_root(&self.hierarchy)?),
            Layout::V1(_) => {
                let mount_of = |controller| {
                    let mounts = self.hierarchy.mounts().iter();
                    let mut of_it = mounts.filter(|mount| mount.controllers.contains(&controller));
                    of_it.next().map(|mount| mount.path.clone())
                };
                capacity::read_v1(&|controller| self.branch(controller), &mount_of)
            }
        }
    }

    /// Tasks killed so far because the group was out of memory.
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        match &self.layout {
            Layout::V2(dir) => v2::read_oom_kills(dir),
            Layout::V1(_) => self
                .branch(Controller::Memory)
                .map_or(Ok(0), |dir| v1::read_oom_kills(&dir)),
        }
    }

    /// Whether tasks wait for memory because killing is switched off (v1).
    ///
    /// # Errors
    /// [`CgroupError::Read`].
    pub fn is_out_of_memory(&self) -> Result<bool, CgroupError> {
        let text = match self.branch(Controller::Memory) {
            Some(dir) => dir.read("memory.oom_control")?.unwrap_or_default(),
            None => String::new(),
        };
        Ok(parse::parse_keyed(&text, "under_oom") == Some(1))
    }

    /// A descriptor that becomes readable when the group runs out of memory. It also does when the
    /// group is removed, so [`Cgroup::oom_kills`] has the last word.
    ///
    /// # Errors
    /// [`CgroupError::MissingController`] without a memory controller, [`CgroupError::Open`] or
    /// [`CgroupError::Write`] if the kernel refuses the registration.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        match &self.layout {
            Layout::V2(dir) => watch_v2(dir),
            Layout::V1(_) => watch_v1(
                &*self
                    .branch(Controller::Memory)
                    .ok_or_else(|| missing_for("memory", "watching"))?,
            ),
        }
    }

    /// Removes the group and its children, retrying while dying processes still hold it.
    /// Succeeds if it is already gone.
    ///
    /// # Errors
    /// [`CgroupError::Remove`] when the deadline has passed.
    pub fn delete(self, deadline: Duration) -> Result<(), CgroupError> {
        let end = std::time::Instant::now() + deadline;
        match &self.layout {
            Layout::V2(dir) => remove::remove_tree(dir.path(), end),
            Layout::V1(branches) => {
                let lazy = self.lazy();
                let all = branches.iter().chain(&lazy).map(|branch| branch.dir.path());
                all.map(|path| remove::remove_tree(path, end)).fold(Ok(()), Result::and)
            }
        }
    }

    /// Kills and removes everything below (and including) a path such as `/NAME`, in every
    /// mounted hierarchy. Goes on past failures and reports the first. Succeeds if there is nothing.
    ///
    /// # Errors
    /// As [`Cgroup::kill`] and [`Cgroup::delete`].
    pub fn delete_tree(hierarchy: &Hierarchy, path: &str, deadline: Duration) -> Result<(), CgroupError> {
        check_path(path)?;
        let end = std::time::Instant::now() + deadline;
        let killed = match Self::open(hierarchy, path) {
            Ok(group) => group.kill_each(),
            Err(CgroupError::Open { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        let tracking = hierarchy.tracking();
        let roots = hierarchy
            .mounts()
            .iter()
            .map(|mount| mount.path.as_path())
            .chain(hierarchy.unified())
            .chain(
                tracking
                    .iter()
                    .filter(|(name, _)| !name.is_empty())
                    .map(|(_, mount)| *mount),
            );
        let below = path.trim_start_matches('/');
        roots
            .map(|root| remove::remove_tree(&root.join(below), end))
            .fold(killed, Result::and)
    }

    /// A group with the caller in it is no container's; stopping or killing it would be fatal for more
    /// than was meant.
    fn refuse_own(&self, pids: &[u32]) -> Result<(), CgroupError> {
        if pids.contains(&std::process::id()) {
            return Err(CgroupError::InvalidPath {
                path: self.path.clone(),
                reason: "it holds this very process",
            });
        }
        Ok(())
    }

    /// Kills the processes of every child group and of the group itself: a child may be frozen on
    /// its own, which only its own thaw undoes.
    fn kill_each(&self) -> Result<(), CgroupError> {
        let mut killed = Ok(());
        let sample = match &self.layout {
            Layout::V2(dir) => dir,
            Layout::V1(branches) => match branches.last() {
                Some(branch) => &*branch.dir,
                None => return Ok(()),
            },
        };
        for child in crate::dir::child_names(sample.path())? {
            let path = format!("{}/{}", self.path.trim_end_matches('/'), child.to_string_lossy());
            killed = killed.and(Self::open(&self.hierarchy, &path).and_then(|group| group.kill_each()));
        }
        killed.and(self.kill())
    }

    fn freezer(&self) -> Result<Arc<Dir>, CgroupError> {
        self.branch(Controller::Freezer)
            .ok_or_else(|| missing_for("freezer", "pausing"))
    }

    /// The open directory of a controller (v1).
    pub(crate) fn branch(&self, controller: Controller) -> Option<Arc<Dir>> {
        let Layout::V1(branches) = &self.layout else {
            return None;
        };
        let find = |branches: &[Branch]| {
            branches
                .iter()
                .find(|branch| branch.controllers.contains(&controller))
                .map(|branch| branch.dir.clone())
        };
        find(branches).or_else(|| find(&self.lazy()))
    }

    /// The directory of a controller (v1), made if this group does not take part in it yet.
    fn ensure_branch(&self, controller: Controller, setting: &str) -> Result<Arc<Dir>, CgroupError> {
        // A cpuset that exists may have been made by another, who left it empty.
        if let Some(dir) = self.branch(controller).filter(|_| controller != Controller::Cpuset) {
            return Ok(dir);
        }
        let mount = self
            .hierarchy
            .mount_of(controller)
            .ok_or_else(|| missing_for(controller.name(), setting))?;
        let (dir, _) = Dir::create(mount, &self.path)?;
        if controller == Controller::Cpuset {
            fill_cpuset(mount, &self.path)?;
        }
        Ok(Arc::new(dir))
    }

    /// The directories of controllers that are not eager and those that only keep track, as far
    /// as they exist (v1).
    fn lazy(&self) -> Vec<Branch> {
        let below = self.path.trim_start_matches('/');
        let open = |mount: &Path| Dir::open(mount.join(below)).ok().flatten().map(Arc::new);
        let mounts = self
            .hierarchy
            .mounts()
            .iter()
            .filter(|mount| !is_eager(&mount.controllers));
        let limiting = mounts.filter_map(|mount| {
            Some(Branch {
                controllers: mount.controllers.clone(),
                name: None,
                dir: open(&mount.path)?,
            })
        });
        let tracking = self.hierarchy.tracking().into_iter().filter_map(|(name, mount)| {
            Some(Branch {
                controllers: Vec::new(),
                name: Some(name),
                dir: open(mount)?,
            })
        });
        limiting.chain(tracking).collect()
    }
}

impl Branch {
    /// The file through which a process of one thread moves itself in.
    fn entry_file(&self) -> &'static str {
        match &self.name {
            Some(name) if name.is_empty() => "cgroup.procs",
            _ => "tasks",
        }
    }
}

fn is_eager(controllers: &[Controller]) -> bool {
    controllers.iter().any(|controller| EAGER.contains(controller))
}

fn missing_for(controller: &str, setting: &str) -> CgroupError {
    CgroupError::MissingController {
        controller: controller.to_owned(),
        setting: setting.to_owned(),
    }
}

fn unified_root(hierarchy: &Hierarchy) -> Result<&Path, CgroupError> {
    hierarchy.unified().ok_or(CgroupError::NoHierarchy)
}

/// SECURITY: the path comes from a configuration; it must stay below the hierarchy.
fn check_path(path: &str) -> Result<(), CgroupError> {
    let reason = if !path.starts_with('/') {
        "it must begin with a slash"
    } else if path.split('/').all(str::is_empty) {
        "it names the root"
    } else if path.split('/').any(|part| part == ".." || part == ".") {
        "it climbs"
    } else if path.contains('\0') {
        "it holds a zero byte"
    } else {
        return Ok(());
    };
    Err(CgroupError::InvalidPath {
        path: path.to_owned(),
        reason,
    })
}

/// Gives every level of a v1 cpuset path its processors and nodes, from the top.
fn fill_cpuset(mount: &Path, path: &str) -> Result<(), CgroupError> {
    let missing = |path: &Path| CgroupError::Open {
        path: path.to_path_buf(),
        source: rustix::io::Errno::NOENT.into(),
    };
    let open = |path: PathBuf| Dir::open(path.clone())?.ok_or_else(|| missing(&path));
    let mut parent = open(mount.to_path_buf())?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let dir = open(parent.path().join(part))?;
        v1::ensure_cpuset(&dir, &parent)?;
        parent = dir;
    }
    Ok(())
}

/// Makes a v2 group and sees to it that its parents hand down every controller of the root.
fn create_v2(root: &Path, path: &str) -> Result<(Dir, Made), CgroupError> {
    let (dir, made) = Dir::create(root, path)?;
    let listed = |dir: &Dir| -> Result<Vec<String>, CgroupError> {
        let text = dir.read("cgroup.controllers")?.unwrap_or_default();
        Ok(text.split_whitespace().map(str::to_owned).collect())
    };
    let missing = || CgroupError::Open {
        path: root.to_path_buf(),
        source: rustix::io::Errno::NOENT.into(),
    };
    let mut parent = Dir::open(root.to_path_buf())?.ok_or_else(missing)?;
    let wanted = listed(&parent)?;
    let present = listed(&dir)?;
    if made != Made::Parents && wanted.iter().all(|name| present.contains(name)) {
        return Ok((dir, made));
    }
    for part in path.split('/').filter(|part| !part.is_empty()) {
        // What a parent refuses to hand down is reported when a limit asks for it.
        hand_down(&parent, &listed(&parent)?)?;
        parent = match Dir::open(parent.path().join(part))? {
            Some(child) => child,
            None => break,
        };
    }
    Ok((dir, made))
}

/// Lets the children of a group have these controllers.
///
/// A group with processes of its own can hand down none, except the root. Asked for controllers of
/// threads alone (cpu, pids, cpuset) the kernel would make of it a domain of threads, whose children
/// take no process at all; so it is not asked.
fn hand_down(parent: &Dir, controllers: &[String]) -> Result<(), CgroupError> {
    let is_root = !parent.has("cgroup.type");
    if !is_root && v2::holds_processes(parent)? {
        return Ok(());
    }
    let all: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    // All in one write, which the kernel takes or refuses as a whole: one that it cannot give must
    // not cost the others.
    if parent.try_write("cgroup.subtree_control", &all.join(" ")).is_err() {
        for name in all {
            let _ = parent.try_write("cgroup.subtree_control", &name);
        }
    }
    Ok(())
}

fn collect_pids(dir: &Dir, found: &mut BTreeSet<u32>) -> Result<(), CgroupError> {
    found.extend(parse::parse_pids(&dir.read("cgroup.procs")?.unwrap_or_default()));
    for child in dir.children()? {
        collect_pids(&child, found)?;
    }
    Ok(())
}

/// Out-of-memory notices of one group; poll its descriptor for input.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl OomWatch {
    /// Takes pending notices; call when the descriptor is readable.
    pub fn drain(&self) {
        let mut buffer = [0u8; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|length| length > 0) {}
    }
}

impl std::os::fd::AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn watch_v1(memory: &Dir) -> Result<OomWatch, CgroupError> {
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::AsRawFd as _;
    let control = memory.open_file("memory.oom_control")?;
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| CgroupError::Open {
        path: PathBuf::from("eventfd"),
        source: errno.into(),
    })?;
    memory.write(
        "cgroup.event_control",
        &format!("{} {}", fd.as_raw_fd(), control.as_raw_fd()),
    )?;
    Ok(OomWatch { fd })
}

fn watch_v2(dir: &Dir) -> Result<OomWatch, CgroupError> {
    use rustix::fs::inotify;
    let path = dir.path().join("memory.events");
    if !dir.has("memory.events") {
        return Err(missing_for("memory", "watching"));
    }
    let failed = |errno: rustix::io::Errno| CgroupError::Open {
        path: path.clone(),
        source: errno.into(),
    };
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(failed)?;
    inotify::add_watch(&fd, &path, inotify::WatchFlags::MODIFY).map_err(failed)?;
    Ok(OomWatch { fd })
}

#[cfg(test)]
mod tests;
