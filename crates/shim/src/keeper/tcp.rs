//! TCP to a published port that the kernel does not translate: loopback, and
//! from one IP version to the other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};

use super::control::PortKey;
use super::reactor::{Fate, Reactor, Source};

/// Copies in a row before others get their turn.
const ROUNDS: usize = 16;
/// Connections accepted in a row.
const ACCEPTS: usize = 64;

/// One way of a connection.
#[derive(Debug, Default)]
struct Direction {
    /// Read and not yet written.
    pending: Vec<u8>,
    ended: bool,
    shut: bool,
}

/// A client, its container, and what is between them.
#[derive(Debug)]
pub(super) struct Pair {
    client: OwnedFd,
    container: OwnedFd,
    there: Direction,
    back: Direction,
}

/// A non-blocking stream socket that is being connected.
pub(super) fn connect(target: SocketAddr) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

impl Reactor {
    /// Takes new connections to a port and leads them to its target.
    pub(super) fn accept_connections(&mut self, key: PortKey) -> io::Result<Fate> {
        for _ in 0..ACCEPTS {
            let Some(port) = self.ports.get(&key) else {
                return Ok(Fate::Close);
            };
            let target = port.target;
            let listener = port.socket.try_clone()?;
            let Some(client) = self.accept(&listener)? else { break };
            // A container that cannot be reached closes the connection, as it would itself.
            if let Ok(container) = connect(target) {
                self.join(client, container)?;
            }
        }
        Ok(Fate::Keep)
    }

    fn join(&mut self, client: OwnedFd, container: OwnedFd) -> io::Result<()> {
        for socket in [&client, &container] {
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        let id = self.reserve();
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        self.watch(&client, id, 0, flags)?;
        self.watch(&container, id, 1, flags)?;
        let pair = Pair {
            client,
            container,
            there: Direction::default(),
            back: Direction::default(),
        };
        self.insert(id, Source::Pair(pair));
        Ok(())
    }
}

impl Pair {
    /// Copies what can be copied both ways; edge-triggered, so until it stops.
    pub(super) fn pump(&mut self, scratch: &mut [u8]) -> Fate {
        let there = self.there.copy(&self.client, &self.container, scratch);
        let back = self.back.copy(&self.container, &self.client, scratch);
        match (there, back) {
            (Err(_), _) | (_, Err(_)) => Fate::Close,
            _ if self.there.shut && self.back.shut => Fate::Close,
            (Ok(false), Ok(false)) => Fate::Keep,
            _ => Fate::Again,
        }
    }
}

impl Direction {
    /// True when it stopped only for the sake of others.
    fn copy(&mut self, from: impl AsFd, to: impl AsFd, scratch: &mut [u8]) -> Result<bool, Errno> {
        for _ in 0..ROUNDS {
            if !self.flush(&to)? {
                return Ok(false);
            }
            if self.ended {
                if !self.shut {
                    rustix::net::shutdown(&to, Shutdown::Write)?;
                    self.shut = true;
                }
                return Ok(false);
            }
            let length = match rustix::io::read(&from, &mut *scratch) {
                Ok(length) => length,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                // Not connected yet.
                Err(Errno::NOTCONN) => return Ok(false),
                Err(errno) => return Err(errno),
            };
            self.ended = length == 0;
            self.pending.extend_from_slice(&scratch[..length]);
        }
        Ok(true)
    }

    /// True when nothing is left.
    fn flush(&mut self, to: impl AsFd) -> Result<bool, Errno> {
        let mut written = 0;
        while written < self.pending.len() {
            match rustix::net::send(&to, &self.pending[written..], SendFlags::NOSIGNAL) {
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(errno) => return Err(errno),
            }
        }
        self.pending.drain(..written);
        if self.pending.is_empty() {
            // An idle connection holds no buffer.
            self.pending = Vec::new();
        }
        Ok(self.pending.is_empty())
    }
}
