//! Checkpoint and restore through CRIU, an optional program of the host.
//!
//! ```text
//! runtime                        criu swrk
//!   | -- dump, options ------------>|
//!   |<- notice: post-dump, ... ---- |   (each answered)
//!   |<- done ---------------------- |
//! ```
//!
//! The images are CRIU's own; beside them lies `descriptors.json`, the files
//! behind the standard streams of init, in the form that runc leaves and reads.

mod options;
mod session;
mod wire;

use crate::plan::mounts::{Kind, MountPlan, plan_mounts};
use crate::spec::{Linux, NamespaceKind, Spec};
use crate::{Cgroup, ErrorKind, ResctrlGroup, RuntimeError};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use wharf_sys::path::RootDir;

pub(crate) use options::{CgroupsMode, Options, parse_page_server};
pub(crate) use session::{Criu, Notice};
use session::{Kind as Request, Streams};
use wire::Message;

const DESCRIPTORS: &str = "descriptors.json";
/// CRIU's features by number (`criu_features`).
const FEATURE_MEM_TRACK: u32 = 1;
const FEATURE_LAZY_PAGES: u32 = 2;
/// The first version with these abilities.
const VERSION_MINIMUM: u64 = 30_000;
const VERSION_STATUS_NOTICE: u64 = 31_500;
const VERSION_LSM: u64 = 31_600;

/// A container to save.
pub(crate) struct Subject<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) bundle: &'a Path,
    pub(crate) rootfs: &'a Path,
    pub(crate) pid: i32,
    pub(crate) cgroup: Option<&'a Cgroup>,
}

/// A container to bring back.
pub(crate) struct Revival<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) bundle: &'a Path,
    /// The root file system as a mount point.
    pub(crate) root: &'a Path,
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// Its class of cache and memory bandwidth.
    pub(crate) class: Option<&'a ResctrlGroup>,
}

fn failed(what: String, error: &std::io::Error) -> RuntimeError {
    let errno = rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0));
    RuntimeError::system("criu", what, errno)
}

fn broken(why: impl Into<String>) -> RuntimeError {
    RuntimeError::new(ErrorKind::System, "criu", why)
}

/// Makes the directory if need be, and opens it.
fn open_directory(path: &Path) -> Result<OwnedFd, RuntimeError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("make {}", path.display()), &error));
        }
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| RuntimeError::system("criu", format!("open {}", path.display()), errno))
}

/// Saves a container.
///
/// Unless it is left running its processes are gone afterwards.
pub(crate) fn checkpoint(criu: &Criu, subject: &Subject<'_>, options: &Options) -> Result<(), RuntimeError> {
    options::check(options)?;
    let version = require_version(criu, VERSION_MINIMUM, "checkpoints")?;
    let images = open_directory(&options.image_path)?;
    let work = options.work_path.as_deref().map(open_directory).transpose()?;
    let mut message = options::common(options, images.as_fd(), work.as_ref().map(AsFd::as_fd));
    message
        .integer(2, subject.pid)
        .flag(3, options.leave_running)
        .text(10, "dump.log")
        .text(13, &subject.rootfs.to_string_lossy())
        .flag(18, options.link_remap)
        .flag(46, options.tcp_skip_in_flight);
    add_config_file(&mut message, subject.spec);
    add_page_server(&mut message, options);
    add_external_namespaces(&mut message, subject.spec.linux())?;
    if let Some(freezer) = subject.cgroup.and_then(freezer_of) {
        message.text(44, &freezer.to_string_lossy());
    }
    let kind = check_features(criu, options)?;
    if let (true, Some(fd), true) = (options.lazy_pages, options.status_fd, version < VERSION_STATUS_NOTICE) {
        message.integer(49, fd);
    }
    if kind == Request::Dump {
        add_dumped_mounts(&mut message, subject)?;
        write_descriptors(&options.image_path, subject.pid)?;
    }
    let session = criu.start(Streams::Own, &[])?;
    let answer = session.request(kind, &[(2, &message)], &mut |notice| serve_dump(&notice, options));
    answer.map(drop).map_err(|error| explain(error, options, "dump.log"))
}

fn require_version(criu: &Criu, minimum: u64, what: &str) -> Result<u64, RuntimeError> {
    let version = criu.version()?;
    if version < minimum {
        let text = format!(
            "criu: {what} need version {}.{} of it",
            minimum / 10_000,
            minimum / 100 % 100
        );
        return Err(broken(text));
    }
    Ok(version)
}

/// Settings that outweigh ours. COMPAT: runc's file and annotation.
fn add_config_file(message: &mut Message, spec: &Spec) {
    let named = spec.annotations.get("org.criu.config").map(String::as_str);
    let path = named.unwrap_or("/etc/criu/runc.conf");
    if !path.is_empty() {
        message.text(51, path);
    }
}

fn add_page_server(message: &mut Message, options: &Options) {
    if let Some((address, port)) = &options.page_server {
        let mut server = Message::default();
        server.text(1, address).number(2, u64::from(*port));
        message.message(11, &server);
    }
    if let Some(parent) = &options.parent_path {
        message.text(14, &parent.to_string_lossy()).flag(15, true);
    }
}

fn check_features(criu: &Criu, options: &Options) -> Result<Request, RuntimeError> {
    if options.lazy_pages {
        criu.require_feature(FEATURE_LAZY_PAGES, "lazy pages")?;
    }
    if !options.pre_dump {
        return Ok(Request::Dump);
    }
    criu.require_feature(FEATURE_MEM_TRACK, "tracking of memory changes, which --pre-dump needs")?;
    Ok(Request::PreDump)
}

/// Networks and pid namespaces that the container joined by path stay where
/// they are; CRIU knows them by number on dump and by name on restore.
fn external_namespaces(linux: &Linux) -> impl Iterator<Item = (&'static str, &'static str, &Path)> {
    let named = |kind| match kind {
        NamespaceKind::Network => Some(("net", "extRootNetNS")),
        NamespaceKind::Pid => Some(("pid", "extRootPidNS")),
        _ => None,
    };
    linux.namespaces.iter().filter_map(move |namespace| {
        let (name, key) = named(namespace.kind)?;
        let path = namespace.path.as_deref().filter(|path| !path.as_os_str().is_empty())?;
        Some((name, key, path))
    })
}

fn add_external_namespaces(message: &mut Message, linux: &Linux) -> Result<(), RuntimeError> {
    use std::os::unix::fs::MetadataExt as _;
    for (name, key, path) in external_namespaces(linux) {
        let facts = std::fs::metadata(path).map_err(|error| failed(format!("look at {}", path.display()), &error))?;
        message.text(37, &format!("{name}[{}]:{key}", facts.ino()));
    }
    Ok(())
}

fn freezer_of(cgroup: &Cgroup) -> Option<PathBuf> {
    let mut directories = cgroup.directories();
    directories.remove("freezer").or_else(|| directories.remove(""))
}

/// Mounts whose content is the host's: binds, masked files and devices.
fn add_dumped_mounts(message: &mut Message, subject: &Subject<'_>) -> Result<(), RuntimeError> {
    let linux = subject.spec.linux();
    for mount in binds(&plan_mounts(subject.bundle, &subject.spec.mounts)?) {
        let inside = mount.destination.to_string_lossy();
        options::add_external_mount(message, &inside, &inside);
    }
    for path in &linux.masked_paths {
        let seen = format!("/proc/{}/root/{}", subject.pid, path.trim_start_matches('/'));
        if std::fs::symlink_metadata(&seen).is_ok_and(|facts| !facts.is_dir()) {
            options::add_external_mount(message, path, "/dev/null");
        }
    }
    for device in &linux.devices {
        let inside = device.path.to_string_lossy();
        options::add_external_mount(message, &inside, &inside);
    }
    Ok(())
}

fn binds(mounts: &[MountPlan]) -> impl Iterator<Item = &MountPlan> {
    mounts.iter().filter(|mount| matches!(mount.kind, Kind::Bind { .. }))
}

fn write_descriptors(images: &Path, pid: i32) -> Result<(), RuntimeError> {
    let links: Vec<String> = (0..3)
        .map(|number| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let path = images.join(DESCRIPTORS);
    std::fs::write(&path, serde_json::json!(links).to_string())
        .map_err(|error| failed(format!("write {}", path.display()), &error))
}

fn serve_dump(notice: &Notice, options: &Options) -> Result<(), RuntimeError> {
    if notice.script == "status-ready"
        && let Some(number) = options.status_fd
    {
        let path = format!("/proc/self/fd/{number}");
        std::fs::write(&path, [0]).map_err(|error| failed("tell --status-fd".to_owned(), &error))?;
    }
    Ok(())
}

/// CRIU writes why into a file beside the images.
fn explain(mut error: RuntimeError, options: &Options, log: &str) -> RuntimeError {
    let directory = options.work_path.as_ref().unwrap_or(&options.image_path);
    let path = directory.join(log);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = session::first_error(&text) {
        error.chain.push(format!("{line} (see {})", path.display()));
    }
    error
}

/// Brings a container back; returns the pid of its init, a child of ours.
///
/// `serve` gets the notices that concern the caller; standard streams of the
/// caller take the place of pipes that the container had.
pub(crate) fn restore(
    criu: &Criu,
    revival: &Revival<'_>,
    options: &Options,
    serve: &mut dyn FnMut(Notice) -> Result<(), RuntimeError>,
) -> Result<i32, RuntimeError> {
    options::check(options)?;
    let needs_lsm = options.lsm_profile.is_some() || options.lsm_mount_context.is_some();
    let minimum = if needs_lsm { VERSION_LSM } else { VERSION_MINIMUM };
    require_version(criu, minimum, "the options of the restore")?;
    let images = rustix::fs::open(
        &options.image_path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| RuntimeError::system("criu", format!("open {}", options.image_path.display()), errno))?;
    let work = options.work_path.as_deref().map(open_directory).transpose()?;
    let mut message = options::common(options, images.as_fd(), work.as_ref().map(AsFd::as_fd));
    message
        .flag(6, true)
        .text(10, "restore.log")
        .text(13, &revival.root.to_string_lossy())
        .flag(26, true);
    for (field, text) in [(53, &options.lsm_profile), (63, &options.lsm_mount_context)] {
        if let Some(text) = text {
            message.text(field, text);
        }
    }
    add_config_file(&mut message, revival.spec);
    ensure_mount_points(revival)?;
    add_restored_mounts(&mut message, revival)?;
    let namespaces = add_joined_namespaces(&mut message, revival.spec.linux())?;
    add_streams(&mut message, &options.image_path)?;
    let inherited: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
    let session = criu.start(Streams::Inherited, &inherited)?;
    join_cgroup(&mut message, revival.cgroup, session.pid())?;
    if let Some(class) = revival.class {
        class.add(session.pid())?;
    }
    let mut pid = 0;
    let answer = session.request(Request::Restore, &[(2, &message)], &mut |notice| {
        if notice.script == "post-restore" {
            pid = notice.pid;
        }
        serve(notice)
    });
    let answer = answer.map_err(|error| explain(error, options, "restore.log"))?;
    Ok(if answer.pid == 0 { pid } else { answer.pid })
}

/// CRIU mounts on what is there: directories and files that the root lacks
/// are made, but not in file systems whose content it restores itself.
fn ensure_mount_points(revival: &Revival<'_>) -> Result<(), RuntimeError> {
    let mounts = plan_mounts(revival.bundle, &revival.spec.mounts)?;
    let top = RootDir::open(revival.root)
        .map_err(|errno| RuntimeError::system("root.path", format!("open {}", revival.root.display()), errno))?;
    for (index, mount) in mounts.iter().enumerate() {
        let above = mounts.iter().take(index).rev();
        let mut above = above.filter(|outer| mount.destination.starts_with(&outer.destination));
        let is_file = match (&mount.kind, &mount.source) {
            (Kind::Bind { .. }, Some(source)) => source.is_file(),
            _ => false,
        };
        let failed = |errno| RuntimeError::system("mounts", format!("make {}", mount.destination.display()), errno);
        let ensure = |root: &RootDir, path: &Path| {
            if is_file {
                root.ensure_file(path, Mode::from_raw_mode(0o644)).map(drop)
            } else {
                root.ensure_dir(path, Mode::from_raw_mode(0o755)).map(drop)
            }
        };
        match above.next() {
            None if mount.kind == Kind::Cgroup => {}
            None => ensure(&top, &mount.destination).map_err(failed)?,
            Some(outer) => {
                let below = mount
                    .destination
                    .strip_prefix(&outer.destination)
                    .unwrap_or(Path::new(""));
                if let (Kind::Bind { .. }, Some(source)) = (&outer.kind, &outer.source) {
                    let inner = RootDir::open(source).map_err(failed)?;
                    ensure(&inner, below).map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

fn add_restored_mounts(message: &mut Message, revival: &Revival<'_>) -> Result<(), RuntimeError> {
    let linux = revival.spec.linux();
    for mount in binds(&plan_mounts(revival.bundle, &revival.spec.mounts)?) {
        let source = mount.source.as_deref().unwrap_or(Path::new("")).to_string_lossy();
        options::add_external_mount(message, &mount.destination.to_string_lossy(), &source);
    }
    if !linux.masked_paths.is_empty() {
        options::add_external_mount(message, "/dev/null", "/dev/null");
    }
    for device in &linux.devices {
        let inside = device.path.to_string_lossy();
        options::add_external_mount(message, &inside, &inside);
    }
    Ok(())
}

/// Namespaces by path: those that CRIU takes as descriptors come back, to be
/// handed over from number 4 on.
fn add_joined_namespaces(message: &mut Message, linux: &Linux) -> Result<Vec<OwnedFd>, RuntimeError> {
    let mut opened = Vec::new();
    for (_, key, path) in external_namespaces(linux) {
        let namespace = wharf_sys::namespace::open(path)
            .map_err(|errno| RuntimeError::system("criu", format!("open {}", path.display()), errno))?;
        add_inherited(message, key, 4 + i32::try_from(opened.len()).unwrap_or(0));
        opened.push(namespace);
    }
    for namespace in &linux.namespaces {
        let Some(path) = namespace.path.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
            continue;
        };
        let name = match namespace.kind {
            NamespaceKind::Network | NamespaceKind::Pid => continue,
            NamespaceKind::Cgroup => {
                let text = "linux.namespaces: criu cannot restore into a cgroup namespace by path";
                return Err(RuntimeError::invalid("linux.namespaces", text));
            }
            kind => crate::plan::namespaces::file_name(crate::plan::namespaces::flag(kind)),
        };
        let mut join = Message::default();
        join.text(1, name).text(2, &path.to_string_lossy());
        message.message(39, &join);
    }
    Ok(opened)
}

fn add_inherited(message: &mut Message, key: &str, number: i32) {
    let mut pair = Message::default();
    pair.text(1, key).integer(2, number);
    message.message(27, &pair);
}

/// Pipes that the container had as standard streams are replaced by ours.
fn add_streams(message: &mut Message, images: &Path) -> Result<(), RuntimeError> {
    let path = images.join(DESCRIPTORS);
    let bytes = std::fs::read(&path).map_err(|error| failed(format!("read {}", path.display()), &error))?;
    let links: Vec<String> = serde_json::from_slice(&bytes)
        .map_err(|error| RuntimeError::invalid("--image-path", format!("parse {}: {error}", path.display())))?;
    for (link, number) in links.iter().zip(0..).filter(|(link, _)| link.contains("pipe:")) {
        add_inherited(message, link, number);
    }
    Ok(())
}

/// The restored processes are born where CRIU is.
fn join_cgroup(message: &mut Message, cgroup: Option<&Cgroup>, pid: i32) -> Result<(), RuntimeError> {
    let Some(cgroup) = cgroup else { return Ok(()) };
    let failed_to_join = |error| crate::cgroups::failed("cgroup", &error);
    cgroup
        .add(u32::try_from(pid).unwrap_or_default())
        .map_err(failed_to_join)?;
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).map_err(|error| failed(format!("read {path}"), &error))?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let mut root = Message::default();
        root.text(1, controllers).text(2, path);
        message.message(25, &root);
    }
    Ok(())
}

/// Makes the root file system a mount point, in mounts of this process alone:
/// CRIU asks for one, and nothing of it is left whatever happens to us.
///
/// The caller has one thread.
pub(crate) fn mount_root(rootfs: &Path) -> Result<(), RuntimeError> {
    use wharf_sys::namespace::{CLONE_NEWNS, unshare};
    let failed = |errno| RuntimeError::system("criu", format!("mount {}", rootfs.display()), errno);
    unshare(CLONE_NEWNS).map_err(failed)?;
    crate::init::rootfs::isolate_mounts()?;
    rustix::mount::mount_bind_recursive(rootfs, rootfs).map_err(failed)
}
