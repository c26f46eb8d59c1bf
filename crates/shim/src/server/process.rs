//! A process of the container, its streams and its end.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::log::Stream;
use crate::plan::{ConsoleSize, StdioPlan};
use crate::protocol::ExitRecord;

/// Typed bytes kept for a process that does not read them; above this clients wait.
const TYPED_AHEAD: usize = 64 << 10;

/// A process and our ends of its streams.
#[derive(Debug)]
pub(super) struct Process {
    /// Exec id; `None` for the container's first process.
    pub(super) exec: Option<String>,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) start_ticks: u64,
    pub(super) started_at_ns: i64,
    pub(super) plan: StdioPlan,
    /// Standard output and standard error, or the terminal alone.
    pub(super) outputs: [Option<Output>; 2],
    pub(super) input: Input,
    /// Kept open to the end: closing it would hang up the process.
    pub(super) terminal: Option<OwnedFd>,
    /// What the engine wants to be told of it later.
    pub(super) note: Option<serde_json::Value>,
    pub(super) exit: Option<ExitRecord>,
    /// The engine has taken the exit (or nobody is there to take it).
    pub(super) is_released: bool,
    /// The engine said so itself: nothing more needs to be remembered.
    pub(super) is_acknowledged: bool,
    /// Outputs are not read, because a client is too slow.
    pub(super) is_held_up: bool,
}

/// One output of a process.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) fd: OwnedFd,
    pub(super) stream: Stream,
}

/// The input of a process; absent when it reads `/dev/null` or was closed.
#[derive(Debug, Default)]
pub(super) struct Input {
    fd: Option<OwnedFd>,
    typed: Vec<u8>,
    is_closing: bool,
    pub(super) is_waiting: bool,
}

impl Input {
    pub(super) fn new(fd: Option<OwnedFd>) -> Self {
        Self { fd, ..Self::default() }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// Whether clients may send more.
    pub(super) fn has_room(&self) -> bool {
        self.fd.is_some() && !self.is_closing && self.typed.len() < TYPED_AHEAD
    }

    /// Whether something waits to be written.
    pub(super) fn is_pending(&self) -> bool {
        self.fd.is_some() && !self.typed.is_empty()
    }

    /// Takes bytes for the process; without an open input they are lost, as with a closed pipe.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.fd.is_some() && !self.is_closing {
            self.typed.extend_from_slice(bytes);
        }
    }

    /// No more input comes; what is there is still written.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Writes what goes. The descriptor comes back when it is to be closed.
    pub(super) fn flush(&mut self) -> Option<OwnedFd> {
        while let Some(fd) = &self.fd
            && !self.typed.is_empty()
        {
            match rustix::io::write(fd, &self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // Nobody reads any more.
                Err(_) => {
                    self.typed = Vec::new();
                    return self.fd.take();
                }
            }
        }
        self.typed.shrink_to(4096);
        if self.is_closing { self.fd.take() } else { None }
    }
}

impl Process {
    /// Whether every output has ended.
    pub(super) fn is_silent(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    pub(super) fn is_container(&self) -> bool {
        self.exec.is_none()
    }

    /// Sets the size of the terminal.
    pub(super) fn resize(&self, size: ConsoleSize) -> Result<(), Errno> {
        match &self.terminal {
            None => Err(Errno::NOTTY),
            Some(terminal) => wharf_sys::pty::resize(terminal, size.rows, size.cols),
        }
    }
}

/// Start time of a process in clock ticks since boot, from its stat file; 0 if it is gone.
pub(super) fn start_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    crate::identity::parse_start_ticks(&stat).unwrap_or(0)
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
