//! A connection over which frames come and go.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::frame::{Assembler, Frame};

/// What may wait for a peer that does not read before it is given up.
const MAX_OWED: usize = 16 << 20;

/// A connection; never blocks.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    assembler: Assembler,
    owed: Vec<u8>,
    pub(crate) is_gone: bool,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            assembler: Assembler::default(),
            owed: Vec::new(),
            is_gone: false,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFlags {
        if self.owed.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.owed.extend_from_slice(&frame.encode());
        self.is_gone |= self.owed.len() > MAX_OWED;
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        while !self.owed.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &self.owed, flags) {
                Ok(count) => drop(self.owed.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.is_gone = true;
                    self.owed.clear();
                }
            }
        }
        self.owed.shrink_to(0);
    }

    /// Reads what is there; the whole frames of it.
    pub(crate) fn receive(&mut self) -> Vec<Frame> {
        let mut buffer = [0u8; 16 << 10];
        loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.is_gone = true;
                    break;
                }
                Ok((length, _)) => self.assembler.push(&buffer[..length]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.is_gone = true;
                    break;
                }
            }
        }
        let mut frames = Vec::new();
        loop {
            match self.assembler.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => {
                    self.is_gone = true;
                    return frames;
                }
            }
        }
    }
}
