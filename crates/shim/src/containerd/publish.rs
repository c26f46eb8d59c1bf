//! Events on their way to containerd.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::task_api::connection::Connection;
use crate::task_api::envelope::Request;
use crate::task_api::messages::{Any, EVENTS, Envelope, ForwardRequest, Timestamp};
use crate::task_api::proto::Message;

/// What waits for a containerd that is away; older events are dropped first.
const MAX_WAITING: usize = 2048;

/// Between two attempts to reach containerd.
const PAUSE: Duration = Duration::from_secs(1);

/// How long containerd may take for an event.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Hands events on, in order, each until containerd has answered.
#[derive(Debug)]
pub(super) struct Publisher {
    address: PathBuf,
    namespace: String,
    waiting: VecDeque<Request>,
    /// How many of the waiting ones were sent over this connection.
    sent: usize,
    connection: Option<Connection>,
    next_stream: u32,
    not_before: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(address: PathBuf, namespace: String) -> Self {
        Self {
            address,
            namespace,
            waiting: VecDeque::new(),
            sent: 0,
            connection: None,
            next_stream: 1,
            not_before: None,
        }
    }

    /// Publishes the event `containerd.events.<name>` under `topic`.
    pub(super) fn publish(&mut self, topic: &str, name: &str, event: &impl Message) {
        let envelope = Envelope {
            timestamp: Some(Timestamp::from_ns(super::container::now_ns())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(Any {
                type_url: format!("containerd.events.{name}"),
                value: event.encode(),
            }),
        };
        let forward = ForwardRequest {
            envelope: Some(envelope),
        };
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        self.waiting
            .push_back(Request::new(EVENTS, "Forward", &forward, TIMEOUT));
        self.advance();
    }

    /// Connects if needed and sends what waits.
    pub(super) fn advance(&mut self) {
        let is_early = self.not_before.is_some_and(|at| Instant::now() < at);
        if self.waiting.is_empty() || (self.connection.is_none() && is_early) {
            return;
        }
        if self.connection.is_none() {
            self.connect();
        }
        let Some(connection) = &mut self.connection else { return };
        for request in self.waiting.iter().skip(self.sent) {
            connection.send(&request.frame(self.next_stream));
            self.next_stream = self.next_stream.wrapping_add(2);
        }
        self.sent = self.waiting.len();
        self.check();
    }

    fn connect(&mut self) {
        self.not_before = Some(Instant::now() + PAUSE);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let connected = SocketAddrUnix::new(&self.address).and_then(|address| {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&socket, &address)?;
            Ok(socket)
        });
        if let Ok(socket) = connected {
            self.connection = Some(Connection::new(socket));
            (self.sent, self.next_stream) = (0, 1);
        }
    }

    /// Each answer, an error too, is the end of one event.
    pub(super) fn on_ready(&mut self) {
        if let Some(connection) = &mut self.connection {
            let answers = connection.receive().len().min(self.sent);
            self.waiting.drain(..answers);
            self.sent -= answers;
            connection.flush();
        }
        self.check();
    }

    fn check(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| connection.is_gone) {
            self.connection = None;
            self.sent = 0;
        }
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// When to look again without being called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.not_before
            .filter(|_| self.connection.is_none() && !self.waiting.is_empty())
    }

    /// Whether containerd has everything.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}
