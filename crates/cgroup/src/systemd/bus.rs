//! One connection to a bus, or to systemd itself: blocking, with deadlines.

use super::address::Address;
use super::error::SystemdError;
use super::wire::{FIXED_HEADER, Kind, Message, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long one answer may take; a job may take as long again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Longest line of the handshake taken.
const MAX_LINE: usize = 4096;

/// A connection past the handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    serial: u32,
    inbox: Vec<u8>,
    /// Signals that came while an answer was waited for.
    signals: VecDeque<Message>,
    /// No bus between: nothing is subscribed to, no name is needed.
    pub(crate) is_direct: bool,
}

/// A method and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method<'a> {
    pub(crate) destination: &'static str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'static str,
    pub(crate) member: &'static str,
}

impl Connection {
    /// Connects to the first address that takes a connection.
    pub(crate) fn open(addresses: &[Address]) -> Result<Self, SystemdError> {
        let mut last = SystemdError::Absent {
            why: "no address is known".to_owned(),
        };
        for address in addresses {
            match Self::open_one(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn open_one(address: &Address) -> Result<Self, SystemdError> {
        let failed = |errno: Errno| SystemdError::Connect {
            address: address.place.to_string(),
            source: errno.into(),
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let place = address.place.socket_address().map_err(failed)?;
        rustix::net::connect(&socket, &place).map_err(failed)?;
        let mut connection = Self {
            socket,
            serial: 0,
            inbox: Vec::new(),
            signals: VecDeque::new(),
            is_direct: address.is_direct,
        };
        connection.authenticate(address)?;
        if !address.is_direct {
            let bus = "org.freedesktop.DBus";
            connection.call(
                Method {
                    destination: bus,
                    path: "/org/freedesktop/DBus",
                    interface: bus,
                    member: "Hello",
                },
                vec![],
            )?;
        }
        Ok(connection)
    }

    /// EXTERNAL: we are who the kernel says. No identity is named, as in a user namespace ours has
    /// another number than the one the other end sees.
    fn authenticate(&mut self, address: &Address) -> Result<(), SystemdError> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line(deadline)?;
            match line.split(' ').next() {
                Some("OK") => return Ok(()),
                Some("DATA") => {}
                _ => {
                    return Err(SystemdError::Authentication {
                        address: address.place.to_string(),
                        answer: line,
                    });
                }
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String, SystemdError> {
        loop {
            if let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
                self.inbox.drain(..end + 2);
                return Ok(line);
            }
            if self.inbox.len() > MAX_LINE {
                return Err(SystemdError::Malformed {
                    what: "a line of the handshake is too long",
                });
            }
            self.fill(deadline, "the handshake")?;
        }
    }

    /// Calls a method and waits for its answer.
    pub(crate) fn call(&mut self, method: Method<'_>, body: Vec<Value>) -> Result<Vec<Value>, SystemdError> {
        self.serial += 1;
        let call = Message {
            kind: Kind::Call,
            serial: self.serial,
            path: Some(method.path.to_owned()),
            interface: Some(method.interface.to_owned()),
            member: Some(method.member.to_owned()),
            destination: (!self.is_direct).then(|| method.destination.to_owned()),
            body,
            ..Message::default()
        };
        self.send(&call.encode())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline, method.member)?;
            match message.kind {
                Kind::Signal => self.signals.push_back(message),
                Kind::Return if message.reply_to == Some(call.serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(call.serial) => {
                    return Err(SystemdError::Refused {
                        method: method.member,
                        name: message.error.unwrap_or_default(),
                        message: message
                            .body
                            .first()
                            .and_then(Value::as_text)
                            .unwrap_or_default()
                            .to_owned(),
                    });
                }
                _ => {}
            }
        }
    }

    /// Waits for the signal of this name about which `wanted` answers something.
    pub(crate) fn await_signal<T>(
        &mut self,
        member: &'static str,
        wanted: impl Fn(&[Value]) -> Option<T>,
    ) -> Result<T, SystemdError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.receive(deadline, member)?,
            };
            if message.kind == Kind::Signal
                && message.member.as_deref() == Some(member)
                && let Some(found) = wanted(&message.body)
            {
                return Ok(found);
            }
        }
    }

    fn receive(&mut self, deadline: Instant, what: &'static str) -> Result<Message, SystemdError> {
        loop {
            if self.inbox.len() >= FIXED_HEADER {
                let length = Message::length(&self.inbox[..FIXED_HEADER])?;
                if self.inbox.len() >= length {
                    let rest = self.inbox.split_off(length);
                    let bytes = std::mem::replace(&mut self.inbox, rest);
                    return Message::decode(&bytes);
                }
            }
            self.fill(deadline, what)?;
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), SystemdError> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(SystemdError::Transfer {
                        action: "write to",
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Reads what is there, waiting for it if need be.
    fn fill(&mut self, deadline: Instant, method: &'static str) -> Result<(), SystemdError> {
        let failed = |errno: Errno| SystemdError::Transfer {
            action: "read from",
            source: errno.into(),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)));
        if ready.map_err(failed)? == 0 {
            return Err(SystemdError::Deadline {
                method,
                waited_s: PATIENCE.as_secs(),
            });
        }
        let mut chunk = [0u8; 4096];
        let received =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::empty()));
        match received.map_err(failed)? {
            (0, _) => Err(failed(Errno::CONNRESET)),
            (length, _) => {
                self.inbox.extend_from_slice(&chunk[..length]);
                Ok(())
            }
        }
    }
}
