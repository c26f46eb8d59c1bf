//! Where network namespaces are pinned: in a mount namespace of their own.
//!
//! ```text
//! <run>/pins/           a mount of itself, which no bind of what it lies in takes along
//! <run>/pins/namespace  pins the mount namespace, whose root is an empty tmpfs:
//!     /proc             the host's
//!     /ns/<id>          pins a container's network namespace
//! ```
//! Each start of a container copies the host's mount namespace. With the pins in it that took longer
//! with every container that ran; here they are out of sight, and need no process to hold them.
//! Threads go in for a moment to pin and to unpin (ADR 9).

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::CpuSet;
use wharf_sys::namespace::{self, CLONE_NEWNS};

use crate::error::NetError;
use crate::namespace::{file_error, is_pinned, on_own_thread};

/// Where the pins are, seen from inside.
const INSIDE: &str = "/ns";

/// That directory's name.
const NAMES: &str = "ns";

/// The pins of one instance.
#[derive(Debug)]
pub(crate) struct Pins {
    /// `<run>/pins`
    directory: PathBuf,
    /// The mount namespace, once it was found or made.
    place: Mutex<Option<Arc<OwnedFd>>>,
}

/// What a pin's path is inside.
pub(crate) fn path_inside(id: &str) -> PathBuf {
    Path::new(INSIDE).join(id)
}

impl Pins {
    pub(crate) fn new(run: &Path) -> Pins {
        Pins {
            directory: run.join("pins"),
            place: Mutex::new(None),
        }
    }

    /// Runs `work` among the pins, on a thread of its own; they are made if there are none yet.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
        let place = {
            let mut known = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            match self.find(&mut known)? {
                Some(place) => place,
                None => known.insert(Arc::new(self.make()?)).clone(),
            }
        };
        enter(&place, work)
    }

    /// The same where there are pins; none is made.
    pub(crate) fn within_existing<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<Option<T>, NetError> {
        let place = self.find(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner))?;
        place.map(|place| enter(&place, work)).transpose()
    }

    /// What is pinned.
    pub(crate) fn names(&self) -> Result<BTreeSet<String>, NetError> {
        let list = || -> io::Result<BTreeSet<String>> {
            let entries = std::fs::read_dir(INSIDE)?.flatten();
            let pinned = entries.filter(|entry| is_pinned(&entry.path()));
            Ok(pinned
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect())
        };
        let names = self.within_existing(list)?.unwrap_or_else(|| Ok(BTreeSet::new()));
        names.map_err(|source| file_error("listing the pins in", &self.directory, source))
    }

    /// Unpins everything at once.
    pub(crate) fn remove_all(&self) -> Result<(), NetError> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        for mounted in [self.file(), self.directory.clone()] {
            match rustix::mount::unmount(&mounted, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(file_error("unmounting", &mounted, errno)),
            }
        }
        match std::fs::remove_dir_all(&self.directory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(file_error("removing", &self.directory, source))
            }
            _ => Ok(()),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("namespace")
    }

    fn find(&self, known: &mut Option<Arc<OwnedFd>>) -> Result<Option<Arc<OwnedFd>>, NetError> {
        let file = self.file();
        if known.is_none() && is_pinned(&file) {
            // An earlier engine may have left it private only.
            if let Err(error) = set_apart(&self.directory) {
                tracing::warn!(%error, "binds of what {} lies in may take it along", self.directory.display());
            }
            let place = namespace::open(&file).map_err(|errno| file_error("opening", &file, errno))?;
            *known = Some(Arc::new(place));
        }
        Ok(known.clone())
    }

    /// Makes the mount namespace and pins it. An earlier attempt may have been cut short anywhere.
    fn make(&self) -> Result<OwnedFd, NetError> {
        let (directory, file) = (&self.directory, self.file());
        create_apart(directory).map_err(|source| file_error("creating", directory, source))?;
        std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&file)
            .map_err(|source| file_error("creating", &file, source))?;
        let mut refused = Errno::INVAL;
        for processor in std::iter::once(None).chain(processors()) {
            let place = on_own_thread(|| {
                processor.map_or(Ok(()), stay_on)?;
                wharf_sys::bare::leave_host(directory, furnish)
            })?
            .map_err(|errno| file_error("making a mount namespace at", directory, errno))?;
            let source = format!("/proc/self/fd/{}", place.as_raw_fd());
            // ORDER: pinned last, so that a pinned one is complete.
            match rustix::mount::mount_bind(source, &file) {
                Ok(()) => return Ok(place),
                // KERNEL: it can be pinned only where its number is higher than that of the mount namespace we are in,
                // as a younger one's is. Since 6.18 each processor has numbers of its own to give away, so that a younger
                // one may have a lower number; it has not if it is made where ours was.
                Err(Errno::INVAL) => refused = Errno::INVAL,
                Err(errno) => {
                    refused = errno;
                    break;
                }
            }
        }
        Err(file_error("pinning a mount namespace at", &file, refused))
    }
}

/// The processors that this thread may run on.
fn processors() -> impl Iterator<Item = Option<usize>> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU)
        .filter(move |processor| allowed.is_set(*processor))
        .map(Some)
}

/// Keeps the calling thread on one processor.
fn stay_on(processor: usize) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    rustix::thread::sched_setaffinity(None, &set)
}

fn enter<T: Send>(place: &OwnedFd, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    on_own_thread(|| {
        let entered = namespace::unshare_directory().and_then(|()| namespace::enter(place, CLONE_NEWNS));
        entered.map_err(|errno| NetError::Namespace {
            action: "entering the mount namespace of the pins",
            source: errno.into(),
        })?;
        Ok(work())
    })?
}

/// A directory that is a mount set apart.
fn create_apart(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    match set_apart(directory) {
        // It is no mount yet.
        Err(Errno::INVAL) => {
            rustix::mount::mount_bind(directory, directory)?;
            set_apart(directory)?;
        }
        done => done?,
    }
    Ok(())
}

/// KERNEL: a mount namespace is not pinned where the mount could travel on to another one, so that it must not be
/// shared. And a container may bind the folder that this lies in, `/` for one, with all below it: it would be refused
/// (ELOOP) what pins an older mount namespace than its own.
fn set_apart(directory: &Path) -> rustix::io::Result<()> {
    rustix::mount::mount_change(directory, MountPropagationFlags::UNBINDABLE)
}

/// What there is beside the pins: threads that make them name descriptors through /proc.
fn furnish(root: &Path) -> rustix::io::Result<()> {
    for name in ["proc", NAMES] {
        rustix::fs::mkdir(root.join(name), rustix::fs::Mode::RWXU)?;
    }
    // Recursively: in a user namespace what covers parts of /proc cannot be left behind.
    rustix::mount::mount_bind_recursive("/proc", root.join("proc"))
}
