//! The streams of a process: containerd's fifos, given to the process itself.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_runtime::Stdio;

use crate::task_api::envelope::{Code, Status};

/// Where the streams of a process are, as containerd says it; empty is nowhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) terminal: bool,
}

/// The streams of a process that has no terminal.
#[derive(Debug)]
pub(super) struct Opened {
    /// The process's own ends.
    pub(super) stdio: Stdio,
    /// Keeps standard input open, whoever else has it open, until it is closed by request.
    pub(super) stdin_keeper: Option<OwnedFd>,
}

impl Streams {
    /// Refuses what is neither a fifo nor a file, before anything is made.
    pub(super) fn check(&self) -> Result<(), Status> {
        for uri in [&self.stdin, &self.stdout, &self.stderr] {
            place(uri)?;
        }
        Ok(())
    }

    /// Opens the streams for a process without a terminal.
    pub(super) fn open(&self) -> Result<Opened, Status> {
        let (stdin, stdin_keeper) = open_input(&self.stdin)?;
        let stdio = Stdio::Fds {
            stdin,
            stdout: open_output(&self.stdout)?,
            stderr: open_output(&self.stderr)?,
        };
        Ok(Opened { stdio, stdin_keeper })
    }

    /// Our ends of the streams of a terminal: they are copied.
    pub(super) fn open_for_terminal(&self) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Status> {
        let open_one = |uri: &str| {
            let Some(place) = place(uri)? else { return Ok(None) };
            // Open for both, so that it neither waits for the other side nor sees it come and go.
            open(&place.path, OFlags::RDWR | OFlags::NONBLOCK).map(Some)
        };
        Ok((open_one(&self.stdin)?, open_one(&self.stdout)?))
    }
}

struct Place {
    path: PathBuf,
    is_file: bool,
}

fn place(uri: &str) -> Result<Option<Place>, Status> {
    let unsupported = || {
        let message = format!("stream {uri:?}: only fifos and file:// are supported");
        Err(Status::new(Code::Unimplemented, message))
    };
    let (path, is_file) = match uri.split_once("://") {
        None if uri.is_empty() => return Ok(None),
        None => (uri, false),
        Some(("fifo", path)) => (path, false),
        Some(("file", path)) => (path, true),
        Some(_) => return unsupported(),
    };
    if !Path::new(path).is_absolute() {
        return unsupported();
    }
    Ok(Some(Place {
        path: path.into(),
        is_file,
    }))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Status> {
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
    opened.map_err(|errno| failed(path, errno))
}

fn failed(path: &Path, errno: Errno) -> Status {
    Status::new(Code::Internal, format!("open {}: {errno}", path.display()))
}

/// The process has a fifo open for both: it never gets SIGPIPE because containerd is away.
fn open_output(uri: &str) -> Result<OwnedFd, Status> {
    match place(uri)? {
        None => open(Path::new("/dev/null"), OFlags::WRONLY),
        Some(place) if place.is_file => open(&place.path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE),
        Some(place) => open(&place.path, OFlags::RDWR),
    }
}

/// The reading end, and a writing end that keeps the process from seeing an end before anyone has written.
fn open_input(uri: &str) -> Result<(OwnedFd, Option<OwnedFd>), Status> {
    let Some(place) = place(uri)? else {
        return Ok((open(Path::new("/dev/null"), OFlags::RDONLY)?, None));
    };
    if place.is_file {
        return Ok((open(&place.path, OFlags::RDONLY)?, None));
    }
    // ORDER: opening for reading waits for a writer unless told not to; opening for writing needs the reader.
    let reader = open(&place.path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let keeper = open(&place.path, OFlags::WRONLY | OFlags::NONBLOCK)?;
    let blocking =
        rustix::fs::fcntl_getfl(&reader).and_then(|flags| rustix::fs::fcntl_setfl(&reader, flags - OFlags::NONBLOCK));
    blocking.map_err(|errno| failed(&place.path, errno))?;
    Ok((reader, Some(keeper)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fifos_or_files() {
        let is_good = |uri: &str| place(uri).is_ok();
        assert!(is_good("") && is_good("/run/x") && is_good("file:///x") && is_good("fifo:///x"));
        assert!(!is_good("binary:///usr/bin/logger?id=1") && !is_good("x") && !is_good("file://x"));
    }
}
