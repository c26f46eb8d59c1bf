//! Single settings of the process and its namespaces.

use crate::channel::{Channel, Message};
use crate::init::InitPlan;
use crate::init::identity::Groups;
use crate::plan::labels::SELINUX_MARKER;
use crate::plan::namespaces::NamespacePlan;
use crate::plan::rights::{sysctl_namespace, sysctl_path};
use crate::spec::{Process, TimeOffset};
use crate::{ErrorKind, RuntimeError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{CpuSet, Gid, Uid};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_sys::namespace::{self, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER};
use wharf_sys::path::RootDir;
use wharf_sys::signal::{self, SignalSet};

fn failed(step: &'static str, what: impl Into<String>) -> impl FnOnce(Errno) -> RuntimeError {
    let what = what.into();
    move |errno| RuntimeError::system(step, what, errno)
}

/// An engine started under nohup, or Rust's own start-up, leaves signals
/// ignored; execve would pass that on.
pub(crate) fn reset_signals() -> Result<(), RuntimeError> {
    signal::reset_all();
    signal::set_mask(SignalSet::empty())
        .map(drop)
        .map_err(failed("signals", "reset the signal mask"))
}

/// Waits for the one who starts the container.
///
/// COMPAT: the first process of a pid namespace is deaf to signals that it
/// has no handler for; runc's, waiting here, ends with those that ask for it.
pub(crate) fn accept_start(listener: &OwnedFd) -> Result<Channel, RuntimeError> {
    const ENDINGS: [i32; 4] = [1, 2, 3, 15];
    let failed = |errno| failed("start", "wait for the start of the container")(errno);
    let endings = SignalSet::of(&ENDINGS);
    signal::block(endings).map_err(failed)?;
    // A filter that is already in force may forbid it; then they wait too.
    if let Ok(signals) = signal::open_signalfd(endings) {
        let mut ready = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut ready, None)).map_err(failed)?;
        if let (false, Ok(Some(number))) = (ready[1].revents().is_empty(), signal::read_signalfd(&signals)) {
            wharf_sys::clone::exit(128 + number);
        }
    }
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let accepted = rustix::net::accept_with(listener, flags).map_err(failed)?;
    signal::set_mask(SignalSet::empty()).map_err(failed)?;
    Ok(Channel::from_fd(accepted))
}

/// Lets the process run on every CPU of its cgroup, whatever the one who
/// started the runtime is bound to.
///
/// The kernel cuts the mask down to what `cpuset` allows. What cannot be set
/// stays.
pub(crate) fn unbind_from_cpus() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _ = rustix::thread::sched_setaffinity(None, &all);
}

/// SECURITY: where processes of others see init from its first moment on, as
/// in a pid namespace that it joins, they must not reach the descriptors it
/// holds, nor trace it before it gives up its rights (CVE-2016-9962). The
/// program is visible as usual again.
pub(crate) fn hide_from_others(namespaces: &NamespacePlan) -> Result<(), RuntimeError> {
    // In a user namespace it must own its files in /proc, and does so out of the reach of those outside.
    if namespaces.makes(CLONE_NEWPID) || namespaces.has(CLONE_NEWUSER) {
        return Ok(());
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("pid namespace", "become undumpable"))
}

/// Modes given to nodes and directories are meant as they are.
pub(crate) fn open_umask() {
    rustix::process::umask(Mode::empty());
}

/// Becomes id 0 of the new user namespace, whose maps are written.
pub(crate) fn become_root_of_user_namespace(groups: Groups) -> Result<(), RuntimeError> {
    let failed = || failed("user namespace", "become its root");
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    // Where setgroups is denied there is nothing to drop.
    if groups == Groups::Own {
        match rustix::thread::set_thread_groups(&[]) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(failed()(errno)),
        }
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed())?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed())?;
    // Otherwise /proc/self belongs to the host's root, who we are not.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(failed())
}

/// Makes a time namespace, sets its clocks, and enters it.
pub(crate) fn enter_time_namespace(offsets: &BTreeMap<String, TimeOffset>) -> Result<(), RuntimeError> {
    namespace::unshare(CLONE_NEWTIME).map_err(failed("time namespace", "make a time namespace"))?;
    let mut text = String::new();
    for (clock, offset) in offsets {
        let _ = writeln!(text, "{clock} {} {}", offset.secs, offset.nanosecs);
    }
    if !text.is_empty() {
        wharf_sys::procfs::write("self/timens_offsets", text.as_bytes()).map_err(failed(
            "linux.timeOffsets",
            format!("set {}", text.trim_end().replace('\n', ", ")),
        ))?;
    }
    let enter = failed("time namespace", "enter it");
    let own = namespace::open(Path::new("/proc/self/ns/time_for_children"));
    own.and_then(|own| namespace::enter(own, CLONE_NEWTIME)).map_err(enter)
}

/// A session and a session keyring of its own.
pub(crate) fn new_session(plan: &InitPlan) -> Result<(), RuntimeError> {
    rustix::process::setsid().map_err(failed("session", "make a session"))?;
    if plan.no_new_keyring {
        return Ok(());
    }
    join_keyring()
}

/// A new session keyring, so that no key of the host is seen.
pub(crate) fn join_keyring() -> Result<(), RuntimeError> {
    match wharf_sys::keyring::join_new_session() {
        // No keyrings in the kernel, or no quota left: then none is shared either.
        Ok(()) | Err(Errno::NOSYS | Errno::DQUOT | Errno::ACCESS | Errno::PERM) => Ok(()),
        Err(errno) => Err(failed("keyring", "make a session keyring")(errno)),
    }
}

/// Host and domain name of the UTS namespace.
pub(crate) fn set_host_names(plan: &InitPlan) -> Result<(), RuntimeError> {
    if let Some(name) = plan.spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes())
            .map_err(failed("hostname", format!("hostname: set it to {name:?}")))?;
    }
    if let Some(name) = plan.spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes())
            .map_err(failed("domainname", format!("domainname: set it to {name:?}")))?;
    }
    Ok(())
}

/// The file that takes the label for the next execve, and that label.
#[derive(Debug)]
pub(crate) struct LsmLabel {
    file: OwnedFd,
    text: String,
    field: &'static str,
}

impl std::os::fd::AsFd for LsmLabel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl LsmLabel {
    /// Asks for the label at the next execve.
    pub(crate) fn apply(&self) -> Result<(), RuntimeError> {
        rustix::io::write(&self.file, self.text.as_bytes())
            .map(drop)
            .map_err(failed(self.field, format!("ask for {:?}", self.text)))
    }
}

/// Opens the attribute files for the AppArmor profile and the SELinux label.
pub(crate) fn open_lsm(process: &Process) -> Result<Vec<LsmLabel>, RuntimeError> {
    let wanted = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut labels = Vec::new();
    if let Some(profile) = wanted(&process.apparmor_profile) {
        let marker = "/sys/module/apparmor/parameters/enabled";
        labels.push(open_label(
            "process.apparmorProfile",
            ("apparmor", marker),
            format!("exec {profile}"),
        )?);
    }
    if let Some(label) = wanted(&process.selinux_label) {
        labels.push(open_label("process.selinuxLabel", ("selinux", SELINUX_MARKER), label)?);
    }
    Ok(labels)
}

fn open_label(field: &'static str, (name, marker): (&str, &str), text: String) -> Result<LsmLabel, RuntimeError> {
    if rustix::fs::access(marker, rustix::fs::Access::EXISTS).is_err() {
        let text = format!("{field}: this kernel has it not enabled");
        return Err(RuntimeError::new(ErrorKind::Invalid, field, text));
    }
    // KERNEL(5.8): each module has a directory of its own.
    let (own, shared) = (format!("self/attr/{name}/exec"), "self/attr/exec");
    // SECURITY: a container's /proc could be anything (CVE-2019-16884, CVE-2025-52881).
    let open = |path: &str| wharf_sys::procfs::open(path, OFlags::WRONLY);
    let file = open(&own)
        .or_else(|_| open(shared))
        .map_err(failed(field, format!("open /proc/{shared}")))?;
    Ok(LsmLabel { file, text, field })
}

/// Sets `oom_score_adj`; where that is not permitted it warns.
pub(crate) fn set_oom_score(process: &Process, channel: &Channel) -> Result<(), RuntimeError> {
    let Some(score) = process.oom_score_adj else {
        return Ok(());
    };
    match wharf_sys::procfs::write("self/oom_score_adj", score.to_string().as_bytes()) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS | Errno::PERM) => {
            let text = format!("process.oomScoreAdj: not permitted to set {score}");
            let _ = channel.send(&Message::Warning(text));
            Ok(())
        }
        Err(errno) => Err(failed("process.oomScoreAdj", format!("set {score}"))(errno)),
    }
}

/// Sets kernel parameters that belong to namespaces of the container.
pub(crate) fn apply_sysctls(
    parameters: &BTreeMap<String, String>,
    namespaces: &NamespacePlan,
    root: &RootDir,
) -> Result<(), RuntimeError> {
    if parameters.is_empty() {
        return Ok(());
    }
    let own_proc = own_procfs(namespaces, root);
    for (key, value) in parameters {
        let invalid = |why: &str| RuntimeError::invalid("linux.sysctl", format!("linux.sysctl[{key:?}]: {why}"));
        let kind = sysctl_namespace(key).ok_or_else(|| invalid("is not in a separate kernel namespace"))?;
        if !namespaces.has(kind) {
            return Err(invalid("needs a namespace of the container's own"));
        }
        let path = sysctl_path(key).ok_or_else(|| invalid("is not a name of a parameter"))?;
        write_sysctl(own_proc.as_ref(), &path, value)
            .map_err(failed("linux.sysctl", format!("set {key} to {value:?}")))?;
    }
    Ok(())
}

/// The container's own /proc, if it has one of its own pid namespace: it stays as fast as it is
/// with however many containers.
fn own_procfs(namespaces: &NamespacePlan, root: &RootDir) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let open = || root.open_at("proc", flags, Mode::empty()).ok();
    namespaces.makes(CLONE_NEWPID).then(open).flatten()
}

/// Where the container's /proc is none, is read-only, or hides the file, the host's takes it.
fn write_sysctl(own_proc: Option<&OwnedFd>, path: &str, value: &str) -> Result<(), Errno> {
    let path = format!("sys/{path}");
    let written = own_proc.map(|proc| wharf_sys::procfs::write_below(proc, &path, value.as_bytes()));
    match written {
        None
        | Some(Err(
            Errno::NODEV | Errno::XDEV | Errno::ROFS | Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS,
        )) => wharf_sys::procfs::write(path, value.as_bytes()),
        Some(done) => done,
    }
}

/// Makes the working directory if the image lacks it.
pub(crate) fn ensure_directory(root: &RootDir, cwd: &Path) -> Result<(), RuntimeError> {
    match root.ensure_dir(cwd, Mode::from_raw_mode(0o755)) {
        // Whatever else is wrong shows when it is entered.
        Ok(_) | Err(_) => Ok(()),
    }
}
