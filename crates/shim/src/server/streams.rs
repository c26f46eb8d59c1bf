//! From processes to the log and the clients, and from clients to processes.

use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::io::Errno;

use super::process::{Process, now_ns};
use super::reactor::{Interest, Token};
use super::shim::{FIRST, Shim, Timer};
use crate::log::Stream;

/// How much is read from an output at once.
const CHUNK: usize = 32 << 10;

/// Reads in a row before others have their turn.
const TURNS: usize = 8;

/// How long the outputs of an ended exec are waited for: a process it left behind may hold them.
const SILENCE: Duration = Duration::from_secs(2);

/// What a read from an output brought.
enum Read {
    Bytes(usize),
    Nothing,
    End,
}

impl Shim {
    /// Waits for a process's outputs and input.
    pub(super) fn watch_process(&mut self, number: u32, process: Process) -> Result<(), Errno> {
        for (index, output) in (0u8..).zip(&process.outputs) {
            if let Some(output) = output {
                self.reactor
                    .add(&output.fd, Token::Output(number, index), Interest::READ)?;
            }
        }
        if let Some(fd) = process.input.fd() {
            self.reactor.add(fd, Token::Input(number), Interest::default())?;
        }
        self.processes.insert(number, process);
        Ok(())
    }

    pub(super) fn on_output(&mut self, number: u32, index: usize) {
        let has_more = (0..TURNS).all(|_| !self.is_held_up(number) && self.pump(number, index));
        // What has no log takes little more of the processor than its reader does.
        if has_more && number == FIRST && self.logs.are_kept() {
            self.pace.keep();
        }
        self.settle(number);
    }

    fn is_held_up(&self, number: u32) -> bool {
        self.processes.get(&number).is_none_or(|process| process.is_held_up)
    }

    /// Moves one chunk of an output on; false when there is no more for now.
    fn pump(&mut self, number: u32, index: usize) -> bool {
        let process = self.processes.get(&number);
        let Some(output) = process.and_then(|process| process.outputs[index].as_ref()) else {
            return false;
        };
        let stream = output.stream;
        self.chunk.resize(CHUNK, 0);
        match read_output(output.fd.as_fd(), &mut self.chunk) {
            Read::Nothing => false,
            Read::End => {
                self.close_output(number, index);
                false
            }
            Read::Bytes(length) => {
                let chunk = std::mem::take(&mut self.chunk);
                self.deliver(number, stream, &chunk[..length]);
                self.chunk = chunk;
                true
            }
        }
    }

    fn close_output(&mut self, number: u32, index: usize) {
        let Some(process) = self.processes.get_mut(&number) else {
            return;
        };
        if let Some(output) = process.outputs[index].take() {
            self.reactor.remove(&output.fd);
        }
    }

    /// The log first, then every client.
    fn deliver(&mut self, number: u32, stream: Stream, bytes: &[u8]) {
        let mut is_slow = false;
        if number == FIRST {
            self.logs.append(stream, bytes, now_ns());
            is_slow = self.logs.hold_up(false);
        }
        for client in self.clients.values_mut().filter(|client| client.process == number) {
            client.push(stream, bytes);
            is_slow |= client.holds_up(false);
        }
        if is_slow {
            self.hold_up(number, true);
        }
    }

    /// Stops reading a process's outputs, or goes on.
    pub(super) fn hold_up(&mut self, number: u32, hold: bool) {
        let Some(process) = self.processes.get_mut(&number) else {
            return;
        };
        if process.is_held_up == hold {
            return;
        }
        process.is_held_up = hold;
        let interest = if hold { Interest::default() } else { Interest::READ };
        for (index, output) in (0u8..).zip(&process.outputs) {
            if let Some(output) = output {
                // Only an invalid descriptor could fail, and it is open.
                let _ = self.reactor.change(&output.fd, Token::Output(number, index), interest);
            }
        }
    }

    /// Everything that is in the outputs of a process that has ended.
    pub(super) fn drain(&mut self, number: u32) {
        for index in 0..2 {
            while self.pump(number, index) {}
        }
    }

    pub(super) fn on_input(&mut self, number: u32) {
        self.flush_input(number);
    }

    /// Gives typed bytes to a process.
    pub(super) fn feed(&mut self, number: u32, bytes: &[u8]) {
        if let Some(process) = self.processes.get_mut(&number) {
            process.input.push(bytes);
            self.flush_input(number);
        }
    }

    /// No more input comes for a process. A terminal has no end of its own, so it stays open.
    pub(super) fn close_input(&mut self, number: u32) {
        if let Some(process) = self.processes.get_mut(&number).filter(|process| !process.plan.terminal) {
            process.input.close();
            self.flush_input(number);
        }
    }

    fn flush_input(&mut self, number: u32) {
        if let Some(closed) = self
            .processes
            .get_mut(&number)
            .and_then(|process| process.input.flush())
        {
            self.reactor.remove(&closed);
            drop(closed);
            self.tell_closed_input(number);
        }
    }

    /// Another's shim holds the input open, too.
    fn tell_closed_input(&mut self, number: u32) {
        let exec = self.processes.get(&number).and_then(|process| process.exec.clone());
        if let Some(shim) = self.container.shim() {
            shim.close_input(exec.as_deref());
        }
    }

    /// Waits for room in exactly those inputs that have something pending. Without that, a reader
    /// that has gone is only noticed at the next write.
    pub(super) fn tidy_inputs(&mut self) {
        for (number, process) in &mut self.processes {
            let wanted = process.input.is_pending();
            if process.input.is_waiting != wanted
                && let Some(fd) = process.input.fd()
            {
                let interest = Interest {
                    read: false,
                    write: wanted,
                };
                if self.reactor.change(fd, Token::Input(*number), interest).is_ok() {
                    process.input.is_waiting = wanted;
                }
            }
        }
    }

    /// After the end of an exec: waits for its outputs to end, but not for ever.
    pub(super) fn await_silence(&mut self, number: u32) {
        self.after(SILENCE, Timer::Silence(number));
    }

    /// Gives up on outputs that others hold open.
    pub(super) fn silence(&mut self, number: u32) {
        for index in 0..2 {
            self.close_output(number, index);
        }
        self.settle(number);
    }

    /// Drops every stream of a process.
    pub(super) fn close_streams(&mut self, number: u32) {
        for index in 0..2 {
            self.close_output(number, index);
        }
        if let Some(process) = self.processes.get_mut(&number) {
            if let Some(fd) = process.input.fd() {
                self.reactor.remove(fd);
            }
            process.input = Default::default();
            process.terminal = None;
        }
    }
}

/// A terminal whose other side nobody has open reports an input/output error: the end, as far as
/// reading goes.
fn read_output(fd: std::os::fd::BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer)) {
        Ok(0) | Err(Errno::IO) => Read::End,
        Ok(length) => Read::Bytes(length),
        Err(Errno::AGAIN) => Read::Nothing,
        Err(_) => Read::End,
    }
}
