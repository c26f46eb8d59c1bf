//! Starting a shim.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use wharf_sys::spawn::{Program, Spawn};

use super::call::ShimClient;
use super::error::{CallError, LaunchError};
use super::link::{EventStream, Link};
use crate::identity::{self, CONTROL_FD, DIRECTORY_FD, STDERR};
use crate::plan::{AttachSpec, LaunchPlan};
use crate::protocol::{Call, Fault, FaultKind, Reply};

/// Longest time an earlier shim of the same directory may take to be gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How shims are started.
#[derive(Clone, Debug)]
pub struct ShimLauncher {
    /// The `wharf-shim` executable.
    pub binary: PathBuf,
    /// Longest time a launch may take.
    pub deadline: Duration,
}

/// A shim whose container is created and waits for [`ShimClient::start`].
#[derive(Debug)]
pub struct Launched {
    /// To talk to it.
    pub client: ShimClient,
    /// To hear from it.
    pub events: EventStream,
    /// The container's first process.
    pub pid: u32,
    /// Its start time in clock ticks.
    pub start_ticks: u64,
}

impl ShimLauncher {
    /// A launcher for an executable, with a deadline of 30 seconds.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            deadline: Duration::from_secs(30),
        }
    }

    /// Starts a shim in `dir` (made if absent) for the container `id`, which is created later by
    /// [`Spawned::launch`]: what the container needs can be prepared meanwhile.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left behind then.
    pub async fn spawn(&self, dir: &Path, id: &str) -> Result<Spawned, LaunchError> {
        let failed = |action| {
            move |source| LaunchError::Spawn {
                action,
                dir: dir.to_path_buf(),
                source,
            }
        };
        let (ours, theirs) = StdStream::pair().map_err(failed("make a connection"))?;
        let spawn = Order {
            binary: self.binary.clone(),
            dir: dir.to_path_buf(),
            id: id.to_owned(),
            theirs,
        };
        let spawned = tokio::task::spawn_blocking(move || spawn.carry_out());
        let (link, events) = Link::over(ours, dir).map_err(failed("use the connection"))?;
        let spawned = spawned
            .await
            .map_err(|error| failed("spawn")(io::Error::other(error)))?;
        spawned.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => LaunchError::Create(taken(&error)),
            _ => failed("spawn")(error),
        })?;
        Ok(Spawned {
            dir: dir.to_path_buf(),
            link,
            events,
            deadline: self.deadline,
        })
    }

    /// [`Self::spawn`] and [`Spawned::launch`] in one.
    ///
    /// # Errors
    /// As both.
    pub async fn launch(
        &self,
        dir: &Path,
        plan: &LaunchPlan,
        attaches: Vec<(AttachSpec, OwnedFd)>,
    ) -> Result<Launched, LaunchError> {
        self.spawn(dir, &plan.id).await?.launch(plan, attaches).await
    }
}

/// A shim that waits for its order. Dropped without one, it ends and leaves nothing behind.
#[derive(Debug)]
pub struct Spawned {
    dir: PathBuf,
    link: Arc<Link>,
    events: EventStream,
    deadline: Duration,
}

impl Spawned {
    /// Has the shim create the container and returns with the container's init waiting. The clients
    /// in `attaches` are attached before any byte can flow.
    ///
    /// The descriptors are only used on success, so a caller that wants to tell the client about a
    /// failure keeps a duplicate.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left behind then. After [`LaunchError::Deadline`] the shim may
    /// still come up; [`super::connect`] reaches it, to have it destroy the container.
    pub async fn launch(
        self,
        plan: &LaunchPlan,
        attaches: Vec<(AttachSpec, OwnedFd)>,
    ) -> Result<Launched, LaunchError> {
        let (attaches, fds): (Vec<_>, Vec<_>) = attaches.into_iter().unzip();
        let call = Call::Launch {
            plan: Box::new(plan.clone()),
            attaches,
        };
        match self.link.call(call, &fds, self.deadline).await {
            Ok(Reply::State(state)) => Ok(Launched {
                client: ShimClient::over(self.link),
                events: self.events,
                pid: state.pid,
                start_ticks: state.start_ticks,
            }),
            Ok(_) => Err(LaunchError::Died {
                dir: self.dir,
                detail: "it answered something else".into(),
            }),
            Err(error) => Err(launch_error(&self.dir, error)),
        }
    }
}

fn taken(error: &io::Error) -> Fault {
    Fault {
        kind: FaultKind::Conflict,
        message: error.to_string(),
        ..Fault::default()
    }
}

fn launch_error(dir: &Path, error: CallError) -> LaunchError {
    let dir = dir.to_path_buf();
    match error {
        CallError::Fault(fault) => LaunchError::Create(fault),
        CallError::Deadline { waited_ms, .. } => LaunchError::Deadline { dir, waited_ms },
        CallError::Send { source, .. } => LaunchError::Spawn {
            action: "send the plan",
            dir,
            source,
        },
        _ => {
            let text = std::fs::read(dir.join(STDERR)).unwrap_or_default();
            let last = &text[text.len().saturating_sub(1000)..];
            let detail = String::from_utf8_lossy(last).trim().to_owned();
            LaunchError::Died { dir, detail }
        }
    }
}

/// What a blocking thread does: make the directory, start the program, and see its first process
/// off, which leaves the shim behind as a child of init (or of a subreaper).
struct Order {
    binary: PathBuf,
    dir: PathBuf,
    id: String,
    theirs: StdStream,
}

impl Order {
    fn carry_out(self) -> io::Result<()> {
        let dir = lock_directory(&self.dir)?;
        let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let stderr = rustix::fs::openat(&dir, STDERR, flags, Mode::from_raw_mode(0o600))?;
        let program = protected_program(&self.binary)?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let spawn = Spawn {
            program: Program::Fd(program.as_fd()),
            args: vec![text(b"wharf-shim")?, text(b"keep")?, text(self.id.as_bytes())?],
            env: environment(),
            fds: vec![
                (null.as_fd(), 0),
                (null.as_fd(), 1),
                (stderr.as_fd(), 2),
                (dir.as_fd(), DIRECTORY_FD),
                (self.theirs.as_fd(), CONTROL_FD),
            ],
            directory: None,
            new_session: true,
            cgroup: None,
        };
        let spawned = spawn.spawn()?;
        drop(self.theirs);
        rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Some(spawned.pid), rustix::process::WaitOptions::empty())
        })?;
        Ok(())
    }
}

/// Of the engine's environment a shim gets what developers asked for: a failpoint, and a time line on its standard error.
fn environment() -> Vec<CString> {
    let trace = std::env::var("WHARF_TRACE").ok();
    let trace = trace.and_then(|value| CString::new(format!("WHARF_TRACE={value}")).ok());
    wharf_sys::failpoint::for_child("shim/")
        .into_iter()
        .chain(trace)
        .collect()
}

/// Makes and locks the directory. The lock goes to the shim with the descriptor and lasts as long as its life, so that
/// [`super::is_kept`] sees a shim before it has written anything, and no two shims share a directory.
fn lock_directory(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let dir = open_directory(path)?;
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            // The shim before may have removed it a moment ago.
            Ok(()) if std::fs::metadata(path).is_ok_and(|now| is_same(&dir, now.dev(), now.ino())) => return Ok(dir),
            Ok(()) | Err(Errno::WOULDBLOCK) => {}
            Err(errno) => return Err(errno.into()),
        }
        // One that is ending has no such file any more.
        let keeper = identity::shim_pid(path);
        if keeper.is_some() || Instant::now() > end {
            let keeper = keeper.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let message = format!("{keeper} keeps this container already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_same(dir: &OwnedFd, device: u64, inode: u64) -> bool {
    rustix::fs::fstat(dir).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
}

pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// What tells one build of the executable from another: device, inode, size, time of change.
type Fingerprint = (u64, u64, i64, i64);

/// The executable behind a view that nobody can write through.
///
/// SECURITY: a process of a container can reach the shim's executable through `/proc/<pid>/exe`
/// and could overwrite it on the host (CVE-2019-5736; tested with the runtime). The view is kept
/// until the file is replaced.
fn protected_program(binary: &Path) -> io::Result<Arc<OwnedFd>> {
    static LAST: Mutex<Option<(Fingerprint, Arc<OwnedFd>)>> = Mutex::new(None);
    let file = rustix::fs::open(binary, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let fingerprint = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, program)) = &*last
        && *known == fingerprint
    {
        return Ok(program.clone());
    }
    let program = Arc::new(wharf_sys::process::protect_program(file.as_fd())?);
    *last = Some((fingerprint, program.clone()));
    Ok(program)
}
