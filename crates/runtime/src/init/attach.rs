//! Making one planned mount inside the root.
//!
//! SECURITY: targets are resolved in the root and held as descriptors; a
//! link that the image brings along cannot lead a mount out of it.

use super::classic::{self, MountApi};
use crate::RuntimeError;
use crate::plan::mounts::{Attributes, Kind, LOCKABLE, MS_PRIVATE, MountPlan, Propagation};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_sys::mount::{self as mounts, AttrChange, Depth, Parameter};
use wharf_sys::path::{RootDir, is_procfs};

/// Files of /proc that a bind may cover, as LXCFS does.
const PROC_FILES: [&str; 14] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
    "net/dev",
    "net/route",
    "sys/kernel/random/boot_id",
    "cmdline",
];

/// Why a mount was not made.
enum Refusal {
    Kernel(Errno),
    /// A user namespace may not change these of the source.
    Locked(StatVfsMountFlags),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// Makes one mount; `source` is the opened tree of a bind, for the classic interface the place that it is bound from.
pub(crate) fn attach_mount(
    root: &RootDir,
    plan: &MountPlan,
    source: Option<&OwnedFd>,
    api: MountApi,
) -> Result<(), RuntimeError> {
    let made = match (&plan.kind, source, api) {
        (Kind::Bind { recursive }, _, MountApi::Classic) => classic::mount_source(root, plan, *recursive, source),
        (Kind::Bind { recursive }, Some(tree), _) => {
            let bound = match attach_tree(root, plan, tree) {
                Err(Refusal::Kernel(Errno::LOOP)) if *recursive && is_plain(plan) => attach_path(root, plan, true),
                other => other,
            };
            return bound.map_err(|refusal| refused(plan, refusal));
        }
        (Kind::Bind { recursive }, None, MountApi::New) => {
            return attach_path(root, plan, *recursive).map_err(|refusal| refused(plan, refusal));
        }
        (Kind::Filesystem(name), _, MountApi::Classic) => classic::mount_filesystem(root, plan, name),
        (Kind::Filesystem(name), _, MountApi::New) => match attach_filesystem(root, plan, name) {
            Err(Errno::PERM) if name == "sysfs" => attach_host_sys(root, plan),
            other => other,
        },
        // Done by its own step, which knows the cgroup's directories.
        (Kind::Cgroup, _, _) => Ok(()),
    };
    made.map_err(|errno| match (&plan.kind, errno) {
        (Kind::Filesystem(name), Errno::NOTDIR | Errno::LOOP) if is_kernel_view(name) => {
            let text = format!("{}: it must be mounted on ordinary directory", describe(plan));
            RuntimeError::system("mounts", text, errno)
        }
        _ => RuntimeError::system("mounts", describe(plan), errno),
    })
}

/// Whether a bind may be made of init's own copy of the host's mounts instead of the host's.
///
/// KERNEL: a tree in which somebody pins a mount namespace that is older than init's (snapd does, below /run) is
/// refused (ELOOP). The copy has no such pins; it is no peer of the host's mounts either, and ids are mapped before.
fn is_plain(plan: &MountPlan) -> bool {
    plan.id_map.is_none() && plan.propagation.iter().all(|wanted| wanted.flag == MS_PRIVATE)
}

/// Names what a user namespace may not change.
fn refused(plan: &MountPlan, refusal: Refusal) -> RuntimeError {
    let text = describe(plan);
    match refusal {
        Refusal::Kernel(errno) => RuntimeError::system("mounts", text, errno),
        Refusal::Locked(flags) => {
            let words = locked_words(flags);
            let text = format!("{text}: the container's user namespace may not change {words} of its source");
            RuntimeError::system("mounts", text, Errno::PERM)
        }
    }
}

/// The options that these flags are, in the words of the configuration.
fn locked_words(flags: StatVfsMountFlags) -> String {
    let all = [
        (StatVfsMountFlags::RDONLY, "ro"),
        (StatVfsMountFlags::NOSUID, "nosuid"),
        (StatVfsMountFlags::NODEV, "nodev"),
        (StatVfsMountFlags::NOEXEC, "noexec"),
        (StatVfsMountFlags::NOATIME, "noatime"),
        (StatVfsMountFlags::NODIRATIME, "nodiratime"),
        (StatVfsMountFlags::RELATIME, "relatime"),
    ];
    let words = all
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, word)| *word);
    words.collect::<Vec<_>>().join(", ")
}

/// How a mount is called in errors.
pub(crate) fn describe(plan: &MountPlan) -> String {
    let destination = plan.destination.display();
    match (&plan.kind, &plan.source) {
        (Kind::Bind { .. }, Some(source)) => format!("bind {} at {destination}", source.display()),
        (Kind::Filesystem(name), _) => format!("mount {name} at {destination}"),
        _ => format!("mount {destination}"),
    }
}

fn attach_tree(root: &RootDir, plan: &MountPlan, tree: &OwnedFd) -> Result<(), Refusal> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
    let target = ensure_target(root, &plan.destination, kind == FileType::Directory)?;
    if !is_procfs(tree) {
        refuse_proc(root, &target)?;
    }
    change_bind(tree, plan)?;
    mounts::attach(tree, &target)?;
    Ok(finish(tree, plan)?)
}

/// SECURITY: the source may be held by a mount of the host, where nothing is locked yet; a user
/// namespace gets no more of it than it could take when it made the bind itself.
fn change_bind(tree: &OwnedFd, plan: &MountPlan) -> Result<(), Refusal> {
    let attributes = plan.top.of_bind(plan.is_locked);
    if attributes.is_empty() {
        return Ok(());
    }
    if !plan.is_locked {
        return Ok(change(tree, Depth::Top, attributes)?);
    }
    // Of the times of access no change at all is let through.
    const TIMES: StatVfsMountFlags = StatVfsMountFlags::NOATIME
        .union(StatVfsMountFlags::NODIRATIME)
        .union(StatVfsMountFlags::RELATIME);
    // The other flags of statvfs(3) have the values of the attributes.
    let locked = TIMES | StatVfsMountFlags::from_bits_retain(u64::from(attributes.clear & LOCKABLE));
    let flags = |tree: &OwnedFd| rustix::fs::fstatvfs(tree).map(|stat| stat.f_flag & locked);
    let before = flags(tree)?;
    match change(tree, Depth::Top, attributes) {
        Err(Errno::PERM) if !before.is_empty() => return Err(Refusal::Locked(before)),
        other => other?,
    }
    // What is left is the file system's own.
    let changed = before.symmetric_difference(flags(tree)?);
    if changed.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Locked(changed))
    }
}

/// Binds what is there by now, as the host would by this path.
fn attach_path(root: &RootDir, plan: &MountPlan, recursive: bool) -> Result<(), Refusal> {
    let source = plan.source.as_deref().ok_or(Errno::INVAL)?;
    let source = CString::new(source.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    let depth = if recursive { Depth::Recursive } else { Depth::Top };
    let tree = mounts::clone_tree(rustix::fs::CWD, &source, depth)?;
    attach_tree(root, plan, &tree)
}

/// COMPAT: as crun does. sysfs shows the network namespace, and a user namespace that does not own
/// it may not mount one; then the host's is bound, with all that lies on it.
fn attach_host_sys(root: &RootDir, plan: &MountPlan) -> Result<(), Errno> {
    let tree = mounts::clone_tree(rustix::fs::CWD, c"/sys", Depth::Recursive)?;
    let target = filesystem_target(root, plan, "sysfs")?;
    let set = Attributes { clear: 0, ..plan.top };
    change(&tree, Depth::Recursive, set)?;
    mounts::attach(&tree, &target)?;
    finish(&tree, plan)
}

fn attach_filesystem(root: &RootDir, plan: &MountPlan, name: &str) -> Result<(), Errno> {
    let mode = inherited_mode(root, plan, name);
    let target = filesystem_target(root, plan, name)?;
    let source = plan.source.as_deref().unwrap_or(Path::new(name));
    let source = CString::new(source.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    let texts = plan
        .data
        .iter()
        .map(|item| match item.split_once('=') {
            Some((key, value)) => CString::new(value).map(|value| (key, Some(value))),
            None => Ok((item.as_str(), None)),
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Errno::INVAL)?;
    let mut parameters = vec![Parameter::Text("source", &source)];
    parameters.extend(texts.iter().map(|(key, value)| match value {
        Some(value) => Parameter::Text(key, value),
        None => Parameter::Flag(key),
    }));
    let mode = mode.map(|mode| super::c_text(&mode));
    parameters.extend(mode.as_deref().map(|mode| Parameter::Text("mode", mode)));
    let made = mounts::new_filesystem(name, &parameters, plan.top.set)?;
    if plan.copy_up {
        super::copy_up::copy_tree(&target, &made)?;
    }
    mounts::attach(&made, &target)?;
    finish(&made, plan)
}

/// What can only be changed on, or below, the attached mount.
fn finish(made: &OwnedFd, plan: &MountPlan) -> Result<(), Errno> {
    if !plan.tree.is_empty() {
        change(made, Depth::Recursive, plan.tree)?;
    }
    for Propagation { flag, recursive } in &plan.propagation {
        let depth = if *recursive { Depth::Recursive } else { Depth::Top };
        let change = AttrChange {
            propagation: u64::from(*flag),
            ..AttrChange::default()
        };
        mounts::set_attr(made, depth, change)?;
    }
    Ok(())
}

fn change(mount: &OwnedFd, depth: Depth, attributes: Attributes) -> Result<(), Errno> {
    let Attributes { set, clear } = attributes;
    let attributes = AttrChange {
        set: u64::from(set),
        clear: u64::from(clear),
        ..AttrChange::default()
    };
    mounts::set_attr(mount, depth, attributes)
}

pub(crate) fn ensure_target(root: &RootDir, destination: &Path, directory: bool) -> Result<OwnedFd, Errno> {
    if directory {
        root.ensure_dir(destination, Mode::from_raw_mode(0o755))
    } else {
        root.ensure_file(destination, Mode::from_raw_mode(0o644))
    }
}

/// A tmpfs without a mode of its own has that of the directory it covers.
///
/// COMPAT: as runc.
pub(super) fn inherited_mode(root: &RootDir, plan: &MountPlan, name: &str) -> Option<String> {
    if name != "tmpfs" || plan.data.iter().any(|item| item.starts_with("mode=")) {
        return None;
    }
    let covered = root.locate(&plan.destination).ok()?;
    let mode = rustix::fs::fstat(covered).ok()?.st_mode & 0o7777;
    Some(format!("{mode:o}"))
}

fn is_kernel_view(name: &str) -> bool {
    name == "proc" || name == "sysfs"
}

/// SECURITY: proc and sysfs go on real directories only: a link in the
/// image's place for them would let it choose what they cover.
pub(crate) fn filesystem_target(root: &RootDir, plan: &MountPlan, name: &str) -> Result<OwnedFd, Errno> {
    let target = if is_kernel_view(name) {
        match root.open_at(&plan.destination, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) => root.ensure_dir(&plan.destination, Mode::from_raw_mode(0o755))?,
            Err(errno) => return Err(errno),
            Ok(fd) if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory => fd,
            Ok(_) => return Err(Errno::NOTDIR),
        }
    } else {
        root.ensure_dir(&plan.destination, Mode::from_raw_mode(0o755))?
    };
    if name != "proc" {
        refuse_proc(root, &target)?;
    }
    Ok(target)
}

/// SECURITY: a mount over files of /proc could redirect what the runtime
/// writes there (attr/exec, sysctls); only known harmless files may be
/// covered, and /proc itself, mounted or not yet, only by proc. Files are known by what they are: a name would be asked
/// of a /proc that may be the container's.
pub(crate) fn refuse_proc(root: &RootDir, target: &OwnedFd) -> Result<(), Errno> {
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let wanted = identity(rustix::fs::fstat(target)?);
    let is_it = |stat: Result<rustix::fs::Stat, Errno>| stat.is_ok_and(|stat| identity(stat) == wanted);
    let is_allowed = if is_procfs(target) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let proc = root.open_at("proc", flags, Mode::empty())?;
        let is_file = |file: &str| is_it(rustix::fs::statat(&proc, file, AtFlags::SYMLINK_NOFOLLOW));
        PROC_FILES.into_iter().any(is_file)
    } else {
        !is_it(rustix::fs::statat(root.as_fd(), "proc", AtFlags::SYMLINK_NOFOLLOW))
    };
    if is_allowed { Ok(()) } else { Err(Errno::PERM) }
}

/// Covers `target` with a copy of the mount that `from` refers to, made
/// read-only if asked by `set`.
pub(crate) fn cover(from: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: Depth, set: u32) -> Result<(), Errno> {
    let copy = mounts::clone_tree(from, c"", depth)?;
    if set != 0 {
        change(&copy, depth, Attributes { set, clear: 0 })?;
    }
    mounts::attach(&copy, target)
}
