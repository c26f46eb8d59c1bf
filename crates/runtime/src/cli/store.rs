//! The state directory of each container.

use super::global::Global;
use super::{failed, system, usage};
use crate::spec::Spec;
use crate::{Cgroup, ErrorKind, HostRoot, ResctrlGroup, RuntimeError, Scope};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wharf_cgroup::Hierarchy;

/// Name of the socket on which init waits.
const START: &str = "start";
/// Name of the file that is locked, with what its creator wrote down at first.
const LOCK: &str = "lock";

/// Names of what is in the directory of most containers, but for the lock.
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
    /// The unit of systemd that holds the cgroup.
    #[serde(default)]
    pub(super) scope: Option<Scope>,
    /// Where it is in resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resctrl: Option<ResctrlGroup>,
    /// Its creator is still at it, or was killed.
    #[serde(skip)]
    pub(super) is_unfinished: bool,
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
///
/// Its lock is made by its creator alone, and goes last with the directory: who holds it knows that nobody else
/// changes or forgets the container. A directory without a lock is one whose creator has just begun, or what a killed
/// command left of a container that is gone.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) directory: PathBuf,
}

/// Ids are names of directories and cgroups: letters, digits and `_+-.`, not
/// beginning with a dot.
fn check_id(id: &str) -> Result<(), RuntimeError> {
    if id.is_empty() || id.len() > 1024 || id.starts_with('.') {
        return Err(usage(format!("invalid container ID {id:?}")));
    }
    match id.chars().find(|c| !c.is_ascii_alphanumeric() && !"_+-.".contains(*c)) {
        Some(c) => Err(usage(format!("invalid character {c:?} in container ID {id:?}"))),
        None => Ok(()),
    }
}

impl Entry {
    /// Makes the directory of a new container and locks it for its creator.
    pub(super) fn create(global: &Global, id: &str) -> Result<(Self, OwnedFd), RuntimeError> {
        check_id(id)?;
        let directory = global.root.join(id);
        std::fs::create_dir_all(&global.root)
            .map_err(|error| failed(format!("make {}", global.root.display()), &error))?;
        crate::privileges::keep_directory(&global.root);
        match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                let entry = Self { directory };
                // A delete may be faster: then there is nothing to create it in.
                let lock = entry.take(entry.open_lock(OFlags::CREATE | OFlags::EXCL)?)?;
                Ok((entry, lock))
            }
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
        let entry = Self { directory };
        if entry.directory.is_dir() {
            return Ok(entry);
        }
        Err(entry.gone())
    }

    /// It does not exist, or was deleted meanwhile.
    fn gone(&self) -> RuntimeError {
        let id = self.directory.file_name().unwrap_or_default().to_string_lossy();
        let text = format!("container {id:?} does not exist");
        RuntimeError::new(ErrorKind::NotFound, "state", text)
    }

    /// Waits for other commands that change this container.
    pub(super) fn lock(&self) -> Result<OwnedFd, RuntimeError> {
        self.take(self.open_lock(OFlags::empty())?)
    }

    fn take(&self, file: OwnedFd) -> Result<OwnedFd, RuntimeError> {
        retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| system(format!("lock {}", self.directory.display()), errno))?;
        self.own(file)
    }

    /// As [`Entry::lock`], but none when another command still holds it after `patience`.
    pub(super) fn lock_within(&self, patience: Duration) -> Result<Option<OwnedFd>, RuntimeError> {
        const PAUSE: Duration = Duration::from_millis(10);
        let file = self.open_lock(OFlags::empty())?;
        let end = Instant::now() + patience;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return self.own(file).map(Some),
                Err(Errno::WOULDBLOCK) if Instant::now() >= end => return Ok(None),
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(PAUSE),
                Err(errno) => return Err(system(format!("lock {}", self.directory.display()), errno)),
            }
        }
    }

    fn open_lock(&self, more: OFlags) -> Result<OwnedFd, RuntimeError> {
        let path = self.directory.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | more;
        match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::NOENT) => Err(self.gone()),
            other => other.map_err(|errno| system(format!("open {}", path.display()), errno)),
        }
    }

    /// Lets other commands change the container.
    pub(super) fn unlock(lock: &OwnedFd) -> Result<(), RuntimeError> {
        rustix::fs::flock(lock, FlockOperation::Unlock).map_err(|errno| system("unlock the container", errno))
    }

    /// Forgets the container unless `lock`, once held by its creator, shows
    /// that another command did, after which the id may be another's.
    pub(super) fn remove_own(&self, lock: &OwnedFd) {
        let locked = retry_on_intr(|| rustix::fs::flock(lock, FlockOperation::LockExclusive));
        if locked.is_ok() && rustix::fs::fstat(lock).is_ok_and(|stat| stat.st_nlink > 0) {
            let _ = self.remove();
        }
    }

    /// ORDER: asked when it is locked: whoever held it before may have deleted the container.
    fn own(&self, lock: OwnedFd) -> Result<OwnedFd, RuntimeError> {
        match rustix::fs::fstat(&lock) {
            Ok(stat) if stat.st_nlink > 0 => Ok(lock),
            Ok(_) => Err(self.gone()),
            Err(errno) => Err(system(format!("look at {}", self.directory.display()), errno)),
        }
    }

    /// Writes the record of a container that is only being made into its
    /// locked file: before anything is made in the kernel, so that `delete
    /// --force` finds it whenever its creator is killed.
    pub(super) fn announce(lock: &OwnedFd, record: &Record) -> Result<(), RuntimeError> {
        let mut text = serde_json::to_vec(record).map_err(|error| usage(format!("write the record: {error}")))?;
        text.push(b'\n');
        append(lock, &text)
    }

    /// Adds who init is, as soon as it exists.
    pub(super) fn announce_init(lock: &OwnedFd, record: &Record) -> Result<(), RuntimeError> {
        append(lock, format!("{} {}\n", record.pid, record.start_time).as_bytes())
    }

    /// What was announced; none when its creator came not even to that.
    fn load_announced(&self) -> Option<Record> {
        let text = std::fs::read_to_string(self.directory.join(LOCK)).ok()?;
        let (record, rest) = text.split_once('\n')?;
        let mut record: Record = serde_json::from_str(record).ok()?;
        let init = rest.strip_suffix('\n').and_then(|line| line.split_once(' '));
        if let Some((Ok(pid), Ok(start_time))) = init.map(|(pid, start)| (pid.parse(), start.parse())) {
            (record.pid, record.start_time) = (pid, start_time);
        }
        record.is_unfinished = true;
        Some(record)
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

    /// The record.
    pub(super) fn load(&self) -> Result<Record, RuntimeError> {
        match self.read("state.json") {
            Err(error) if error.errno == Some(Errno::NOENT.raw_os_error()) => self.load_announced().ok_or(error),
            other => other,
        }
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

    /// Forgets the container. The caller holds the lock.
    ///
    /// ORDER: the lock goes last. As long as it is there nobody else changes anything; once it is gone nobody makes
    /// another one here.
    pub(super) fn remove(&self) -> Result<(), RuntimeError> {
        // What is there by name first: listing the directory is dearer, and mostly finds nothing more.
        for name in FILES {
            let _ = rustix::fs::unlink(self.directory.join(name));
        }
        let _ = rustix::fs::unlink(self.start_socket());
        let _ = rustix::fs::unlink(self.directory.join(LOCK));
        match rustix::fs::rmdir(&self.directory) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(_) => self.remove_remains(),
        }
    }

    /// Removes what is left in a directory that has no lock any more. One that has a lock is somebody's and is left.
    ///
    /// ORDER: by a descriptor: under the same name another container may begin meanwhile. A directory that its
    /// creator has just made is empty, and may go: it will find that it is gone.
    pub(super) fn remove_remains(&self) -> Result<(), RuntimeError> {
        let removal = |errno| system(format!("remove {}", self.directory.display()), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(&self.directory, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(removal)?,
        };
        if rustix::fs::accessat(&directory, LOCK, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
            return Ok(());
        }
        let names = rustix::fs::Dir::read_from(&directory).map_err(removal)?;
        for item in names.flatten() {
            let name = item.file_name();
            if name != c"." && name != c".." {
                match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(removal(errno)),
                }
            }
        }
        match rustix::fs::rmdir(&self.directory) {
            // Begun anew by another, or gone.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(errno) => Err(removal(errno)),
        }
    }

    /// Where the container is in its life.
    pub(super) fn status(&self, record: &Record) -> Status {
        if record.is_unfinished {
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
        let pidfd = match wharf_sys::handle::open(pid) {
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

fn append(file: &OwnedFd, text: &[u8]) -> Result<(), RuntimeError> {
    retry_on_intr(|| rustix::io::write(file, text))
        .map(drop)
        .map_err(|errno| system("write down what is being made", errno))
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
