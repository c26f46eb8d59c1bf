//! The event loop: which socket wakes whom, deadlines, and what is held.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use wharf_sys::timeout::in_milliseconds;

use super::control::{Answer, Change, Connection, PortKey, Protocol, Request, Upstream};
use super::forward::Forward;
use super::names::{Member, Names};
use super::resolver::Client;
use super::tcp::Pair;
use super::udp::Flow;

/// How long a keeper without anything to hold waits for more work.
const IDLE: Duration = Duration::from_secs(2);
/// Before the first engine has spoken.
const STARTING: Duration = Duration::from_secs(30);
/// How often it is looked whether the instance's directory is still there.
const HOME_CHECK: Duration = Duration::from_secs(15);
const EVENTS: usize = 256;

/// What is done with a source after it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// There is more to do, but others first.
    Again,
    Close,
}

/// Everything that epoll can wake, by number.
pub(super) enum Source {
    Listener(OwnedFd),
    Engine(Connection),
    /// Both sockets of a namespace; they are in [`Reactor::namespaces`].
    Resolver {
        namespace: String,
    },
    Client(Client),
    Forward(Forward),
    /// The socket of a port; it is in [`Reactor::ports`].
    Port {
        key: PortKey,
    },
    Pair(Pair),
    Flow(Flow),
}

/// A namespace with a name service.
pub(super) struct Namespace {
    pub udp: OwnedFd,
    pub tcp: OwnedFd,
    pub netns: OwnedFd,
    pub upstream: Vec<Upstream>,
    /// Queries on their way and clients connected: bounded.
    pub busy: usize,
    source: u64,
}

/// A held port.
pub(super) struct Port {
    pub socket: OwnedFd,
    pub target: SocketAddr,
    /// UDP: who is served by which flow.
    pub flows: HashMap<SocketAddr, u64>,
    source: u64,
}

/// The process.
pub(super) struct Reactor {
    epoll: OwnedFd,
    sources: HashMap<u64, Source>,
    next: u64,
    again: Vec<u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    pub namespaces: HashMap<String, Namespace>,
    pub ports: HashMap<PortKey, Port>,
    pub names: Names,
    /// Our own namespace, to come back to.
    pub home: OwnedFd,
    /// Given up for a moment when there is no descriptor left to accept with.
    spare: Option<OwnedFd>,
    idle_since: Option<Instant>,
    idle_limit: Duration,
    directory: PathBuf,
    next_check: Instant,
    /// For every copy of bytes there is one buffer.
    pub scratch: Vec<u8>,
    /// Turns the order of answers with several addresses.
    pub turn: usize,
}

fn spare_descriptor() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

impl Reactor {
    /// Takes over standard input as the listening control socket.
    pub(super) fn open(directory: &Path) -> io::Result<Reactor> {
        let listener = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
        rustix::io::ioctl_fionbio(&listener, true)?;
        let mut reactor = Reactor {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sources: HashMap::new(),
            next: 1,
            again: Vec::new(),
            deadlines: BTreeSet::new(),
            namespaces: HashMap::new(),
            ports: HashMap::new(),
            names: Names::default(),
            home: wharf_sys::namespace::open("/proc/self/ns/net".as_ref())?,
            spare: spare_descriptor(),
            idle_since: Some(Instant::now()),
            idle_limit: STARTING,
            directory: directory.to_owned(),
            next_check: Instant::now() + HOME_CHECK,
            scratch: vec![0; 64 << 10],
            turn: 0,
        };
        let id = reactor.reserve();
        reactor.watch(&listener, id, 0, EventFlags::IN)?;
        reactor.sources.insert(id, Source::Listener(listener));
        Ok(reactor)
    }

    /// Serves until there is nothing left to hold.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.is_done() {
            events.clear();
            let timeout = self.timeout().map(in_milliseconds);
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                self.serve(event.data.u64());
            }
            for id in std::mem::take(&mut self.again) {
                self.serve(id << 1);
            }
            self.expire();
        }
        Ok(())
    }

    /// Nothing to hold for a while, or no instance any more: whoever removed
    /// its directory by hand has left nobody who would ever end us.
    fn is_done(&mut self) -> bool {
        if Instant::now() >= self.next_check {
            if !self.directory.exists() {
                return true;
            }
            self.next_check = Instant::now() + HOME_CHECK;
        }
        if !self.namespaces.is_empty() || !self.ports.is_empty() {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        since.elapsed() >= self.idle_limit
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let idle = self.idle_since.map(|since| since + self.idle_limit);
        let next = self
            .deadlines
            .first()
            .map(|(deadline, _)| *deadline)
            .into_iter()
            .chain(idle)
            .chain([self.next_check])
            .min();
        next.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// A number for a source to come.
    pub(super) fn reserve(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Lets `fd` wake source `id`; `side` tells its two descriptors apart.
    pub(super) fn watch(&self, fd: impl AsFd, id: u64, side: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(id << 1 | side), flags)?)
    }

    pub(super) fn insert(&mut self, id: u64, source: Source) {
        self.sources.insert(id, source);
    }

    pub(super) fn source_mut(&mut self, id: u64) -> Option<&mut Source> {
        self.sources.get_mut(&id)
    }

    /// Serves a source again before the next wait.
    pub(super) fn serve_soon(&mut self, id: u64) {
        self.again.push(id);
    }

    /// Wakes a source when the time has come, whatever its sockets do.
    pub(super) fn wake_at(&mut self, id: u64, deadline: Instant) {
        self.deadlines.insert((deadline, id));
    }

    /// Serves one event. The source is out of the table meanwhile, so that it
    /// can use everything else.
    fn serve(&mut self, token: u64) {
        let id = token >> 1;
        let Some(mut source) = self.sources.remove(&id) else {
            return;
        };
        let fate = self
            .serve_source(id, &mut source, token & 1 == 1)
            .unwrap_or(Fate::Close);
        self.settle(id, source, fate);
    }

    fn settle(&mut self, id: u64, source: Source, fate: Fate) {
        match fate {
            Fate::Close => self.closed(id, source),
            Fate::Keep => drop(self.sources.insert(id, source)),
            Fate::Again => {
                self.again.push(id);
                self.sources.insert(id, source);
            }
        }
    }

    fn serve_source(&mut self, id: u64, source: &mut Source, second: bool) -> io::Result<Fate> {
        match source {
            Source::Listener(listener) => self.accept_engines(listener),
            Source::Engine(connection) => self.serve_engine(connection),
            Source::Resolver { namespace } if second => self.accept_clients(namespace),
            Source::Resolver { namespace } => self.serve_queries(namespace),
            Source::Client(client) => self.serve_client(id, client),
            Source::Forward(forward) => self.serve_forward(forward),
            Source::Port { key } if key.protocol == Protocol::Tcp => self.accept_connections(*key),
            Source::Port { key } => self.serve_datagrams(*key),
            Source::Pair(pair) => Ok(pair.pump(&mut self.scratch)),
            Source::Flow(flow) => self.serve_flow(flow),
        }
    }

    /// What a source leaves behind is put in order; its sockets close with it.
    fn closed(&mut self, id: u64, source: Source) {
        match source {
            Source::Client(Client { namespace, .. }) | Source::Forward(Forward { namespace, .. }) => {
                if let Some(namespace) = self.namespaces.get_mut(&namespace) {
                    namespace.busy = namespace.busy.saturating_sub(1);
                }
            }
            Source::Flow(flow) => {
                if let Some(port) = self.ports.get_mut(&flow.key)
                    && port.flows.get(&flow.client) == Some(&id)
                {
                    port.flows.remove(&flow.client);
                }
            }
            _ => {}
        }
    }

    /// Wakes the sources whose time has come.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((deadline, id)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.remove(&(deadline, id));
            let Some(mut source) = self.sources.remove(&id) else {
                continue;
            };
            let fate = match &mut source {
                Source::Forward(forward) => self.forward_timed_out(forward),
                Source::Client(client) => self.keep_until(id, client.last_used + super::resolver::CLIENT_IDLE),
                Source::Flow(flow) => self.keep_until(id, flow.last_used + super::udp::FLOW_IDLE),
                _ => Fate::Keep,
            };
            self.settle(id, source, fate);
        }
    }

    fn keep_until(&mut self, id: u64, end: Instant) -> Fate {
        if end <= Instant::now() {
            return Fate::Close;
        }
        self.wake_at(id, end);
        Fate::Keep
    }

    /// Accepts one connection; without a descriptor left, it is accepted with
    /// the spare one and closed, so that it does not wake us for ever.
    pub(super) fn accept(&mut self, listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
        match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Ok(Some(socket)),
            Err(Errno::MFILE | Errno::NFILE) => {
                self.spare = None;
                let refused = rustix::net::accept(&listener);
                drop(refused);
                self.spare = spare_descriptor();
                Ok(None)
            }
            // A connection that was taken back, or nothing there.
            Err(_) => Ok(None),
        }
    }

    fn accept_engines(&mut self, listener: &OwnedFd) -> io::Result<Fate> {
        if let Some(socket) = self.accept(listener)? {
            // Requests are read when there are some and answered at once.
            rustix::io::ioctl_fionbio(&socket, false)?;
            let id = self.reserve();
            self.watch(&socket, id, 0, EventFlags::IN)?;
            self.sources.insert(id, Source::Engine(Connection::new(socket)?));
        }
        Ok(Fate::Keep)
    }

    fn serve_engine(&mut self, connection: &mut Connection) -> io::Result<Fate> {
        if !connection.receive()? {
            return Ok(Fate::Close);
        }
        self.idle_limit = IDLE;
        self.idle_since = None;
        while let Some(request) = connection.next_request()? {
            let answer = match request {
                Request::Hello { version } => Answer::hello(
                    version,
                    self.namespaces.keys().cloned().collect(),
                    self.ports.keys().copied().collect(),
                ),
                Request::Apply { changes } => match self.apply_all(connection, changes) {
                    Ok(()) => Answer::default(),
                    Err(error) => Answer::error(error.to_string()),
                },
            };
            connection.send(&answer)?;
        }
        Ok(Fate::Keep)
    }

    fn apply_all(&mut self, connection: &mut Connection, changes: Vec<Change>) -> io::Result<()> {
        for change in changes {
            self.apply(connection, change)?;
        }
        Ok(())
    }

    fn apply(&mut self, connection: &mut Connection, change: Change) -> io::Result<()> {
        let mut descriptor = || {
            connection
                .take_descriptor()
                .ok_or_else(|| io::Error::other("a descriptor of the request is missing"))
        };
        match change {
            Change::Namespace { id, upstream } => {
                let (udp, tcp, netns) = (descriptor()?, descriptor()?, descriptor()?);
                self.add_namespace(id, upstream, (udp, tcp, netns))?;
            }
            Change::DropNamespace { id } => self.drop_namespace(&id),
            Change::ForgetNames => self.names = Names::default(),
            Change::Endpoint {
                network,
                network_name,
                container,
                names,
                addresses,
                links,
            } => {
                let member = Member {
                    names,
                    addresses,
                    links,
                };
                self.names.insert(&network, &network_name, &container, member);
            }
            Change::DropEndpoint { network, container } => self.names.remove(&network, &container),
            Change::Port { key, target } => self.add_port(key, target, descriptor()?)?,
            Change::Retarget { key, target } => {
                if let Some(port) = self.ports.get_mut(&key) {
                    port.target = target;
                }
            }
            Change::DropPort { key } => self.drop_port(key),
        }
        Ok(())
    }

    fn add_namespace(
        &mut self,
        id: String,
        upstream: Vec<Upstream>,
        (udp, tcp, netns): (OwnedFd, OwnedFd, OwnedFd),
    ) -> io::Result<()> {
        self.drop_namespace(&id);
        let source = self.reserve();
        self.watch(&udp, source, 0, EventFlags::IN)?;
        self.watch(&tcp, source, 1, EventFlags::IN)?;
        self.sources.insert(source, Source::Resolver { namespace: id.clone() });
        self.namespaces.insert(
            id,
            Namespace {
                udp,
                tcp,
                netns,
                upstream,
                busy: 0,
                source,
            },
        );
        Ok(())
    }

    /// Everything that keeps the namespace alive goes at once.
    fn drop_namespace(&mut self, id: &str) {
        let Some(namespace) = self.namespaces.remove(id) else {
            return;
        };
        self.sources.remove(&namespace.source);
        self.sources.retain(|_, source| match source {
            Source::Client(Client { namespace, .. }) | Source::Forward(Forward { namespace, .. }) => namespace != id,
            _ => true,
        });
    }

    fn add_port(&mut self, key: PortKey, target: SocketAddr, socket: OwnedFd) -> io::Result<()> {
        self.drop_port(key);
        let source = self.reserve();
        self.watch(&socket, source, 0, EventFlags::IN)?;
        self.sources.insert(source, Source::Port { key });
        self.ports.insert(
            key,
            Port {
                socket,
                target,
                flows: HashMap::new(),
                source,
            },
        );
        Ok(())
    }

    /// New connections end; those that stand go on until their container ends.
    fn drop_port(&mut self, key: PortKey) {
        let Some(port) = self.ports.remove(&key) else { return };
        self.sources.remove(&port.source);
        for flow in port.flows.values() {
            self.sources.remove(flow);
        }
    }
}
