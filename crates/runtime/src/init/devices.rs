//! /dev: nodes, links, and the console.

use super::classic::{self, MountApi};
use crate::RuntimeError;
use crate::plan::mounts::Attributes;
use crate::spec::Device;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use wharf_sys::mount::{AttrChange, Depth, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, clone_tree, set_attr};
use wharf_sys::path::RootDir;
use wharf_sys::pty::Pty;

/// The nodes every container has (config-linux.md#default-devices).
const DEFAULT_NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

fn failed(what: String) -> impl FnOnce(Errno) -> RuntimeError {
    move |errno| RuntimeError::system("devices", what, errno)
}

/// Makes the default nodes and links in the container's /dev.
pub(crate) fn populate_dev(root: &RootDir) -> Result<(), RuntimeError> {
    let dev = root
        .ensure_dir("/dev", Mode::from_raw_mode(0o755))
        .map_err(failed("make /dev".into()))?;
    for (name, major, minor) in DEFAULT_NODES {
        let node = Node {
            kind: FileType::CharacterDevice,
            major,
            minor,
            mode: 0o666,
            owner: None,
        };
        make_node(
            dev.as_fd(),
            OsStr::new(name),
            &node,
            Path::new("/dev").join(name).as_path(),
        )?;
    }
    for (name, target) in LINKS {
        link(&dev, target, name)?;
    }
    let is_there = rustix::fs::access(c"/proc/kcore", rustix::fs::Access::EXISTS).is_ok();
    // The host's /proc may be out of sight.
    if is_there || root.locate("/proc/kcore").is_ok() {
        link(&dev, "/proc/kcore", "core")?;
    }
    // A node of the image would be the host's terminal multiplexer.
    match unlinkat(&dev, c"ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => link(&dev, "pts/ptmx", "ptmx"),
        Err(errno) => Err(failed("replace /dev/ptmx".into())(errno)),
    }
}

fn link(dev: &OwnedFd, target: &str, name: &str) -> Result<(), RuntimeError> {
    match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed(format!("link /dev/{name}"))(errno)),
    }
}

/// A node to make.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: FileType,
    major: u32,
    minor: u32,
    /// Permissions.
    pub(crate) mode: u32,
    owner: Option<(u32, u32)>,
}

impl Node {
    /// The device, as the kernel counts them.
    pub(crate) fn number(&self) -> u64 {
        match self.kind {
            FileType::Fifo => 0,
            _ => makedev(self.major, self.minor),
        }
    }
}

/// Decides on the nodes that the configuration asks for.
pub(crate) fn plan_nodes(devices: &[Device]) -> Result<Vec<Node>, RuntimeError> {
    devices
        .iter()
        .enumerate()
        .map(|(index, device)| plan_node(index, device))
        .collect()
}

/// Makes the nodes that the configuration asks for, or attaches those that
/// were made outside.
pub(crate) fn make_devices(
    root: &RootDir,
    devices: &[Device],
    nodes: &[Node],
    made: &[Option<OwnedFd>],
) -> Result<(), RuntimeError> {
    for (index, (device, node)) in devices.iter().zip(nodes).enumerate() {
        let path = &device.path;
        // COMPAT: privileged containers list all devices of the host; this
        // one is the container's own, made above.
        if path == Path::new("/dev/ptmx") {
            continue;
        }
        if let Some(parent) = path.parent() {
            root.ensure_dir(parent, Mode::from_raw_mode(0o755))
                .map_err(failed(format!("make {}", parent.display())))?;
        }
        let (parent, name) = root
            .parent_of(path)
            .map_err(failed(format!("open the directory of {}", path.display())))?;
        match made.get(index).and_then(Option::as_ref) {
            Some(made) => {
                cover_node(parent.as_fd(), &name, made).map_err(failed(format!("make {}", path.display())))?
            }
            None => make_node(parent.as_fd(), &name, node, path)?,
        }
    }
    Ok(())
}

/// Finds the first device of the configuration that means nothing.
pub(crate) fn check_devices(devices: &[Device]) -> Result<(), RuntimeError> {
    let mut nodes = devices
        .iter()
        .enumerate()
        .map(|(index, device)| plan_node(index, device));
    nodes.try_for_each(|node| node.map(drop))
}

fn plan_node(index: usize, device: &Device) -> Result<Node, RuntimeError> {
    let field = format!("linux.devices[{index}]");
    let invalid = |part: &str, why: String| RuntimeError::invalid(&field, format!("{field}.{part}: {why}"));
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(invalid("type", format!("unknown value {other:?}"))),
    };
    if !device.path.is_absolute() {
        return Err(invalid("path", format!("{} is not absolute", device.path.display())));
    }
    let number = |part: &str, value: i64| {
        u32::try_from(value).map_err(|_| invalid(part, format!("{value} is no device number")))
    };
    Ok(Node {
        kind,
        major: number("major", device.major)?,
        minor: number("minor", device.minor)?,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        owner: Some((device.uid.unwrap_or(0), device.gid.unwrap_or(0))),
    })
}

fn make_node(parent: BorrowedFd<'_>, name: &OsStr, node: &Node, path: &Path) -> Result<(), RuntimeError> {
    let failed = || failed(format!("make {}", path.display()));
    match mknodat(parent, name, node.kind, Mode::from_raw_mode(node.mode), node.number()) {
        Ok(()) => {}
        Err(Errno::EXIST) => return check_existing(parent, name, node, path),
        // In a user namespace nodes cannot be made: the host's is bound.
        Err(Errno::PERM) => return bind_node(parent, name, path).map_err(failed()),
        Err(errno) => return Err(failed()(errno)),
    }
    match node.owner {
        Some((0, 0)) | None => Ok(()),
        Some((uid, gid)) => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed())
        }
    }
}

/// What is there already must be the same device.
fn check_existing(parent: BorrowedFd<'_>, name: &OsStr, node: &Node, path: &Path) -> Result<(), RuntimeError> {
    let stat =
        statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed(format!("look at {}", path.display())))?;
    let same_kind = FileType::from_raw_mode(stat.st_mode) == node.kind;
    let same_number = node.kind == FileType::Fifo || stat.st_rdev == makedev(node.major, node.minor);
    if same_kind && same_number {
        return Ok(());
    }
    let text = format!("{} exists and is another device or file", path.display());
    Err(RuntimeError::invalid("linux.devices", text))
}

fn bind_node(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), Errno> {
    let host = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    // SECURITY: a node is to be opened, nothing else, whatever lies there.
    let set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    if MountApi::probe() == MountApi::Classic {
        classic::bind(path, &node_target(parent, name)?, Depth::Top)?;
        let made = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        return classic::remount(&made, Attributes { set, clear: 0 });
    }
    let node = clone_tree(rustix::fs::CWD, &host, Depth::Top)?;
    let hardened = AttrChange {
        set: u64::from(set),
        ..AttrChange::default()
    };
    set_attr(&node, Depth::Top, hardened)?;
    cover_node(parent, name, &node)
}

/// Puts a mounted node on a file of that name.
fn cover_node(parent: BorrowedFd<'_>, name: &OsStr, node: &OwnedFd) -> Result<(), Errno> {
    wharf_sys::mount::attach(node, node_target(parent, name)?)
}

/// An empty file, to be covered by a node.
fn node_target(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    match mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o666), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Opens a terminal of the container's own devpts.
pub(crate) fn open_console(root: &RootDir) -> Result<Pty, RuntimeError> {
    const DEVPTS_SUPER_MAGIC: i128 = 0x1cd1;
    let failed = |what: &str| failed(what.to_owned());
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root
        .open_at("/dev/pts/ptmx", flags, Mode::empty())
        .map_err(failed("open /dev/pts/ptmx"))?;
    let stat = rustix::fs::fstatfs(&master).map_err(failed("look at /dev/pts/ptmx"))?;
    // SECURITY: a file of the image in that place is no terminal.
    if i128::from(stat.f_type) != DEVPTS_SUPER_MAGIC {
        return Err(RuntimeError::invalid(
            "process.terminal",
            "process.terminal: /dev/pts is not a devpts mount",
        ));
    }
    wharf_sys::pty::from_master(master).map_err(failed("open the terminal"))
}

/// SECURITY: a link in that place would let the image choose which file the
/// terminal covers, one of /proc among them (CVE-2025-52565).
fn console_target(root: &RootDir) -> Result<OwnedFd, Errno> {
    let dev = root.ensure_dir("/dev", Mode::from_raw_mode(0o755))?;
    match mknodat(&dev, "console", FileType::RegularFile, Mode::from_raw_mode(0o666), 0) {
        Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&dev, "console", flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode) {
        FileType::Symlink => Err(Errno::LOOP),
        FileType::Directory => Err(Errno::ISDIR),
        _ if wharf_sys::path::is_procfs(&target) => Err(Errno::PERM),
        _ => Ok(target),
    }
}

/// Puts the terminal on /dev/console.
pub(crate) fn attach_console(root: &RootDir, pty: &Pty, api: MountApi) -> Result<(), RuntimeError> {
    let failed = || failed("put the terminal on /dev/console".to_owned());
    let target = console_target(root).map_err(failed())?;
    let made = match api {
        MountApi::New => super::attach::cover(pty.slave.as_fd(), target.as_fd(), Depth::Top, 0),
        MountApi::Classic => classic::cover(pty.slave.as_fd(), target.as_fd()),
    };
    made.map_err(failed())
}
