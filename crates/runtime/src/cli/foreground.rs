//! Waiting for a process in the foreground: signals are passed on, a terminal
//! is copied to and fro, the exit code is its own.

use super::system;
use crate::RuntimeError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::WaitIdOptions;
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_sys::handle;
use wharf_sys::signal::{self, SignalSet};

const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;

/// Signals are collected from its start on, so that none is lost.
pub(super) struct Watch {
    signals: OwnedFd,
}

impl Watch {
    /// Blocks all signals and collects them.
    pub(super) fn start() -> Result<Self, RuntimeError> {
        let failed = |errno| system("collect signals", errno);
        signal::block(SignalSet::all()).map_err(failed)?;
        Ok(Self {
            signals: signal::open_signalfd(SignalSet::all()).map_err(failed)?,
        })
    }

    /// Waits for the end of our child; returns its exit code, 128 more than
    /// the number of a signal that ended it.
    pub(super) fn wait(&self, child: BorrowedFd<'_>, console: Option<OwnedFd>) -> Result<i32, RuntimeError> {
        let mut terminal = console.map(Terminal::open).transpose()?;
        // KERNEL(5.3): before, the child's end is announced by SIGCHLD alone.
        let is_pollable = handle::is_pollable(child);
        let watched = if is_pollable { PollFlags::IN } else { PollFlags::empty() };
        loop {
            let input = terminal
                .as_ref()
                .filter(|terminal| terminal.input_open)
                .map(|_| rustix::stdio::stdin());
            let mut ready = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::from_borrowed_fd(child, watched),
            ];
            if let Some(terminal) = &terminal {
                ready.push(PollFd::new(&terminal.master, PollFlags::IN));
            }
            if let Some(input) = &input {
                ready.push(PollFd::new(input, PollFlags::IN));
            }
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                other => other.map_err(|errno| system("wait for the container", errno))?,
            };
            let events: Vec<PollFlags> = ready.iter().map(PollFd::revents).collect();
            if !events[0].is_empty() {
                self.pass_signals(child, terminal.as_ref())?;
            }
            if let Some(terminal) = &mut terminal {
                terminal.copy(events.get(2), events.get(3));
            }
            if !events[1].is_empty() || (!is_pollable && handle::has_ended(child)) {
                if let Some(terminal) = &mut terminal {
                    terminal.drain();
                }
                return reap(child);
            }
        }
    }

    fn pass_signals(&self, child: BorrowedFd<'_>, terminal: Option<&Terminal>) -> Result<(), RuntimeError> {
        let failed = |errno| system("pass on a signal", errno);
        while let Some(number) = signal::read_signalfd(&self.signals).map_err(failed)? {
            match (number, terminal) {
                (SIGCHLD | SIGKILL, _) => {}
                (SIGWINCH, Some(terminal)) => terminal.resize(),
                // One that is already gone is seen by its descriptor.
                _ => drop(signal::send(child, number)),
            }
        }
        Ok(())
    }
}

fn reap(child: BorrowedFd<'_>) -> Result<i32, RuntimeError> {
    let status = handle::wait(child, WaitIdOptions::EXITED).map_err(|errno| system("reap the container", errno))?;
    let code = status.and_then(|status| status.exit_status().or(status.terminating_signal().map(|n| 128 + n)));
    Ok(code.unwrap_or(255))
}

/// Our own terminal in raw mode, joined to the container's.
struct Terminal {
    master: OwnedFd,
    saved: Option<Termios>,
    input_open: bool,
}

impl Terminal {
    fn open(master: OwnedFd) -> Result<Self, RuntimeError> {
        let saved = tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            // COMPAT: as runc, line ends are made here and not in the
            // container's terminal, so that a pipe gets bare ones.
            raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)
                .map_err(|errno| system("put the terminal into raw mode", errno))?;
        }
        let terminal = Self {
            master,
            saved,
            input_open: true,
        };
        terminal.resize();
        Ok(terminal)
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = wharf_sys::pty::resize(&self.master, size.ws_row, size.ws_col);
        }
    }

    fn copy(&mut self, output: Option<&PollFlags>, input: Option<&PollFlags>) {
        if output.is_some_and(|events| events.contains(PollFlags::IN)) {
            copy_once(self.master.as_fd(), rustix::stdio::stdout());
        }
        if input.is_some_and(|events| !events.is_empty()) {
            self.input_open = copy_once(rustix::stdio::stdin(), self.master.as_fd());
        }
    }

    /// What the program wrote last is still in the terminal when it is gone.
    fn drain(&mut self) {
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        while poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0)
            && ready[0].revents().contains(PollFlags::IN)
            && copy_once(self.master.as_fd(), rustix::stdio::stdout())
        {}
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
        }
    }
}

/// Copies what is there; false at the end.
fn copy_once(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut bytes = [0u8; 16 * 1024];
    let Ok(length @ 1..) = rustix::io::read(from, &mut bytes) else {
        return false;
    };
    let mut left = &bytes[..length];
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}
