//! A container's file system as the engine opens it, running or stopped, without attaching a mount anywhere.
//!
//! Running: the root of its init process. Stopped: its overlay as a detached mount that ends with its descriptor,
//! so that a killed engine leaves none behind; binds and volumes are then opened at their sources.
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_sys::overlay::{Way, Writable, open_overlay};
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
    // A container that is just ending has no root of its own any more: its files are then looked at as of a stopped one.
    if record.state.is_running()
        && let Ok(root) = live_root(record)
    {
        return Ok(Place {
            root,
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
    match live_root(record) {
        Ok(root) if record.state.is_running() => Ok(root),
        _ => stopped_root(shared, record),
    }
}

/// The mount whose destination is the longest prefix of `path`.
pub(super) fn covering_mount<'a>(record: &'a ContainerRecord, path: &Path) -> Option<&'a MountPoint> {
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
    let failed = |source: Errno| {
        Error::internal(format!("the file system of container {} cannot be mounted", record.id)).with_source(source)
    };
    let places = Places::of(&shared.config, &record.id);
    let (upper, work) = (places.upper(), places.work());
    for dir in [&upper, &work] {
        match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let writable = Writable {
        upper: &upper,
        work: &work,
    };
    let lower = lower_dirs(&shared.config.root, record);
    let fd = open_overlay(&lower, Some(writable), Way::Newest).map_err(failed)?;
    Ok(RootDir::from_fd(fd))
}

/// The layers of an image (top first) as one read-only directory; `None` when there are none.
pub(crate) fn layers(lower: &[PathBuf]) -> Result<Option<OwnedFd>> {
    let failed = |source: Errno| Error::internal("the layers of the image cannot be opened").with_source(source);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match lower {
        [] => return Ok(None),
        [single] => rustix::fs::open(single, flags, Mode::empty()),
        // Without a writable directory an overlay is read-only.
        several => open_overlay(several, None, Way::Newest)
            .and_then(|mount| rustix::fs::openat(&mount, c".", flags, Mode::empty())),
    };
    opened.map(Some).map_err(failed)
}

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
