//! What callers ask for.

use crate::seccomp::Filter;
use crate::spec::{Process, Spec};
use crate::{CgroupChoice, ResctrlGroup, SubCgroup};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wharf_cgroup::Cgroup;

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// A directory, used as it is.
    Directory(PathBuf),
    /// An overlay, mounted in the container's mount namespace only.
    Overlay {
        /// Read-only layers, topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Scratch space of the overlay, on the file system of `upper`.
        work: PathBuf,
        /// Nobody needs the writable layer once the machine has crashed: fsync(2) does nothing, and the end of the
        /// mount does not write out the whole file system below. The next mount of the same directories needs
        /// `work/incompat/volatile` in `work` removed. KERNEL(5.10): before, an overlay as any other.
        volatile: bool,
    },
}

/// Standard streams of a new process.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// The same; a pseudo terminal, if there is one, is copied to the caller's
    /// own terminal, which is what makes its line ends.
    Foreground,
    /// A pseudo terminal of the container; its master side comes back with
    /// the created process. Implied by `process.terminal`.
    Terminal,
    /// These descriptors.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
}

/// How init learns that it may go on to the program.
#[derive(Debug)]
pub enum Gate {
    /// Through [`crate::Created::start`], in the same process.
    Channel,
    /// Through a connection to this listening socket, from another process.
    Socket(OwnedFd),
    /// It does not wait; [`crate::Created::start`] only reports the outcome.
    Open,
}

/// A container to create.
#[derive(Debug)]
pub struct CreateRequest {
    /// Its id.
    pub id: String,
    /// Directory of the bundle; relative paths of the spec start there.
    pub bundle: PathBuf,
    /// The configuration.
    pub spec: Arc<Spec>,
    /// The root file system; overrides `root.path`.
    pub rootfs: Rootfs,
    /// Docker's `-u` syntax (`name|uid[:group|gid]`), looked up in the
    /// container's own passwd and group; overrides `process.user`.
    pub user: Option<String>,
    /// More supplementary groups, names or ids.
    pub group_add: Vec<String>,
    /// Standard streams.
    pub stdio: Stdio,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// Where compiled system call filters are kept (see [`crate::seccomp::compile_cached`]).
    pub filter_cache: Option<PathBuf>,
    /// How init is released.
    pub gate: Gate,
    /// Who makes the cgroup.
    pub cgroup: CgroupChoice,
    /// Do not join a new session keyring.
    pub no_new_keyring: bool,
    /// Change the root by moving the mount instead of pivot_root (ramdisks).
    pub no_pivot: bool,
    /// A mount namespace of [`crate::bare`] for init to begin in where it needs nothing of the caller's mounts, so
    /// that those are not copied for it.
    pub bare: Option<OwnedFd>,
}

impl CreateRequest {
    /// A request with defaults for everything optional.
    #[must_use]
    pub fn new(id: impl Into<String>, bundle: impl Into<PathBuf>, spec: impl Into<Arc<Spec>>, rootfs: Rootfs) -> Self {
        Self {
            id: id.into(),
            bundle: bundle.into(),
            spec: spec.into(),
            rootfs,
            user: None,
            group_add: Vec::new(),
            stdio: Stdio::Inherit,
            preserve_fds: 0,
            filter_cache: None,
            gate: Gate::Channel,
            cgroup: CgroupChoice::default(),
            no_new_keyring: false,
            no_pivot: false,
            bare: None,
        }
    }
}

/// The container an exec goes into.
#[derive(Debug, Clone, Copy)]
pub struct ExecTarget<'a> {
    /// Its id.
    pub id: &'a str,
    /// Directory of its bundle.
    pub bundle: &'a Path,
    /// Its init.
    pub pid: i32,
    /// Its init, immune to reuse of the number.
    pub pidfd: BorrowedFd<'a>,
    /// Its cgroup, if it has one.
    pub cgroup: Option<&'a Cgroup>,
    /// The unit of systemd that the cgroup is of, if it is one's.
    pub scope: Option<&'a crate::Scope>,
    /// Its class of cache and memory bandwidth, if it has one.
    pub resctrl: Option<&'a ResctrlGroup>,
    /// The configuration it was created with.
    pub spec: &'a Spec,
    /// Where the filter comes from that the configuration describes.
    pub filter: FilterSource<'a>,
}

/// Where the system call filter of a further process comes from.
#[derive(Debug, Clone, Copy)]
pub enum FilterSource<'a> {
    /// The configuration, or where filters are kept that were compiled before: as in [`CreateRequest::filter_cache`].
    Configuration(Option<&'a Path>),
    /// The caller, who compiled the configuration's.
    Compiled(&'a Filter),
}

/// A process to start in a running container.
#[derive(Debug)]
pub struct ExecRequest {
    /// The process; `capabilities: None` means the container's own sets.
    pub process: Process,
    /// As in [`CreateRequest::user`].
    pub user: Option<String>,
    /// More supplementary groups, names or ids.
    pub group_add: Vec<String>,
    /// Standard streams.
    pub stdio: Stdio,
    /// All capabilities and no seccomp filter, as `docker exec --privileged`.
    pub privileged: bool,
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// Groups below the container's own that it goes into.
    pub sub_cgroups: Vec<SubCgroup>,
}
