//! A container's file system as the engine opens it, running or stopped, without attaching a mount anywhere.
//!
//! Running: the root of its init process. Stopped: its overlay as a detached mount that ends with its descriptor,
//! so that a killed engine leaves none behind; binds and volumes are then opened at their sources.
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_sys::mount::{Parameter, new_filesystem};
use wharf_sys::path::RootDir;

use super::paths::{Places, lower_dirs};
use crate::Shared;
use crate::error::{Error, Result};
use crate::model::{ContainerRecord, MountPoint};

/// Where a path of a container is, for one operation.
#[derive(Debug)]
pub(crate) struct Place {
    /// The root that resolves it.
    pub(crate) root: RootDir,
    /// The path below that root.
    pub(crate) path: PathBuf,
    /// Whether a process in the container could write there.
    pub(crate) writable: bool,
    /// Whether a mount of its own covers it (then a read-only root does not matter).
    pub(crate) in_mount: bool,
}

/// Opens what `path`, absolute and clean, leads to.
pub(crate) fn place(shared: &Shared, record: &ContainerRecord, path: &Path) -> Result<Place> {
    let cover = covering_mount(record, path);
    let writable = cover.map_or(!record.host.readonly_rootfs, |m| m.rw);
    let in_mount = cover.is_some();
    if record.state.is_running() {
        return Ok(Place {
            root: live_root(record)?,
            path: path.to_owned(),
            writable,
            in_mount,
        });
    }
    let (root, path) = match cover.filter(|m| !m.source.is_empty()) {
        Some(mount) => mount_root(mount, path)?,
        None => (stopped_root(shared, record)?, path.to_owned()),
    };
    Ok(Place {
        root,
        path,
        writable,
        in_mount,
    })
}

/// Opens the whole file system.
pub(crate) fn whole(shared: &Shared, record: &ContainerRecord) -> Result<RootDir> {
    if record.state.is_running() {
        live_root(record)
    } else {
        stopped_root(shared, record)
    }
}

/// The mount whose destination is the longest prefix of `path`.
fn covering_mount<'a>(record: &'a ContainerRecord, path: &Path) -> Option<&'a MountPoint> {
    let covers = record.mounts.iter().filter(|m| path.starts_with(&m.destination));
    covers.max_by_key(|m| Path::new(&m.destination).components().count())
}

/// The source of a mount as a root, and the rest of the path below it. A source may be a file.
fn mount_root(mount: &MountPoint, path: &Path) -> Result<(RootDir, PathBuf)> {
    let failed = |source: Errno| {
        Error::internal(format!(
            "the source {} of the mount {} cannot be opened",
            mount.source, mount.destination
        ))
        .with_source(source)
    };
    let rest = path.strip_prefix(&mount.destination).unwrap_or(Path::new(""));
    let source = Path::new(&mount.source);
    match RootDir::open(source) {
        Ok(root) => Ok((root, Path::new("/").join(rest))),
        Err(Errno::NOTDIR) => {
            let parent = source.parent().unwrap_or(Path::new("/"));
            let name = source.file_name().unwrap_or_default();
            Ok((
                RootDir::open(parent).map_err(failed)?,
                Path::new("/").join(name).join(rest),
            ))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The root directory of the running init.
///
/// SECURITY: the process id may have been reused; only a process in the container's own cgroup is believed.
fn live_root(record: &ContainerRecord) -> Result<RootDir> {
    let gone = || Error::conflict(format!("container {} is not running", record.id));
    let process = PathBuf::from(format!("/proc/{}", record.state.pid));
    let root = RootDir::open(&process.join("root")).map_err(|e| gone().with_source(e))?;
    let groups = std::fs::read_to_string(process.join("cgroup")).map_err(|e| gone().with_source(e))?;
    if groups.contains(record.id.as_str()) {
        Ok(root)
    } else {
        Err(gone())
    }
}

/// The overlay of a container that does not run.
fn stopped_root(shared: &Shared, record: &ContainerRecord) -> Result<RootDir> {
    let places = Places::of(&shared.config, &record.id);
    let overlay = Overlay {
        lower: lower_dirs(&shared.config.root, record),
        upper: places.upper(),
        work: places.work(),
    };
    let fd = overlay.open().map_err(|source| {
        Error::internal(format!("the file system of container {} cannot be mounted", record.id)).with_source(source)
    })?;
    Ok(RootDir::from_fd(fd))
}

/// The layers of an image (top first) as one read-only directory; `None` when there are none.
pub(crate) fn layers(lower: &[PathBuf]) -> Result<Option<OwnedFd>> {
    let failed = |source: Errno| Error::internal("the layers of the image cannot be opened").with_source(source);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match lower {
        [] => Ok(None),
        [single] => rustix::fs::open(single, flags, Mode::empty()).map(Some).map_err(failed),
        several => {
            let text = |path: &PathBuf| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
            let paths = several
                .iter()
                .map(text)
                .collect::<Result<Vec<_>, _>>()
                .map_err(failed)?;
            let parameters: Vec<_> = paths.iter().map(|p| Parameter::Text("lowerdir+", p)).collect();
            let mount = new_filesystem("overlay", &parameters, MOUNT_ATTR_RDONLY).map_err(failed)?;
            rustix::fs::openat(&mount, c".", flags, Mode::empty())
                .map(Some)
                .map_err(failed)
        }
    }
}

/// As mount_setattr(2) has it.
const MOUNT_ATTR_RDONLY: u32 = 0x1;

/// The directories of an overlay, lowers top first.
struct Overlay {
    lower: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
}

impl Overlay {
    /// A detached mount. KERNEL(6.5): one `lowerdir+` per layer; before, the classic call in a namespace of its own.
    fn open(&self) -> Result<OwnedFd, Errno> {
        for dir in [&self.upper, &self.work] {
            match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        match self.open_new() {
            Err(Errno::NOSYS | Errno::INVAL) => self.open_classic(),
            other => other,
        }
    }

    fn open_new(&self) -> Result<OwnedFd, Errno> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
        let lowers = self.lower.iter().map(|p| text(p)).collect::<Result<Vec<_>, _>>()?;
        let (upper, work) = (text(&self.upper)?, text(&self.work)?);
        let mut parameters: Vec<Parameter<'_>> = lowers.iter().map(|l| Parameter::Text("lowerdir+", l)).collect();
        parameters.push(Parameter::Text("upperdir", &upper));
        parameters.push(Parameter::Text("workdir", &work));
        new_filesystem("overlay", &parameters, 0)
    }

    /// Mounts in the private mount namespace of a thread that ends at once: the descriptor keeps the mount alive.
    fn open_classic(&self) -> Result<OwnedFd, Errno> {
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name("overlay".into());
            let handle = worker
                .spawn_scoped(scope, || self.mount_privately())
                .map_err(|_| Errno::AGAIN)?;
            handle.join().unwrap_or(Err(Errno::IO))
        })
    }

    fn mount_privately(&self) -> Result<OwnedFd, Errno> {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        use wharf_sys::namespace::unshare;
        unshare(CLONE_NEWNS)?; // the working directory becomes the thread's own too
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        // The options of the classic call fit one page: names relative to the layers' directory are short.
        let layers = self
            .lower
            .first()
            .and_then(|l| l.parent())
            .and_then(Path::parent)
            .unwrap_or(Path::new("/"));
        rustix::process::chdir(layers)?;
        let relative = |p: &PathBuf| p.strip_prefix(layers).unwrap_or(p).as_os_str().as_bytes().to_vec();
        let mut options = b"lowerdir=".to_vec();
        options.extend(self.lower.iter().map(relative).collect::<Vec<_>>().join(&b':'));
        for (key, path) in [(&b",upperdir="[..], &self.upper), (&b",workdir="[..], &self.work)] {
            options.extend_from_slice(key);
            options.extend_from_slice(path.as_os_str().as_bytes());
        }
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        let target = self.upper.parent().unwrap_or(Path::new("/"));
        mount(
            "overlay",
            target,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )?;
        rustix::fs::open(
            target,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }
}

/// As clone(2) has it.
const CLONE_NEWNS: u32 = 0x0002_0000;

/// What follows the last name of a path that a client gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing: a link is meant itself.
    Plain,
    /// A slash: what a link leads to.
    Slash,
    /// `/.`: the contents of a directory.
    Dot,
}

/// A client's path as an absolute one without `.`, `..` and double slashes, and how it ended.
///
/// COMPAT: `..` is taken away as text, above the root too, as Docker does before it looks at links.
pub(crate) fn clean(path: &Path) -> Result<(PathBuf, Ending)> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Error::invalid("missing parameter: path cannot be empty"));
    }
    let ending = match bytes {
        [b'.'] | [.., b'/', b'.'] => Ending::Dot,
        [.., b'/'] => Ending::Slash,
        _ => Ending::Plain,
    };
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok((clean, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_their_ending_kept() {
        let table = [
            ("/d/f", "/d/f", Ending::Plain),
            ("d/f", "/d/f", Ending::Plain),
            ("/d/", "/d", Ending::Slash),
            ("/d/.", "/d", Ending::Dot),
            (".", "/", Ending::Dot),
            ("/", "/", Ending::Slash),
            ("/../../d", "/d", Ending::Plain),
            ("/etc/../d//f", "/d/f", Ending::Plain),
        ];
        for (given, expected, ending) in table {
            assert_eq!(
                clean(Path::new(given)).expect("a path"),
                (PathBuf::from(expected), ending),
                "{given}"
            );
        }
        assert!(clean(Path::new("")).is_err());
    }
}
