//! Waiting for descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use wharf_sys::timeout::in_milliseconds;

/// What a readiness notice is about. Ids are never reused, so a notice for something that was
/// closed a moment ago finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A signal is pending.
    Signals,
    /// An engine wants to connect.
    Listener,
    /// The container's cgroup ran out of memory.
    OutOfMemory,
    /// A connection of an engine.
    Connection(u32),
    /// An output of a process, by its index there.
    Output(u32, u8),
    /// The input of a process.
    Input(u32),
    /// An attached client.
    Client(u32),
    /// Another's shim.
    ForeignShim,
    /// A file of the host's view, by its index.
    View(u8),
    /// The log's target, by the number of its descriptor.
    Target(u32),
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, index, id) = match self {
            Self::Signals => (0u64, 0, 0),
            Self::Listener => (1, 0, 0),
            Self::OutOfMemory => (2, 0, 0),
            Self::Connection(id) => (3, 0, id),
            Self::Output(id, index) => (4, index, id),
            Self::Input(id) => (5, 0, id),
            Self::Client(id) => (6, 0, id),
            Self::View(index) => (7, index, 0),
            Self::ForeignShim => (8, 0, 0),
            Self::Target(id) => (9, 0, id),
        };
        kind << 40 | u64::from(index) << 32 | u64::from(id)
    }

    fn decode(data: u64) -> Option<Self> {
        let id = (data & 0xffff_ffff) as u32;
        let index = (data >> 32 & 0xff) as u8;
        Some(match data >> 40 {
            0 => Self::Signals,
            1 => Self::Listener,
            2 => Self::OutOfMemory,
            3 => Self::Connection(id),
            4 => Self::Output(id, index),
            5 => Self::Input(id),
            6 => Self::Client(id),
            7 => Self::View(index),
            8 => Self::ForeignShim,
            9 => Self::Target(id),
            _ => return None,
        })
    }
}

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side is gone altogether.
    pub(super) hung_up: bool,
}

/// What a descriptor is waited for. Both false still reports a hang-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Interest {
    pub(super) const READ: Self = Self {
        read: true,
        write: false,
    };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// An epoll instance.
pub(super) struct Reactor {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("epoll", &self.epoll)
            .finish_non_exhaustive()
    }
}

impl Reactor {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(32),
        })
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.encode()), interest.flags())
    }

    pub(super) fn change(&self, fd: impl AsFd, token: Token, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.encode()), interest.flags())
    }

    /// Stops waiting for a descriptor, which must still be open: a duplicate elsewhere (in the
    /// engine, say) would keep the kernel reporting it otherwise.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // Only "not registered" is possible, which is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until something is ready or the time is over.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<Ready>, Errno> {
        let timeout = timeout.map(in_milliseconds);
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(self.events.iter().filter_map(ready_of).collect())
    }
}

fn ready_of(event: &Event) -> Option<Ready> {
    let flags = event.flags;
    let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
    Some(Ready {
        token: Token::decode(event.data.u64())?,
        readable: flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        hung_up,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let tokens = [
            Token::Signals,
            Token::Listener,
            Token::OutOfMemory,
            Token::Connection(u32::MAX),
            Token::Output(7, 1),
            Token::Input(0),
            Token::Client(9),
            Token::View(6),
            Token::ForeignShim,
            Token::Target(3),
        ];
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(u64::MAX), None);
    }
}
