//! The keeper as a process: start, find, end.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use wharf_sys::handle;

use super::{Home, keeper_error};
use crate::error::NetError;

/// How long a killed keeper may take to be gone.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// How long one wait for the end of a keeper lasts that shall go on.
const WATCH_STEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The socket's path through a descriptor of its directory: paths in socket
/// addresses are limited to 108 bytes.
fn socket_path(directory: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/sock", directory.as_raw_fd()))
}

/// Connects to a running keeper.
pub(super) fn connect(home: &Home) -> io::Result<UnixStream> {
    let directory = File::open(&home.directory)?;
    UnixStream::connect(socket_path(&directory))
}

/// Starts a keeper and connects to it: it is handed the listening socket, so
/// there is nothing to wait for.
pub(super) fn spawn(home: &Home) -> Result<UnixStream, NetError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&home.directory)
        .map_err(keeper_error("making its directory"))?;
    let directory = File::open(&home.directory).map_err(keeper_error("opening its directory"))?;
    let path = socket_path(&directory);
    let listener = UnixListener::bind(&path).map_err(keeper_error("binding its socket"))?;
    // Not the engine's own: whoever reads that would wait for the keeper's end too.
    let log = File::create(home.directory.join("log")).map_err(keeper_error("creating its log"))?;
    let child = Command::new(&home.binary)
        .args(["keeper", "--instance", &home.instance, "--directory"])
        .arg(&home.directory)
        .current_dir("/")
        // A terminal that interrupts the engine must not reach the keeper.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .map_err(keeper_error("starting it"))?;
    // The process is watched by pidfd and reaped there; see `watch`.
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let note = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
    std::fs::write(home.directory.join("pid"), note).map_err(keeper_error("noting its process id"))?;
    UnixStream::connect(&path).map_err(keeper_error("connecting to it"))
}

/// Calls `ended` on a thread of its own when the process is gone.
pub(crate) fn watch(pid: i32, ended: impl FnOnce() + Send + 'static) -> Result<(), NetError> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = Pid::from_raw(pid)
        .ok_or_else(gone)
        .map_err(keeper_error("watching it"))?;
    let process = handle::open(pid).map_err(|errno| keeper_error("watching it")(errno.into()))?;
    let thread = std::thread::Builder::new()
        .name("keeper-watch".to_owned())
        .stack_size(128 << 10);
    let work = move || {
        while matches!(handle::wait_ended(&process, WATCH_STEP), Ok(false)) {}
        // Our own child is reaped; of an adopted one this says ECHILD.
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        ended();
    };
    thread.spawn(work).map(drop).map_err(keeper_error("watching it"))
}

/// Ends the keeper of a home, however it can be found, and removes its directory.
pub(crate) fn remove(home: &Home) -> Result<(), NetError> {
    for pid in find(home) {
        end(pid).map_err(keeper_error("ending it"))?;
    }
    match std::fs::remove_dir_all(&home.directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(keeper_error("removing its directory")(source)),
        _ => Ok(()),
    }
}

fn end(pid: i32) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
    let process = match handle::open(pid) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match handle::send(&process, Signal::KILL.as_raw()) {
        Err(errno) if errno != Errno::SRCH => return Err(errno.into()),
        _ => {}
    }
    if !handle::wait_ended(&process, END_DEADLINE)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // A zombie of ours, unless its watcher was faster.
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
    Ok(())
}

/// Every keeper process of this home: the noted one and, should the note be
/// lost, whatever was started for the same directory.
fn find(home: &Home) -> Vec<i32> {
    let mut found: Vec<i32> = noted(home).into_iter().collect();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return found;
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        if !found.contains(&pid) && is_keeper(pid, home) {
            found.push(pid);
        }
    }
    found
}

fn noted(home: &Home) -> Option<i32> {
    let note = std::fs::read_to_string(home.directory.join("pid")).ok()?;
    let (pid, start) = note.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    // SECURITY: a process id alone may be another program's by now.
    (start_time(pid)?.to_string() == start).then_some(pid)
}

fn is_keeper(pid: i32, home: &Home) -> bool {
    let Ok(line) = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")) else {
        return false;
    };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    use std::os::unix::ffi::OsStrExt;
    let directory = home.directory.as_os_str().as_bytes();
    matches!(words.as_slice(), [_, b"keeper", b"--instance", instance, b"--directory", path, ..]
        if *instance == home.instance.as_bytes() && *path == directory)
}

/// Ticks since boot at which a process started (field 22 of its stat).
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
