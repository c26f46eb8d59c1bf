//! One connection: requests out, answers and events in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::call::ShimClient;
use super::error::CallError;
use crate::identity;
use crate::protocol::{Call, Event, Outcome, Reply, Request, Response};
use crate::wire::{self, Assembler};

/// What a shim reports, in order.
#[derive(Debug)]
pub struct EventStream {
    receiver: mpsc::UnboundedReceiver<Event>,
}

impl EventStream {
    /// The next event; `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

/// Connects to the shim that keeps `dir`.
///
/// # Errors
/// [`CallError::Connect`] if nothing listens there; look for [`super::read_exit`] then.
pub async fn connect(dir: &Path) -> Result<(ShimClient, EventStream), CallError> {
    let failed = |source| CallError::Connect {
        dir: dir.to_path_buf(),
        source,
    };
    let socket = connect_socket(dir).map_err(failed)?;
    let (link, events) = Link::over(socket, dir).map_err(failed)?;
    Ok((ShimClient::over(link), events))
}

/// Connecting to a unix socket never waits for its owner: there is room in the backlog or not.
fn connect_socket(dir: &Path) -> io::Result<StdStream> {
    let open = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(identity::socket_path(open.as_fd(), identity::SOCKET))?;
    rustix::net::connect(&socket, &address)?;
    Ok(StdStream::from(socket))
}

/// A connection shared by the clones of a client.
#[derive(Debug)]
pub(super) struct Link {
    dir: PathBuf,
    stream: Arc<UnixStream>,
    waiting: Arc<Mutex<Waiting>>,
    /// One message at a time, or parts of two would mix.
    sending: tokio::sync::Mutex<()>,
    reader: tokio::task::AbortHandle,
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    answers: HashMap<u64, oneshot::Sender<Outcome>>,
    is_closed: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Link {
    /// Takes over a connected socket.
    pub(super) fn over(socket: StdStream, dir: &Path) -> io::Result<(Arc<Self>, EventStream)> {
        socket.set_nonblocking(true)?;
        let stream = Arc::new(UnixStream::from_std(socket)?);
        let waiting = Arc::new(Mutex::new(Waiting {
            next_id: 1,
            ..Waiting::default()
        }));
        let (sender, receiver) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_all(stream.clone(), waiting.clone(), sender)).abort_handle();
        let link = Self {
            dir: dir.to_path_buf(),
            stream,
            waiting,
            sending: tokio::sync::Mutex::default(),
            reader,
        };
        Ok((Arc::new(link), EventStream { receiver }))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&self, call: Call, fds: &[OwnedFd], deadline: Duration) -> Result<Reply, CallError> {
        let name = name_of(&call);
        let answered = tokio::time::timeout(deadline, self.send_and_wait(call, name, fds)).await;
        let waited_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        match answered.unwrap_or(Err(CallError::Deadline { call: name, waited_ms }))? {
            Outcome::Ok(reply) => Ok(reply),
            Outcome::Err(fault) => Err(CallError::Fault(fault)),
        }
    }

    async fn send_and_wait(&self, call: Call, name: &'static str, fds: &[OwnedFd]) -> Result<Outcome, CallError> {
        let (sender, receiver) = oneshot::channel();
        let closed = || CallError::Closed { dir: self.dir.clone() };
        let id = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_closed {
                return Err(closed());
            }
            let id = waiting.next_id;
            waiting.next_id += 1;
            waiting.answers.insert(id, sender);
            id
        };
        let forget = Forget {
            waiting: &self.waiting,
            id,
        };
        let failed = |source| CallError::Send {
            call: name,
            dir: self.dir.clone(),
            source,
        };
        let request = Request {
            id,
            fds: u32::try_from(fds.len()).unwrap_or(u32::MAX),
            call,
        };
        let bytes = wire::encode(&request).map_err(|error| failed(io::Error::other(error)))?;
        self.send(&bytes, fds).await.map_err(failed)?;
        let outcome = receiver.await.map_err(|_| closed());
        drop(forget);
        outcome
    }

    /// Sends a whole message, its descriptors with its first byte.
    ///
    /// ORDER: a caller that goes away in the middle (deadline) must not leave half a message, so
    /// the connection is given up then.
    async fn send(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let _turn = self.sending.lock().await;
        let mut guard = GiveUp {
            stream: &self.stream,
            armed: false,
        };
        let mut fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
        let mut rest = bytes;
        while !rest.is_empty() {
            let send = || wharf_sys::fdpass::send(&*self.stream, rest, &fds).map_err(io::Error::from);
            let sent = self.stream.async_io(Interest::WRITABLE, send).await?;
            guard.armed = true;
            fds.clear();
            rest = &rest[sent..];
        }
        guard.armed = false;
        Ok(())
    }
}

/// Forgets a request whose caller has gone away.
struct Forget<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .answers
            .remove(&self.id);
    }
}

/// Closes the connection if a message stays half sent.
struct GiveUp<'a> {
    stream: &'a UnixStream,
    armed: bool,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if self.armed {
            let _ = rustix::net::shutdown(self.stream, rustix::net::Shutdown::Both);
        }
    }
}

/// Receives until the end; then nobody is left waiting.
async fn read_all(stream: Arc<UnixStream>, waiting: Arc<Mutex<Waiting>>, events: mpsc::UnboundedSender<Event>) {
    let mut assembler = Assembler::default();
    loop {
        let received = stream.async_io(Interest::READABLE, || receive(&stream, &mut assembler));
        let Ok(1..) = received.await else { break };
        while let Ok(Some(message)) = assembler.next_message() {
            take(&message, &waiting, &events);
        }
    }
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.is_closed = true;
    waiting.answers.clear();
}

/// The buffer is on the stack: a thousand connections that wait have none.
fn receive(stream: &UnixStream, assembler: &mut Assembler) -> io::Result<usize> {
    let mut buffer = [0u8; 16 << 10];
    let (length, _) = rustix::net::recv(stream, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT)?;
    assembler.push(&buffer[..length]);
    Ok(length)
}

/// Answers go to who asked, events to the stream; what is neither comes from the future.
fn take(message: &[u8], waiting: &Mutex<Waiting>, events: &mpsc::UnboundedSender<Event>) {
    if let Ok(response) = wire::decode::<Response>(message) {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.answers.remove(&response.id) {
            // The caller may just have given up.
            let _ = sender.send(response.outcome);
        }
    } else if let Ok(event) = wire::decode::<Event>(message) {
        // Nobody listening is a choice.
        let _ = events.send(event);
    }
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::Launch { .. } => "launch",
        Call::State => "state",
        Call::Start => "start",
        Call::Kill { .. } => "kill",
        Call::Attach { .. } => "attach",
        Call::Resize { .. } => "resize",
        Call::CloseStdin { .. } => "close stdin",
        Call::Exec { .. } => "exec",
        Call::Pause => "pause",
        Call::Resume => "resume",
        Call::Update { .. } => "update",
        Call::RotateLog => "rotate log",
        Call::AcknowledgeExec { .. } => "acknowledge exec",
        Call::Shutdown { .. } => "shutdown",
    }
}
