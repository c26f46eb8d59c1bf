//! From a set-up place (a new container, or one that was entered) to the
//! program: limits, streams, identity, directory, filter, execve. Shared by
//! init and exec.

use crate::channel::{Channel, Message};
use crate::init::identity::{self, Groups};
use crate::init::program::{self, Program};
use crate::init::settings::LsmLabel;
use crate::init::user::Identity;
use crate::plan::rights::{CapabilityBits, RlimitPlan, plan_capabilities, plan_rlimits, rlimit_name};
use crate::plan::scheduling::{SchedulingPlan, plan_scheduling};
use crate::spec::{Linux, Process, Seccomp};
use crate::{RuntimeError, Stdio, trace};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_sys::path::RootDir;
use wharf_sys::pty::Pty;
use wharf_sys::seccomp::Instruction;

/// A process to become.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) process: Process,
    pub(crate) user: Option<String>,
    pub(crate) group_add: Vec<String>,
    pub(crate) stdio: Stdio,
    pub(crate) preserve_fds: u32,
    pub(crate) groups: Groups,
    pub(crate) capabilities: CapabilityBits,
    pub(crate) rlimits: Vec<RlimitPlan>,
    pub(crate) scheduling: SchedulingPlan,
    /// A filter will be sent before the start.
    pub(crate) has_filter: bool,
    /// `SECCOMP_FILTER_FLAG_...`.
    pub(crate) filter_flags: u32,
    /// What was passed over while planning.
    pub(crate) warnings: Vec<String>,
}

impl ProcessPlan {
    /// Whether its filter has calls that an agent answers.
    pub(crate) fn has_listener(&self) -> bool {
        self.filter_flags & wharf_sys::seccomp::FLAG_NEW_LISTENER != 0
    }

    /// Whether it gets a pseudo terminal.
    pub(crate) fn wants_terminal(&self) -> bool {
        self.process.terminal || matches!(self.stdio, Stdio::Terminal)
    }
}

/// All but the last steps are done.
#[derive(Debug)]
pub(crate) struct Settled {
    program: Program,
}

impl Settled {
    /// What the program will find.
    pub(crate) fn environment(&self) -> &[CString] {
        &self.program.env
    }

    /// Becomes the program; returns only the error that stopped it.
    pub(crate) fn execute(self) -> RuntimeError {
        self.program.execute()
    }
}

/// Sends the master side to the runtime and sets the size.
pub(crate) fn hand_over_console(plan: &ProcessPlan, pty: &Pty, channel: &Channel) -> Result<(), RuntimeError> {
    let failed = |errno| RuntimeError::system("process.terminal", "hand over the terminal", errno);
    if let Some(size) = plan.process.console_size {
        wharf_sys::pty::resize(&pty.master, size.height, size.width).map_err(failed)?;
    }
    if matches!(plan.stdio, Stdio::Foreground) {
        wharf_sys::pty::keep_line_ends(&pty.slave).map_err(failed)?;
    }
    let master = rustix::io::fcntl_dupfd_cloexec(&pty.master, 3).map_err(failed)?;
    channel.send(&Message::Console(master)).map_err(failed)
}

/// Everything up to the moment when only filter, capabilities and execve are
/// left. Descriptors beyond the streams, the preserved and the kept are closed.
pub(crate) fn settle(
    plan: &ProcessPlan,
    console: Option<Pty>,
    keep: &[BorrowedFd<'_>],
    channel: &Channel,
) -> Result<Settled, RuntimeError> {
    apply_rlimits(&plan.rlimits, channel)?;
    plan.scheduling.apply()?;
    let root = RootDir::open(std::path::Path::new("/"))
        .map_err(|errno| RuntimeError::system("pivot_root", "open the new root", errno))?;
    let identity = identity::resolve(plan, &root)?;
    let console = place_streams(plan, console)?;
    if console {
        wharf_sys::pty::make_controlling(rustix::stdio::stdin())
            .map_err(|errno| RuntimeError::system("process.terminal", "make it the controlling terminal", errno))?;
    }
    own_streams(&identity, &root)?;
    // SECURITY: from here on no descriptor of the host is open that a path
    // such as /proc/self/fd/7 could lead through (CVE-2024-21626).
    enter_directory(plan, &root)?;
    drop(root);
    close_others(plan, keep)?;
    identity::adopt(&identity, plan)?;
    check_directory(plan)?;
    rustix::process::umask(Mode::from_raw_mode(plan.process.user.umask.unwrap_or(0o022)));
    let program = program::find(&plan.process.args, &environment(plan, &identity))?;
    Ok(Settled { program })
}

/// Gives up every right that the program is not to have.
pub(crate) fn confine(plan: &ProcessPlan, filter: Option<&[u8]>, lsm: &[LsmLabel]) -> Result<(), RuntimeError> {
    lsm.iter().try_for_each(LsmLabel::apply)?;
    let filter: Option<Vec<Instruction>> = filter.map(decode_filter);
    if plan.process.no_new_privileges {
        forbid_new_privileges()?;
        identity::limit_capabilities(plan.capabilities)?;
        // ORDER: last, so that the filter sees the program's calls only.
        load_filter(plan, filter.as_deref())?;
    } else {
        // ORDER: loading needs CAP_SYS_ADMIN, which the next line gives up.
        load_filter(plan, filter.as_deref())?;
        identity::limit_capabilities(plan.capabilities)?;
    }
    trace::point("init: rights and filter");
    Ok(())
}

/// Loads a filter with notified calls, whose listener the runtime takes while
/// it is there; any other filter comes back, to be loaded last.
pub(crate) fn load_listened(
    plan: &ProcessPlan,
    filter: Option<Vec<u8>>,
    channel: &Channel,
) -> Result<Option<Vec<u8>>, RuntimeError> {
    let Some(filter) = filter.as_deref().filter(|_| plan.has_listener()) else {
        return Ok(filter);
    };
    if plan.process.no_new_privileges {
        forbid_new_privileges()?;
    }
    match load_filter(plan, Some(&decode_filter(filter)))? {
        Some(listener) => crate::listener::announce(channel, listener).map(|()| None),
        None => Ok(None),
    }
}

fn forbid_new_privileges() -> Result<(), RuntimeError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| RuntimeError::system("process.noNewPrivileges", "set no_new_privs", errno))
}

fn load_filter(plan: &ProcessPlan, filter: Option<&[Instruction]>) -> Result<Option<OwnedFd>, RuntimeError> {
    let Some(filter) = filter else { return Ok(None) };
    wharf_sys::seccomp::load(filter, plan.filter_flags)
        .map_err(|errno| RuntimeError::system("linux.seccomp", "load the filter", errno))
}

fn decode_filter(bytes: &[u8]) -> Vec<Instruction> {
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|chunk| Instruction::from_bytes(*chunk))
        .collect()
}

/// Raising a limit may be forbidden to the engine itself: that is a warning.
fn apply_rlimits(limits: &[RlimitPlan], channel: &Channel) -> Result<(), RuntimeError> {
    for plan in limits {
        let name = rlimit_name(plan.resource);
        let finite = |value: u64| (value != u64::MAX).then_some(value);
        let limit = Rlimit {
            current: finite(plan.soft),
            maximum: finite(plan.hard),
        };
        let Some(resource) = resource(plan.resource) else {
            continue;
        };
        match rustix::process::setrlimit(resource, limit) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                // As high as it may be.
                let now = rustix::process::getrlimit(resource);
                let maximum = now.maximum.map_or(plan.hard, |top| top.min(plan.hard));
                let lower = Rlimit {
                    current: finite(plan.soft.min(maximum)),
                    maximum: finite(maximum),
                };
                let _ = rustix::process::setrlimit(resource, lower);
                let text = format!(
                    "process.rlimits: not permitted to set RLIMIT_{name} to {}:{}, it is {maximum}",
                    plan.soft, plan.hard
                );
                let _ = channel.send(&Message::Warning(text));
            }
            Err(errno) => {
                return Err(RuntimeError::system(
                    "process.rlimits",
                    format!("set RLIMIT_{name}"),
                    errno,
                ));
            }
        }
    }
    Ok(())
}

fn resource(number: u32) -> Option<Resource> {
    const ALL: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    ALL.get(number as usize).copied()
}

/// Puts the streams at 0, 1 and 2; whether they are a terminal of ours.
fn place_streams(plan: &ProcessPlan, console: Option<Pty>) -> Result<bool, RuntimeError> {
    let failed = |errno| RuntimeError::system("stdio", "place the standard streams", errno);
    let place = |fds: [BorrowedFd<'_>; 3]| -> Result<(), Errno> {
        // Above the numbers they go to, lest one overwrite another.
        let copies = fds
            .iter()
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3))
            .collect::<Result<Vec<_>, _>>()?;
        copies
            .iter()
            .zip(0..)
            .try_for_each(|(fd, number)| wharf_sys::fd::place(fd, number))
    };
    match (&plan.stdio, console) {
        (_, Some(pty)) => {
            let slave = pty.slave.as_fd();
            place([slave, slave, slave]).map_err(failed)?;
            Ok(true)
        }
        (Stdio::Fds { stdin, stdout, stderr }, None) => {
            place([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).map_err(failed)?;
            Ok(false)
        }
        (Stdio::Inherit | Stdio::Foreground | Stdio::Terminal, None) => Ok(false),
    }
}

/// The user may open /dev/stdout again, which for a pipe or terminal asks
/// who owns it. Files that cannot be given away stay, and so does the group
/// of terminals; the host's /dev/null becomes the container's.
fn own_streams(identity: &Identity, root: &RootDir) -> Result<(), RuntimeError> {
    let uid = rustix::fs::Uid::from_raw(identity.uid);
    let gid = rustix::fs::Gid::from_raw(identity.gid);
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut null = None;
    for (fd, number) in streams.into_iter().zip(0..) {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        if is_null(&stat) {
            if let Some(own) = null.get_or_insert_with(|| open_null(root)) {
                wharf_sys::fd::place(own, number)
                    .map_err(|errno| RuntimeError::system("stdio", "place /dev/null", errno))?;
            }
            continue;
        }
        if stat.st_uid == identity.uid {
            continue;
        }
        let group = (!rustix::termios::isatty(fd)).then_some(gid);
        match rustix::fs::fchown(fd, Some(uid), group) {
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => {}
            Err(errno) => return Err(RuntimeError::system("stdio", "give the streams to the user", errno)),
        }
    }
    Ok(())
}

fn is_null(stat: &rustix::fs::Stat) -> bool {
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    kind == rustix::fs::FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3)
}

/// The container's own /dev/null: only what is reachable inside can be
/// checkpointed. None where there is no such device.
///
/// SECURITY: whatever the image has in its place is looked at before it is opened.
fn open_null(root: &RootDir) -> Option<OwnedFd> {
    let place = root
        .open_at("/dev/null", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        .ok()?;
    if !is_null(&rustix::fs::fstat(&place).ok()?) {
        return None;
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(wharf_sys::fd::proc_path(&place), flags, Mode::empty()).ok()
}

fn directory_error(plan: &ProcessPlan, errno: Errno) -> RuntimeError {
    let text = format!("chdir to cwd ({:?}) set in config.json failed", plan.process.cwd);
    let mut error = RuntimeError::system("process.cwd", text, errno);
    error.kind = crate::ErrorKind::CommandNotExecutable;
    error
}

fn enter_directory(plan: &ProcessPlan, root: &RootDir) -> Result<(), RuntimeError> {
    let cwd = if plan.process.cwd.as_os_str().is_empty() {
        std::path::Path::new("/")
    } else {
        &plan.process.cwd
    };
    root.open_at(cwd, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .and_then(rustix::process::fchdir)
        .map_err(|errno| directory_error(plan, errno))
}

/// SECURITY: a directory outside the root shows as unreachable (CVE-2024-21626).
fn check_directory(plan: &ProcessPlan) -> Result<(), RuntimeError> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(directory_error(plan, Errno::XDEV)),
        Err(errno) => Err(directory_error(plan, errno)),
    }
}

fn close_others(plan: &ProcessPlan, keep: &[BorrowedFd<'_>]) -> Result<(), RuntimeError> {
    const MOST: u32 = 1 << 16;
    if plan.preserve_fds > MOST {
        let text = format!("--preserve-fds: {} is above {MOST}", plan.preserve_fds);
        return Err(RuntimeError::invalid("descriptors", text));
    }
    let end = 3 + plan.preserve_fds;
    // ORDER: ours among the preserved too, before anybody waits for init: one is the lock of the container.
    wharf_sys::fd::close_own(3, end, keep)
        .and_then(|()| wharf_sys::fd::close_from(end, keep))
        .map_err(|errno| RuntimeError::system("descriptors", "close those of the host", errno))
}

/// The environment: of a name given more than once the last value, and HOME
/// if it was left out or empty.
fn environment(plan: &ProcessPlan, identity: &Identity) -> Vec<String> {
    fn name(entry: &str) -> &str {
        entry.split_once('=').map_or(entry, |(name, _)| name)
    }
    let given = &plan.process.env;
    let mut seen = std::collections::BTreeSet::new();
    let mut env: Vec<String> = Vec::with_capacity(given.len() + 1);
    for entry in given.iter().rev() {
        if seen.insert(name(entry)) && entry != "HOME=" {
            env.push(entry.clone());
        }
    }
    env.reverse();
    if !env.iter().any(|entry| name(entry) == "HOME") {
        env.push(format!("HOME={}", identity.home));
    }
    env
}

/// What a process plan is made from.
pub(crate) struct ProcessRequest<'a> {
    pub(crate) process: Process,
    pub(crate) user: Option<String>,
    pub(crate) group_add: Vec<String>,
    pub(crate) stdio: Stdio,
    pub(crate) preserve_fds: u32,
    pub(crate) groups: Groups,
    pub(crate) linux: &'a Linux,
    /// The filter, unless the process goes without.
    pub(crate) seccomp: Option<&'a Seccomp>,
}

/// Decides everything about a process that needs no kernel.
pub(crate) fn plan_process(request: ProcessRequest<'_>) -> Result<ProcessPlan, RuntimeError> {
    let ProcessRequest {
        process,
        user,
        group_add,
        stdio,
        preserve_fds,
        groups,
        linux,
        seccomp,
    } = request;
    let (capabilities, unknown) = plan_capabilities(&process.capabilities.clone().unwrap_or_default());
    let mut warnings = Vec::new();
    if !unknown.is_empty() {
        // COMPAT: runc's words.
        warnings.push(format!(
            "process.capabilities: ignoring unknown or unavailable capabilities: [{}]",
            unknown.join(" ")
        ));
    }
    capabilities.check_inheritable().map_err(|mut error| {
        // A set may lack it because its name was not known.
        error.chain.extend(warnings.iter().cloned());
        error
    })?;
    for name in capabilities.lost_ambient() {
        // COMPAT: the words of runc.
        warnings.push(format!(
            "process.capabilities.ambient: can't raise ambient capability CAP_{name}: it is not permitted and inheritable"
        ));
    }
    Ok(ProcessPlan {
        rlimits: plan_rlimits(&process.rlimits)?,
        scheduling: plan_scheduling(&process, linux)?,
        has_filter: seccomp.is_some(),
        filter_flags: seccomp.map(crate::seccomp::filter_flags).transpose()?.unwrap_or(0),
        process,
        user,
        group_add,
        stdio,
        preserve_fds,
        groups,
        capabilities,
        warnings,
    })
}
