//! UDP to a published port that the kernel does not translate.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::control::PortKey;
use super::reactor::{Fate, Reactor, Source};

/// A client that is silent this long is forgotten (Docker's value).
pub(super) const FLOW_IDLE: Duration = Duration::from_secs(90);
/// Most clients of one port at a time; more are ignored until some are forgotten.
const FLOWS: usize = 1024;
/// Datagrams in a row before others get their turn.
const ROUNDS: usize = 64;

/// One client of a port: a socket whose answers are this client's.
#[derive(Debug)]
pub(super) struct Flow {
    pub key: PortKey,
    pub client: SocketAddr,
    pub last_used: Instant,
    socket: OwnedFd,
}

/// A datagram socket connected to `target`.
pub(super) fn connect(target: SocketAddr) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &target)?;
    Ok(socket)
}

impl Reactor {
    /// Carries datagrams of clients to the container.
    pub(super) fn serve_datagrams(&mut self, key: PortKey) -> io::Result<Fate> {
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..ROUNDS {
            let Some(port) = self.ports.get(&key) else { break };
            let received = rustix::net::recvfrom(&port.socket, &mut scratch[..], RecvFlags::empty());
            let (length, client) = match received {
                Ok((length, _, Some(client))) => (length, client),
                Err(Errno::AGAIN) => break,
                // An earlier answer was refused (ICMP): the client's affair.
                _ => continue,
            };
            let Ok(client) = SocketAddr::try_from(client) else {
                continue;
            };
            // Datagrams may be lost; a broken target shows in nothing else.
            let _ = self.carry(key, client, &scratch[..length]);
        }
        self.scratch = scratch;
        Ok(Fate::Keep)
    }

    fn carry(&mut self, key: PortKey, client: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let Some(port) = self.ports.get(&key) else {
            return Ok(());
        };
        let id = match port.flows.get(&client) {
            Some(id) => *id,
            None if port.flows.len() >= FLOWS => return Ok(()),
            None => self.open_flow(key, client, port.target)?,
        };
        if let Some(Source::Flow(flow)) = self.source_mut(id) {
            flow.last_used = Instant::now();
            rustix::net::send(&flow.socket, datagram, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    fn open_flow(&mut self, key: PortKey, client: SocketAddr, target: SocketAddr) -> io::Result<u64> {
        let socket = connect(target)?;
        let id = self.reserve();
        self.watch(&socket, id, 0, EventFlags::IN)?;
        let now = Instant::now();
        self.insert(
            id,
            Source::Flow(Flow {
                key,
                client,
                last_used: now,
                socket,
            }),
        );
        self.wake_at(id, now + FLOW_IDLE);
        if let Some(port) = self.ports.get_mut(&key) {
            port.flows.insert(client, id);
        }
        Ok(id)
    }

    /// Carries the container's answers back.
    pub(super) fn serve_flow(&mut self, flow: &mut Flow) -> io::Result<Fate> {
        let Some(port) = self.ports.get(&flow.key) else {
            return Ok(Fate::Close);
        };
        for _ in 0..ROUNDS {
            match rustix::net::recv(&flow.socket, &mut self.scratch[..], RecvFlags::empty()) {
                Ok((_, length)) => {
                    flow.last_used = Instant::now();
                    // Datagrams may be lost.
                    let answer = &self.scratch[..length];
                    let _ = rustix::net::sendto(&port.socket, answer, SendFlags::NOSIGNAL, &flow.client);
                }
                Err(Errno::AGAIN) => return Ok(Fate::Keep),
                // Nobody listens there (any more): the next datagram tries anew.
                Err(_) => return Ok(Fate::Close),
            }
        }
        Ok(Fate::Keep)
    }
}
