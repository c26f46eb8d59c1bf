//! Starting a further process in a running container.
//!
//! The child is born in the container's pid namespace and cgroup, enters the
//! other namespaces through init's pidfd, and then goes the same way as init.

use crate::birth;
use crate::channel::{self, Channel, Message, unexpected};
use crate::init::identity::Groups;
use crate::init::settle::{self, ProcessPlan, ProcessRequest};
use crate::init::{devices, settings};
use crate::join::{Join, Moment, open_join};
use crate::listener::Listened;
use crate::plan::namespaces::flag;
use crate::spec::{Capabilities, Spec};
use crate::{ErrorKind, ExecRequest, ExecTarget, FilterSource, RuntimeError, hooks, seccomp, trace};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, WaitIdOptions};
use rustix::thread::CpuSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_sys::clone::{Child, CloneOptions, clone3};
use wharf_sys::namespace::{self, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER};
use wharf_sys::path::RootDir;

/// A running exec, child of the caller (which reaps it).
#[derive(Debug)]
pub struct ExecProcess {
    /// Its process id, as the caller sees it.
    pub pid: i32,
    /// Its descriptor.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
    /// What went wrong without harm.
    pub warnings: Vec<String>,
}

/// What the child needs.
struct ExecPlan<'a> {
    target: BorrowedFd<'a>,
    target_pid: i32,
    /// `CLONE_NEW...` to enter, the pid namespace apart.
    namespaces: u32,
    /// It is born in the container's user namespace.
    is_user_entered: bool,
    /// Files through which it joins the cgroup (version 1).
    cgroup_entries: Vec<OwnedFd>,
    /// It waits until it was moved into the cgroup.
    awaits_runtime: bool,
    process: ProcessPlan,
}

/// Starts a process in the container and returns once execve succeeded.
///
/// # Errors
/// [`RuntimeError`] with the failed step; then the process is gone and reaped.
pub fn exec(target: &ExecTarget<'_>, mut request: ExecRequest) -> Result<ExecProcess, RuntimeError> {
    trace::point("exec");
    let linux = target.spec.linux();
    let filter = linux.seccomp.as_ref().filter(|_| !request.privileged);
    complete_rights(&mut request, target.spec);
    let process = settle::plan_process(ProcessRequest {
        process: request.process,
        user: request.user,
        group_add: request.group_add,
        stdio: request.stdio,
        preserve_fds: request.preserve_fds,
        groups: Groups::Own,
        linux,
        seccomp: filter,
    })?;
    let all = linux
        .namespaces
        .iter()
        .fold(0, |flags, wanted| flags | flag(wanted.kind));
    // ORDER: the CPUs before joining are set outside of the group.
    let affinity = process.process.exec_cpu_affinity.as_ref();
    let moment = match affinity.and_then(|affinity| affinity.initial.as_deref()) {
        None | Some("") => Moment::Birth,
        Some(_) => Moment::Later,
    };
    let mut join = open_join(target, &request.sub_cgroups, moment)?;
    let mut plan = ExecPlan {
        target: target.pidfd,
        target_pid: target.pid,
        namespaces: all & !CLONE_NEWPID,
        is_user_entered: false,
        cgroup_entries: std::mem::take(&mut join.entries),
        awaits_runtime: join.is_guided(),
        process,
    };
    let mut warnings = std::mem::take(&mut plan.process.warnings);
    let (ours, theirs) = channel::pair()?;
    let own_pids = (all & CLONE_NEWPID != 0).then_some(target.pidfd);
    let no_return = all & entered_for_good();
    let child = if no_return != 0 {
        plan.namespaces &= !no_return;
        plan.is_user_entered = no_return & CLONE_NEWUSER != 0;
        clone_through(target.pidfd, no_return, &join, |placed| run(plan, theirs, placed))?
    } else {
        clone_into(own_pids, &join, |placed| run(plan, theirs, placed))?
    };
    let pid = child.pid.as_raw_nonzero().get();
    let classed = match target.resctrl.map_or(Ok(()), |class| class.add(pid)) {
        // Nothing held it up: it may have ended already.
        Err(error) if error.errno == Some(Errno::SRCH.raw_os_error()) => Ok(()),
        other => other,
    };
    let outcome = classed
        .and_then(|()| bring_in(&join, pid, &ours))
        .and_then(|()| send_filter(&ours, filter, target.filter))
        .and_then(|()| {
            let listened = filter.map(|seccomp| Listened {
                seccomp,
                pid,
                pidfd: child.pidfd.as_fd(),
                state: hooks::state(target.spec, target.id, "running", target.pid, target.bundle),
            });
            await_running(&ours, listened.as_ref(), &mut warnings)
        });
    trace::point("exec started");
    match outcome {
        Ok(console) => Ok(ExecProcess {
            pid,
            pidfd: child.pidfd,
            console,
            warnings,
        }),
        Err(error) => {
            let _ = wharf_sys::signal::send(&child.pidfd, 9);
            let _ = wharf_sys::handle::wait(&child.pidfd, WaitIdOptions::EXITED);
            Err(error)
        }
    }
}

/// Rights that the request leaves open are the container's own.
fn complete_rights(request: &mut ExecRequest, spec: &Spec) {
    if request.privileged {
        let all: Vec<String> = wharf_sys::caps::NAMES
            .iter()
            .map(|name| format!("CAP_{name}"))
            .collect();
        request.process.capabilities = Some(Capabilities {
            bounding: all.clone(),
            effective: all.clone(),
            permitted: all,
            ..Capabilities::default()
        });
        return;
    }
    let Some(own) = &spec.process else { return };
    if request.process.capabilities.is_none() {
        request.process.capabilities.clone_from(&own.capabilities);
    }
    if request.process.rlimits.is_empty() {
        request.process.rlimits.clone_from(&own.rlimits);
    }
    request.process.no_new_privileges |= own.no_new_privileges;
    if request.process.exec_cpu_affinity.is_none() {
        request.process.exec_cpu_affinity.clone_from(&own.exec_cpu_affinity);
    }
    if request.process.apparmor_profile.is_none() {
        request.process.apparmor_profile.clone_from(&own.apparmor_profile);
    }
    if request.process.selinux_label.is_none() {
        request.process.selinux_label.clone_from(&own.selinux_label);
    }
}

/// The namespaces that this process could enter, but not leave again. Without privileges, only who is in the container's
/// user namespace may enter its others; the root of a user namespace may not even go back to its own pid namespace.
fn entered_for_good() -> u32 {
    if !crate::privileges::may_mount() {
        CLONE_NEWUSER | CLONE_NEWPID
    } else if crate::privileges::is_rootless() {
        CLONE_NEWPID
    } else {
        0
    }
}

/// The same through a process in between, which enters them in this one's place.
fn clone_through(
    target: BorrowedFd<'_>,
    kinds: u32,
    join: &Join<'_>,
    child: impl FnOnce(Result<(), Errno>) -> i32,
) -> Result<Child, RuntimeError> {
    let blamed = if kinds & CLONE_NEWUSER != 0 {
        CLONE_NEWUSER
    } else {
        CLONE_NEWPID
    };
    let enter = || {
        // SECURITY: as in enter_and_execute, and before the container can see the child.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|errno| (0, errno))?;
        namespace::enter_all(target, kinds).map_err(|errno| (blamed, errno))
    };
    let cgroup = join.birthplace();
    birth::clone_sister(CloneOptions { flags: 0, cgroup }, enter, child).map_err(|error| {
        let is_gone = error.errno == Some(Errno::SRCH.raw_os_error());
        if is_gone {
            not_running(Errno::SRCH, "pid")
        } else {
            error
        }
    })
}

/// Clones a child into the pid namespace and, on version 2, the cgroup.
fn clone_into(
    own_pids: Option<BorrowedFd<'_>>,
    join: &Join<'_>,
    child: impl FnOnce(Result<(), Errno>) -> i32,
) -> Result<Child, RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("exec", what, errno);
    let own = match own_pids {
        Some(target) => {
            let own = namespace::open(Path::new("/proc/self/ns/pid")).map_err(failed("open the pid namespace"))?;
            namespace::enter_all(target, CLONE_NEWPID).map_err(|errno| not_running(errno, "pid"))?;
            Some(own)
        }
        None => None,
    };
    let is_inside = own.is_some();
    let cgroup = join.birthplace();
    let cloned = clone3(CloneOptions { flags: 0, cgroup }, child);
    if let Some(own) = own {
        namespace::enter(own, CLONE_NEWPID).map_err(failed("go back to the runtime's pid namespace"))?;
    }
    // KERNEL(5.3): a pid namespace whose init is gone takes no more processes.
    cloned.map_err(|errno| match errno {
        Errno::NOMEM | Errno::INVAL if is_inside => not_running(errno, "pid"),
        errno => failed("clone")(errno),
    })
}

fn not_running(errno: Errno, name: &str) -> RuntimeError {
    let text = format!("join the {name} namespace of the container");
    match errno {
        Errno::SRCH => RuntimeError {
            kind: ErrorKind::Conflict,
            ..RuntimeError::system("exec", "container is not running".to_owned(), errno)
        },
        errno => RuntimeError::system("exec", text, errno),
    }
}

/// Joins the cgroup, unless it was born in it, with the CPUs set before and after. Without
/// any set, the CPUs that the caller is bound to are not passed on.
fn join_cgroup(plan: &ExecPlan<'_>, channel: &Channel) -> Result<(), RuntimeError> {
    let affinity = plan.process.process.exec_cpu_affinity.clone().unwrap_or_default();
    let is_set = |list: &Option<String>| list.as_ref().is_some_and(|list| !list.is_empty());
    pin("initial", affinity.initial.as_deref())?;
    crate::cgroups::enter(&plan.cgroup_entries)?;
    if plan.awaits_runtime && !matches!(channel.receive()?, Some(Message::Prepared)) {
        return Err(unexpected("no word of its cgroup"));
    }
    if !is_set(&affinity.initial) && !is_set(&affinity.last) {
        settings::unbind_from_cpus();
    }
    pin("final", affinity.last.as_deref())
}

fn pin(which: &str, list: Option<&str>) -> Result<(), RuntimeError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(());
    };
    let field = format!("process.execCPUAffinity.{which}");
    let words = crate::plan::scheduling::parse_list(list)
        .ok_or_else(|| RuntimeError::invalid(&field, format!("{field}: {list:?} is no CPU list")))?;
    let mut set = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| words.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)) {
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| RuntimeError::system(&field, format!("{field}: set {list}"), errno))
}

/// Moves the child where it may not go by itself, and has it go on.
fn bring_in(join: &Join<'_>, pid: i32, channel: &Channel) -> Result<(), RuntimeError> {
    if join.is_guided() {
        join.bring_in(pid)?;
        // A child that is gone is heard of by the next read.
        let _ = channel.send(&Message::Prepared);
    }
    Ok(())
}

fn send_filter(
    channel: &Channel,
    filter: Option<&crate::spec::Seccomp>,
    source: FilterSource<'_>,
) -> Result<(), RuntimeError> {
    if let Some(filter) = filter {
        let bytes = match source {
            FilterSource::Configuration(cache) => seccomp::compile_cached(filter, cache)?.bytes(),
            FilterSource::Compiled(filter) => filter.bytes(),
        };
        // A child that is gone takes nothing; why it went is what the next read from it tells.
        let _ = channel.send(&Message::Filter(bytes));
    }
    Ok(())
}

/// Reads until execve closes the channel; the console comes before.
fn await_running(
    channel: &Channel,
    listened: Option<&Listened<'_>>,
    warnings: &mut Vec<String>,
) -> Result<Option<OwnedFd>, RuntimeError> {
    let mut console = None;
    loop {
        match channel.receive()? {
            None => return Ok(console),
            Some(Message::Console(master)) => console = Some(master),
            Some(Message::Warning(text)) => warnings.push(text),
            Some(Message::Standing) => {}
            Some(Message::Listener(number)) => {
                let listened = listened.ok_or_else(|| unexpected("a listener nobody asked for"))?;
                listened.hand_over(number)?;
                let _ = channel.send(&Message::ListenerTaken);
            }
            Some(Message::Failed(error)) => return Err(error),
            Some(_) => return Err(unexpected("a message out of turn")),
        }
    }
}

/// The child's side.
fn run(plan: ExecPlan<'_>, channel: Channel, placed: Result<(), Errno>) -> ! {
    let placed = placed.map_err(|errno| RuntimeError::system("cgroup", "join the cgroup", errno));
    match placed.and_then(|()| enter_and_execute(&plan, &channel)) {
        Ok(never) => match never {},
        Err(error) => crate::init::end(&channel, error),
    }
}

fn enter_and_execute(plan: &ExecPlan<'_>, channel: &Channel) -> Result<std::convert::Infallible, RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("exec", what, errno);
    settings::reset_signals()?;
    // SECURITY: the container's processes see this one from its first
    // instruction; they must not reach its descriptors or its binary
    // through /proc (CVE-2016-9962, CVE-2019-5736).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("become undumpable"))?;
    let process = &plan.process.process;
    join_cgroup(plan, channel)?;
    let lsm = settings::open_lsm(process)?;
    settings::set_oom_score(process, channel)?;
    rustix::process::setsid().map_err(failed("make a session"))?;
    settings::join_keyring()?;
    let root = open_root(plan)?;
    if plan.namespaces != 0 {
        namespace::enter_all(plan.target, plan.namespaces).map_err(|errno| not_running(errno, "mount and other"))?;
    }
    if let Some(root) = root {
        crate::init::rootfs::change_root(&root)?;
    }
    if plan.is_user_entered || plan.namespaces & CLONE_NEWUSER != 0 {
        settings::become_root_of_user_namespace(Groups::Own)?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("become undumpable"))?;
    }
    let console = open_console(plan, channel)?;
    let keep: Vec<_> = lsm.iter().map(AsFd::as_fd).chain([channel.as_fd()]).collect();
    let settled = settle::settle(&plan.process, console, &keep, channel)?;
    let filter = crate::init::receive_filter(&plan.process, channel)?;
    let filter = settle::load_listened(&plan.process, filter, channel)?;
    settle::confine(&plan.process, filter.as_deref(), &lsm)?;
    Err(settled.execute())
}

/// SECURITY: a container without a mount namespace is held by its root
/// alone, which entering the other namespaces does not bring along.
fn open_root(plan: &ExecPlan<'_>) -> Result<Option<RootDir>, RuntimeError> {
    if plan.namespaces & CLONE_NEWNS != 0 {
        return Ok(None);
    }
    RootDir::open(Path::new(&format!("/proc/{}/root", plan.target_pid)))
        .map(Some)
        .map_err(|errno| not_running(errno, "root of"))
}

fn open_console(plan: &ExecPlan<'_>, channel: &Channel) -> Result<Option<wharf_sys::pty::Pty>, RuntimeError> {
    if !plan.process.wants_terminal() {
        return Ok(None);
    }
    let root = RootDir::open(Path::new("/")).map_err(|errno| RuntimeError::system("exec", "open the root", errno))?;
    let pty = devices::open_console(&root)?;
    settle::hand_over_console(&plan.process, &pty, channel)?;
    Ok(Some(pty))
}
