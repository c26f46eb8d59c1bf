//! The name service of the namespaces: who asks, and what we know ourselves.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::dns::{self, Code, Query, Record, Unreadable};
use super::reactor::{Fate, Reactor, Source};

/// A client over TCP that asks nothing this long is closed.
pub(super) const CLIENT_IDLE: Duration = Duration::from_secs(10);
/// SECURITY: clients and forwarded queries of one namespace at a time, so that
/// a hostile container cannot use up the instance's descriptors.
pub(super) const BUSY_MAX: usize = 128;
/// Queries in a row before others get their turn.
const ROUNDS: usize = 64;

/// A client over TCP.
#[derive(Debug)]
pub(super) struct Client {
    pub namespace: String,
    pub last_used: Instant,
    socket: OwnedFd,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// A query of this client is being forwarded; it waits with the next one.
    waiting: bool,
}

/// Whom an answer goes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    Udp(SocketAddr),
    /// Number of its source.
    Tcp(u64),
}

/// What happens to a question.
enum Outcome {
    Answered(Vec<u8>),
    Forwarded,
    Ignored,
}

impl Reactor {
    /// Serves queries over UDP.
    pub(super) fn serve_queries(&mut self, namespace: &str) -> io::Result<Fate> {
        let mut buffer = [0u8; 4096];
        for _ in 0..ROUNDS {
            let Some(place) = self.namespaces.get(namespace) else {
                return Ok(Fate::Close);
            };
            let (length, client) = match rustix::net::recvfrom(&place.udp, &mut buffer, RecvFlags::empty()) {
                Ok((length, _, Some(client))) => (length, client),
                Err(Errno::AGAIN) => break,
                _ => continue,
            };
            let Ok(client) = SocketAddr::try_from(client) else {
                continue;
            };
            if let Outcome::Answered(answer) = self.ask(namespace, &buffer[..length], Asker::Udp(client)) {
                self.send_datagram(namespace, client, &answer);
            }
        }
        Ok(Fate::Keep)
    }

    fn send_datagram(&self, namespace: &str, client: SocketAddr, answer: &[u8]) {
        if let Some(place) = self.namespaces.get(namespace) {
            // A client that is gone needs no answer.
            let _ = rustix::net::sendto(&place.udp, answer, SendFlags::NOSIGNAL, &client);
        }
    }

    /// Answers, or sends the question on.
    fn ask(&mut self, namespace: &str, request: &[u8], asker: Asker) -> Outcome {
        let query = match dns::parse_query(request) {
            Ok(query) => query,
            Err(Unreadable::NotAQuery) => return Outcome::Ignored,
            Err(Unreadable::Refused(code)) => return Outcome::Answered(dns::refuse(request, code)),
        };
        let limit = match asker {
            Asker::Udp(_) => dns::udp_limit(&query),
            Asker::Tcp(_) => dns::TCP_MAX,
        };
        if let Some(records) = self.own_records(namespace, &query) {
            return Outcome::Answered(dns::answer(&query, request, Code::NoError, &records, limit));
        }
        if self.forward(namespace, &query, request, asker) {
            return Outcome::Forwarded;
        }
        Outcome::Answered(dns::answer(&query, request, Code::ServerFailure, &[], limit))
    }

    /// What the table says; `None` when it is not ours to say.
    fn own_records(&mut self, namespace: &str, query: &Query) -> Option<Vec<Record>> {
        if !query.is_internet || query.name.is_empty() {
            return None;
        }
        if query.kind == dns::TYPE_PTR {
            let address = dns::reverse_address(&query.name)?;
            return Some(vec![Record::Name(self.names.reverse(namespace, address)?)]);
        }
        let mut addresses = self.names.lookup(namespace, &query.name)?;
        // COMPAT: a name of ours exists whatever the type asked for.
        addresses.retain(|address| match query.kind {
            dns::TYPE_A => address.is_ipv4(),
            dns::TYPE_AAAA => address.is_ipv6(),
            _ => false,
        });
        self.turn = self.turn.wrapping_add(1);
        if !addresses.is_empty() {
            let first = self.turn % addresses.len();
            addresses.rotate_left(first);
        }
        Some(addresses.into_iter().map(Record::Address).collect())
    }

    /// Takes new clients over TCP.
    pub(super) fn accept_clients(&mut self, namespace: &str) -> io::Result<Fate> {
        let Some(place) = self.namespaces.get(namespace) else {
            return Ok(Fate::Close);
        };
        let listener = place.tcp.try_clone()?;
        let is_full = place.busy >= BUSY_MAX;
        let Some(socket) = self.accept(&listener)? else {
            return Ok(Fate::Keep);
        };
        if is_full {
            return Ok(Fate::Keep);
        }
        let id = self.reserve();
        self.watch(&socket, id, 0, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        let now = Instant::now();
        let client = Client {
            namespace: namespace.to_owned(),
            last_used: now,
            socket,
            received: Vec::new(),
            unsent: Vec::new(),
            waiting: false,
        };
        self.insert(id, Source::Client(client));
        self.wake_at(id, now + CLIENT_IDLE);
        if let Some(place) = self.namespaces.get_mut(namespace) {
            place.busy += 1;
        }
        Ok(Fate::Keep)
    }

    /// Reads queries of a client, one at a time, each behind its length.
    pub(super) fn serve_client(&mut self, id: u64, client: &mut Client) -> io::Result<Fate> {
        loop {
            if !client.flush()? || client.waiting {
                return Ok(Fate::Keep);
            }
            while let Some(request) = client.next_request() {
                match self.ask(&client.namespace, &request, Asker::Tcp(id)) {
                    Outcome::Answered(answer) => client.queue(&answer),
                    Outcome::Forwarded => client.waiting = true,
                    Outcome::Ignored => return Ok(Fate::Close),
                }
                if client.waiting || !client.flush()? {
                    return Ok(Fate::Keep);
                }
            }
            let mut buffer = [0u8; 4096];
            match rustix::io::read(&client.socket, &mut buffer) {
                Ok(0) => return Ok(Fate::Close),
                Ok(length) => {
                    client.last_used = Instant::now();
                    client.received.extend_from_slice(&buffer[..length]);
                }
                Err(Errno::AGAIN) => return Ok(Fate::Keep),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Hands an answer from elsewhere to who asked.
    pub(super) fn deliver(&mut self, namespace: &str, asker: Asker, answer: &[u8]) {
        match asker {
            Asker::Udp(client) => self.send_datagram(namespace, client, answer),
            Asker::Tcp(id) => {
                if let Some(Source::Client(client)) = self.source_mut(id) {
                    client.waiting = false;
                    client.queue(answer);
                    self.serve_soon(id);
                }
            }
        }
    }
}

impl Client {
    fn next_request(&mut self) -> Option<Vec<u8>> {
        let prefix = self.received.first_chunk::<2>()?;
        let end = 2 + usize::from(u16::from_be_bytes(*prefix));
        let request = self.received.get(2..end)?.to_vec();
        self.received.drain(..end);
        Some(request)
    }

    fn queue(&mut self, answer: &[u8]) {
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(&answer[..usize::from(length)]);
    }

    /// True when nothing is left to send.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}
