//! Questions we cannot answer, sent on to the namespace's servers.
//!
//! SECURITY: every query leaves from a new socket (so from a port of the
//! kernel's choice) under a random number, and only the answer to that very
//! question is taken.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use wharf_sys::namespace::{CLONE_NEWNET, enter};

use super::control::Upstream;
use super::dns::{self, Code, Query};
use super::reactor::{Fate, Reactor, Source};
use super::resolver::{Asker, BUSY_MAX};
use super::{tcp, udp};

const DNS_PORT: u16 = 53;
/// How long one server may take before the next is asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A question on its way.
#[derive(Debug)]
pub(super) struct Forward {
    pub namespace: String,
    socket: OwnedFd,
    /// Number of the server being asked.
    server: usize,
    /// Our own number of the query.
    id: u16,
    query: Query,
    request: Vec<u8>,
    asker: Asker,
    /// Over TCP: not yet sent and already received.
    unsent: Vec<u8>,
    received: Vec<u8>,
}

fn random_number() -> u16 {
    let mut bytes = [0u8; 2];
    // Without it the random port still has to be guessed.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

impl Reactor {
    /// Asks the first server that can be asked; false when there is none.
    pub(super) fn forward(&mut self, namespace: &str, query: &Query, request: &[u8], asker: Asker) -> bool {
        let Some(place) = self.namespaces.get(namespace).filter(|place| place.busy < BUSY_MAX) else {
            return false;
        };
        let count = place.upstream.len();
        let Some((server, id, socket, unsent)) = self.first_reachable(namespace, 0..count, request, asker) else {
            return false;
        };
        let forward = Forward {
            namespace: namespace.to_owned(),
            socket,
            server,
            id,
            query: query.clone(),
            request: request.to_vec(),
            asker,
            unsent,
            received: Vec::new(),
        };
        if let Some(place) = self.namespaces.get_mut(namespace) {
            place.busy += 1;
        }
        self.start(forward)
    }

    /// Registers a question that was just sent.
    fn start(&mut self, forward: Forward) -> bool {
        let number = self.reserve();
        let flags = match forward.asker {
            Asker::Udp(_) => EventFlags::IN,
            Asker::Tcp(_) => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        };
        let watched = self.watch(&forward.socket, number, 0, flags).is_ok();
        self.insert(number, Source::Forward(forward));
        // Unwatched it ends by its deadline, with an answer.
        self.wake_at(
            number,
            if watched {
                Instant::now() + SERVER_TIMEOUT
            } else {
                Instant::now()
            },
        );
        true
    }

    fn first_reachable(
        &self,
        namespace: &str,
        servers: std::ops::Range<usize>,
        request: &[u8],
        asker: Asker,
    ) -> Option<(usize, u16, OwnedFd, Vec<u8>)> {
        let place = self.namespaces.get(namespace)?;
        let id = random_number();
        let mut message = request.to_vec();
        dns::renumber(&mut message, id);
        servers.into_iter().find_map(|server| {
            let socket = self.socket_to(place.upstream.get(server)?, &place.netns, asker).ok()?;
            match asker {
                Asker::Udp(_) => {
                    rustix::net::send(&socket, &message, SendFlags::NOSIGNAL).ok()?;
                    Some((server, id, socket, Vec::new()))
                }
                Asker::Tcp(_) => {
                    let mut unsent = u16::try_from(message.len()).ok()?.to_be_bytes().to_vec();
                    unsent.extend_from_slice(&message);
                    Some((server, id, socket, unsent))
                }
            }
        })
    }

    /// A socket to a server, from the namespace it has to be asked from.
    fn socket_to(&self, server: &Upstream, netns: &OwnedFd, asker: Asker) -> io::Result<OwnedFd> {
        let address = SocketAddr::new(server.address, DNS_PORT);
        let connect = || match asker {
            Asker::Udp(_) => udp::connect(address),
            Asker::Tcp(_) => tcp::connect(address),
        };
        if server.from_host {
            return connect();
        }
        enter(netns, CLONE_NEWNET)?;
        let socket = connect();
        // Elsewhere than at home every later socket would be somebody else's.
        if let Err(errno) = enter(&self.home, CLONE_NEWNET) {
            eprintln!("wharf-shim keeper: cannot come back to the host's network: {errno}");
            std::process::abort();
        }
        socket
    }

    /// Reads what the server says.
    pub(super) fn serve_forward(&mut self, forward: &mut Forward) -> io::Result<Fate> {
        match forward.receive(&mut self.scratch) {
            Ok(None) => Ok(Fate::Keep),
            Ok(Some(message)) if dns::is_failure(&message) && self.ask_next(forward) => Ok(Fate::Close),
            Ok(Some(mut message)) => {
                dns::renumber(&mut message, forward.query.id);
                self.deliver(&forward.namespace, forward.asker, &message);
                Ok(Fate::Close)
            }
            Err(_) => Ok(self.forward_timed_out(forward)),
        }
    }

    /// The server did not answer, or cannot: the next one, or failure.
    pub(super) fn forward_timed_out(&mut self, forward: &Forward) -> Fate {
        if !self.ask_next(forward) {
            let limit = dns::TCP_MAX;
            let answer = dns::answer(&forward.query, &forward.request, Code::ServerFailure, &[], limit);
            self.deliver(&forward.namespace, forward.asker, &answer);
        }
        Fate::Close
    }

    /// Sends the question to a later server, as a new source in place of this one.
    fn ask_next(&mut self, forward: &Forward) -> bool {
        let Some(place) = self.namespaces.get_mut(&forward.namespace) else {
            return false;
        };
        let servers = forward.server + 1..place.upstream.len();
        let namespace = forward.namespace.clone();
        let found = self.first_reachable(&namespace, servers, &forward.request, forward.asker);
        let Some((server, id, socket, unsent)) = found else {
            return false;
        };
        if let Some(place) = self.namespaces.get_mut(&namespace) {
            place.busy += 1;
        }
        self.start(Forward {
            namespace,
            socket,
            server,
            id,
            query: forward.query.clone(),
            request: forward.request.clone(),
            asker: forward.asker,
            unsent,
            received: Vec::new(),
        })
    }
}

impl Forward {
    /// The answer to our question, once it is there whole.
    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        match self.asker {
            Asker::Udp(_) => self.receive_datagram(scratch),
            Asker::Tcp(_) => self.receive_stream(scratch),
        }
    }

    fn is_answer(&self, message: &[u8]) -> bool {
        dns::is_answer_to(message, &self.query, &self.request, self.id)
    }

    fn receive_datagram(&self, scratch: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            match rustix::net::recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
                Ok((_, length)) if self.is_answer(&scratch[..length]) => return Ok(Some(scratch[..length].to_vec())),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn receive_stream(&mut self, scratch: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        loop {
            match rustix::io::read(&self.socket, &mut *scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&scratch[..length]),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
            let Some(prefix) = self.received.first_chunk::<2>() else {
                continue;
            };
            let end = 2 + usize::from(u16::from_be_bytes(*prefix));
            if let Some(message) = self.received.get(2..end) {
                let is_answer = self.is_answer(message);
                return if is_answer {
                    Ok(Some(message.to_vec()))
                } else {
                    Err(io::ErrorKind::InvalidData.into())
                };
            }
        }
    }
}
