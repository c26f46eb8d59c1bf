//! Encoded messages on their way out, for datagrams and streams alike.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

/// Refused datagrams in one go after which the target counts as away.
const MOST_REFUSALS: u32 = 8;

/// What sending came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Everything.
    All,
    /// The target takes no more at present.
    Full,
}

/// Messages one behind the other, with their ends.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// Ends of the packets that are not wholly sent.
    ends: VecDeque<usize>,
    /// Where the first packet that is not wholly sent begins.
    begin: usize,
    /// What is sent.
    at: usize,
    /// Packets that were too large for the target since the last look.
    refused: u64,
}

impl Outgoing {
    /// The buffer to encode into; each packet is closed by [`Outgoing::end_packet`].
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn end_packet(&mut self) {
        if self.bytes.len() > self.ends.back().copied().unwrap_or(self.begin) {
            self.ends.push_back(self.bytes.len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// What has been sent of the present bytes.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Packets not wholly sent.
    pub(super) fn packets(&self) -> usize {
        self.ends.len()
    }

    /// Packets given up since the last call because the target refuses their size.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Begins the first unfinished packet again: its receiver has gone.
    pub(super) fn rewind(&mut self) {
        self.at = self.begin;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(4096);
        self.ends.clear();
        (self.begin, self.at) = (0, 0);
    }

    /// Sends what goes; a datagram per packet, or as much as a stream takes.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>, is_datagram: bool) -> Result<Sent, Errno> {
        let mut refusals = 0;
        while let Some(end) = self.ends.front().copied() {
            let upto = if is_datagram { end } else { self.bytes.len() };
            match rustix::net::send(
                fd,
                &self.bytes[self.at..upto],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(count) => self.at += count,
                Err(Errno::INTR) => continue,
                // The kernel's buffers are full: the target is slow, not gone.
                Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(Sent::Full),
                Err(Errno::MSGSIZE) if is_datagram => {
                    self.refused += 1;
                    self.at = end;
                }
                // Tells of an earlier datagram that nobody took (udp(7)); this one was not sent yet.
                Err(Errno::CONNREFUSED) if is_datagram && refusals < MOST_REFUSALS => {
                    refusals += 1;
                    continue;
                }
                Err(errno) => return Err(errno),
            }
            while let Some(end) = self.ends.front().copied().filter(|end| *end <= self.at) {
                self.begin = end;
                self.ends.pop_front();
            }
        }
        self.clear();
        Ok(Sent::All)
    }
}
