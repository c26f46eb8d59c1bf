//! The state directory of each container.

use super::global::Global;
use super::{failed, system, usage};
use crate::spec::Spec;
use crate::{Cgroup, ErrorKind, HostRoot, ResctrlGroup, RuntimeError};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_cgroup::Hierarchy;

/// Name of the socket on which init waits.
const START: &str = "start";

/// Names of what is in the directory of most containers.
const FILES: [&str; 2] = ["state.json", "config.json"];

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    /// Init; 0 while it is being created.
    pub(super) pid: i32,
    /// Start time of init in clock ticks, against reuse of the pid.
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) cgroup: Option<String>,
    pub(super) created: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// Where its root is attached on the host, if it has no mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_root: Option<HostRoot>,
    /// Where it is in resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resctrl: Option<ResctrlGroup>,
}

/// Where a container is in its life (runtime.md#state).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// One container's directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) directory: PathBuf,
}

/// Ids are names of directories and cgroups: letters, digits and `_+-.`.
fn check_id(id: &str) -> Result<(), RuntimeError> {
    let sound = !id.is_empty()
        && id != "."
        && id != ".."
        && id.len() <= 1024
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "_+-.".contains(c));
    if sound {
        Ok(())
    } else {
        Err(usage(format!("invalid container id {id:?}")))
    }
}

impl Entry {
    /// Makes the directory of a new container.
    pub(super) fn create(global: &Global, id: &str) -> Result<Self, RuntimeError> {
        check_id(id)?;
        let directory = global.root.join(id);
        std::fs::create_dir_all(&global.root)
            .map_err(|error| failed(format!("make {}", global.root.display()), &error))?;
        match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(Self { directory }),
            Err(Errno::EXIST) => Err(RuntimeError::new(
                ErrorKind::Conflict,
                "create",
                format!("container with id {id} exists already"),
            )),
            Err(errno) => Err(system(format!("make {}", directory.display()), errno)),
        }
    }

    /// The directory of an existing container.
    pub(super) fn open(global: &Global, id: &str) -> Result<Self, RuntimeError> {
        check_id(id)?;
        let directory = global.root.join(id);
        if directory.is_dir() {
            return Ok(Self { directory });
        }
        Err(RuntimeError::new(
            ErrorKind::NotFound,
            "state",
            format!("container {id:?} does not exist"),
        ))
    }

    /// Waits for other commands that change this container.
    pub(super) fn lock(&self) -> Result<OwnedFd, RuntimeError> {
        let path = self.directory.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| system(format!("open {}", path.display()), errno))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| system(format!("lock {}", path.display()), errno))?;
        Ok(file)
    }

    /// Writes the record in one step.
    pub(super) fn save(&self, record: &Record) -> Result<(), RuntimeError> {
        self.replace("state.json", record)
    }

    /// Keeps the configuration for later commands.
    pub(super) fn save_spec(&self, spec: &Spec) -> Result<(), RuntimeError> {
        self.replace("config.json", spec)
    }

    fn replace(&self, name: &str, value: &impl Serialize) -> Result<(), RuntimeError> {
        let path = self.directory.join(name);
        let fresh = self.directory.join(format!("{name}.new"));
        let bytes = serde_json::to_vec(value).map_err(|error| usage(format!("write {}: {error}", path.display())))?;
        std::fs::write(&fresh, bytes)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| failed(format!("write {}", path.display()), &error))
    }

    /// The record; of a container still being created there may be none.
    pub(super) fn load(&self) -> Result<Record, RuntimeError> {
        self.read("state.json")
    }

    /// The configuration it was created with.
    pub(super) fn load_spec(&self) -> Result<Spec, RuntimeError> {
        self.read("config.json")
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, RuntimeError> {
        let path = self.directory.join(name);
        let bytes = std::fs::read(&path).map_err(|error| failed(format!("read {}", path.display()), &error))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| RuntimeError::new(ErrorKind::System, "state", format!("read {}: {error}", path.display())))
    }

    /// The socket on which init waits.
    pub(super) fn start_socket(&self) -> PathBuf {
        self.directory.join(START)
    }

    /// Forgets the container.
    pub(super) fn remove(&self) -> Result<(), RuntimeError> {
        // What is there by name first: listing the directory is dearer, and mostly finds nothing more.
        for name in FILES {
            let _ = rustix::fs::unlink(self.directory.join(name));
        }
        if rustix::fs::rmdir(&self.directory).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(format!("remove {}", self.directory.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Where the container is in its life.
    pub(super) fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            return Status::Creating;
        }
        if !record.is_alive() {
            return Status::Stopped;
        }
        if rustix::fs::accessat(CWD, self.start_socket(), rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
            return Status::Created;
        }
        match record.open_cgroup() {
            Ok(Some(group)) if group.is_frozen().unwrap_or(false) => Status::Paused,
            _ => Status::Running,
        }
    }
}

impl Record {
    /// Whether init is there and no zombie.
    pub(super) fn is_alive(&self) -> bool {
        matches!(process_facts(self.pid), Some((state, start)) if start == self.start_time && state != b'Z' && state != b'X')
    }

    /// A descriptor of init; none when it is gone.
    pub(super) fn open_pidfd(&self) -> Result<Option<OwnedFd>, RuntimeError> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(system(format!("open process {}", self.pid), errno)),
        };
        // ORDER: asked after opening, so that it is about that very process.
        Ok(self.is_alive().then_some(pidfd))
    }

    /// The container's cgroup, if it has one and it is still there.
    pub(super) fn open_cgroup(&self) -> Result<Option<Cgroup>, RuntimeError> {
        let Some(path) = &self.cgroup else { return Ok(None) };
        let hierarchy = Hierarchy::probe().map_err(|error| crate::cgroups::failed("cgroup", &error))?;
        match Cgroup::open(&hierarchy, path) {
            Ok(group) => Ok(Some(group)),
            Err(error) if error.errno() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
            Err(error) => Err(crate::cgroups::failed("cgroup", &error)),
        }
    }

    /// The group, for a command that needs one.
    pub(super) fn require_cgroup(&self) -> Result<Cgroup, RuntimeError> {
        self.open_cgroup()?.ok_or_else(|| {
            RuntimeError::new(
                ErrorKind::Conflict,
                "cgroup",
                format!("container {} has no cgroup", self.id),
            )
        })
    }
}

/// State letter and start time of a process (proc(5), `stat`).
pub(super) fn process_facts(pid: i32) -> Option<(u8, u64)> {
    let text = wharf_sys::path::read_proc(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name in parentheses may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// All containers below the root, by id.
pub(super) fn list_entries(root: &Path) -> Result<Vec<(Entry, Record)>, RuntimeError> {
    let directory = match std::fs::read_dir(root) {
        Ok(directory) => directory,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(format!("read {}", root.display()), &error)),
    };
    let mut entries = Vec::new();
    for item in directory {
        let item = item.map_err(|error| failed(format!("read {}", root.display()), &error))?;
        let entry = Entry { directory: item.path() };
        // One that is just being made or removed is not listed.
        if let Ok(record) = entry.load() {
            entries.push((entry, record));
        }
    }
    entries.sort_by(|a, b| a.1.id.cmp(&b.1.id));
    Ok(entries)
}
