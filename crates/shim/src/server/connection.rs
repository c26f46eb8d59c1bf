//! One connection of an engine.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde::Serialize;

use super::reactor::Interest;
use crate::wire::{self, Assembler, WireError};

/// An engine that does not read its answers is cut off above this.
const MOST_OWED: usize = 4 << 20;

/// A message and the descriptors that have arrived so far.
#[derive(Debug)]
pub(super) struct Connection {
    fd: OwnedFd,
    assembler: Assembler,
    fds: VecDeque<OwnedFd>,
    owed: Vec<u8>,
    pub(super) is_gone: bool,
    pub(super) interest: Interest,
}

impl Connection {
    /// Takes over a connected socket.
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self {
            fd,
            assembler: Assembler::default(),
            fds: VecDeque::new(),
            owed: Vec::new(),
            is_gone: false,
            interest: Interest::READ,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Receives what is there. The connection may be gone afterwards, with whole messages left.
    pub(super) fn receive(&mut self) {
        let mut buffer = [0u8; 16 << 10];
        match wharf_sys::fdpass::receive(&self.fd, &mut buffer) {
            Ok((0, _)) => self.is_gone = true,
            Ok((length, fds)) => {
                self.assembler.push(&buffer[..length]);
                self.fds.extend(fds);
            }
            Err(Errno::AGAIN) => {}
            Err(_) => self.is_gone = true,
        }
    }

    /// The next whole message.
    pub(super) fn next_message(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        self.assembler.next_message()
    }

    /// The descriptors of a message; `None` if they did not all arrive.
    pub(super) fn take_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (count <= self.fds.len()).then(|| self.fds.drain(..count).collect())
    }

    /// Sends a message, or remembers what could not be sent.
    pub(super) fn send(&mut self, message: &impl Serialize) {
        match wire::encode(message) {
            Ok(bytes) => self.owed.extend_from_slice(&bytes),
            Err(_) => self.is_gone = true,
        }
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while !self.owed.is_empty() && !self.is_gone {
            match wharf_sys::fdpass::send(&self.fd, &self.owed, &[]) {
                Ok(count) => drop(self.owed.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(_) => self.is_gone = true,
            }
        }
        self.is_gone |= self.owed.len() > MOST_OWED;
    }

    pub(super) fn wanted_interest(&self) -> Interest {
        Interest {
            read: true,
            write: !self.owed.is_empty(),
        }
    }
}
