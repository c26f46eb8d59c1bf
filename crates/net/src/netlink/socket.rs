//! A netlink socket: one batch out, all answers in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::message::{F_ACK, F_DUMP, HEADER, Message};

/// Large enough for one chunk of a dump (the kernel makes at most 32 KiB).
const RECEIVE_BUFFER: usize = 64 << 10;
const SEND_BUFFER: usize = 8 << 20;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Which part of the kernel the socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Route,
    Netfilter,
}

/// A message of a batch that the kernel refused.
#[derive(Debug)]
pub(crate) struct BatchError {
    /// Position in the batch; `None` when the socket itself failed.
    pub index: Option<usize>,
    pub source: io::Error,
}

impl BatchError {
    fn socket(source: Errno) -> BatchError {
        BatchError {
            index: None,
            source: source.into(),
        }
    }

    /// Whether the kernel said this.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno.raw_os_error())
    }
}

/// A socket of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one in the calling thread's namespace.
    pub(crate) fn open(family: Family) -> io::Result<Socket> {
        let protocol = match family {
            Family::Route => None,
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        if family == Family::Netfilter {
            // A whole ruleset goes out in one message; without the privilege the default must do.
            let _ = sockopt::set_socket_send_buffer_size_force(&fd, SEND_BUFFER);
        }
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends all messages, each on its own (rtnetlink); the first failure is
    /// the error, the messages behind it were still processed.
    pub(crate) fn batch(&mut self, messages: &[Message]) -> Result<(), BatchError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(Message::len).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&message.finish(self.sequence, F_ACK));
        }
        self.exchange(&bytes, first, messages.len(), messages.len())
    }

    /// Sends all messages as one transaction of nfnetlink: `begin` and `end`
    /// are its brackets, the last message before `end` is acknowledged.
    pub(crate) fn transaction(
        &mut self,
        begin: &Message,
        messages: &[Message],
        end: &Message,
    ) -> Result<(), BatchError> {
        let mut bytes = Vec::with_capacity(messages.iter().map(Message::len).sum::<usize>() + begin.len() + end.len());
        self.sequence = self.sequence.wrapping_add(1);
        bytes.extend_from_slice(&begin.finish(self.sequence, 0));
        let first = self.sequence.wrapping_add(1);
        for (index, message) in messages.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = if index + 1 == messages.len() { F_ACK } else { 0 };
            bytes.extend_from_slice(&message.finish(self.sequence, flags));
        }
        self.sequence = self.sequence.wrapping_add(1);
        bytes.extend_from_slice(&end.finish(self.sequence, 0));
        self.exchange(&bytes, first, messages.len(), 1)
    }

    /// All answers of a dump request, as payloads behind their headers.
    pub(crate) fn dump(&mut self, request: &Message) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.finish(sequence, F_DUMP))?;
        let mut found = Vec::new();
        let mut buffer = vec![0u8; RECEIVE_BUFFER];
        loop {
            let length = self.receive(&mut buffer)?;
            for answer in (Answers {
                rest: &buffer[..length],
            }) {
                match answer.kind {
                    _ if answer.sequence != sequence => {}
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => return Err(error_of(answer.payload).unwrap_or(Errno::PROTO).into()),
                    _ => found.push(answer.payload.to_vec()),
                }
            }
        }
    }

    /// The one answer of a request for one object; `None` if there is none such.
    pub(crate) fn query(&mut self, request: &Message) -> io::Result<Option<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.send(&request.finish(sequence, 0))?;
        let mut buffer = vec![0u8; RECEIVE_BUFFER];
        loop {
            let length = self.receive(&mut buffer)?;
            let mut answers = Answers {
                rest: &buffer[..length],
            };
            let Some(answer) = answers.find(|answer| answer.sequence == sequence) else {
                continue;
            };
            if answer.kind != NLMSG_ERROR {
                return Ok(Some(answer.payload.to_vec()));
            }
            return match error_of(answer.payload) {
                Some(Errno::NODEV | Errno::NOENT) => Ok(None),
                other => Err(other.unwrap_or(Errno::PROTO).into()),
            };
        }
    }

    fn exchange(&mut self, bytes: &[u8], first: u32, count: usize, acknowledged: usize) -> Result<(), BatchError> {
        self.send(bytes).map_err(BatchError::socket)?;
        let mut buffer = vec![0u8; RECEIVE_BUFFER];
        let mut seen = 0;
        let mut failure: Option<BatchError> = None;
        while seen < acknowledged {
            let length = match self.receive(&mut buffer) {
                Ok(length) => length,
                // ORDER: the kernel queues every answer before the sending call
                // returns, so an empty queue means the rest was swallowed by an abort.
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(failure.unwrap_or(BatchError::socket(errno))),
            };
            for answer in (Answers {
                rest: &buffer[..length],
            })
            .filter(|answer| answer.kind == NLMSG_ERROR)
            {
                let index = answer.sequence.wrapping_sub(first) as usize;
                seen += usize::from(index < count);
                if let Some(errno) = error_of(answer.payload) {
                    let index = (index < count).then_some(index);
                    failure.get_or_insert(BatchError {
                        index,
                        source: errno.into(),
                    });
                }
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if seen < acknowledged => Err(BatchError::socket(Errno::PROTO)),
            None => Ok(()),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        self.drain();
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty())).map(drop)
    }

    /// Throws away answers nobody read, so that they cannot be taken for new ones.
    fn drain(&self) {
        let mut buffer = [0u8; 64];
        while rustix::net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT).is_ok() {}
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let received = rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT))?;
        Ok(received.1)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error in an acknowledgement; `None` is success.
fn error_of(payload: &[u8]) -> Option<Errno> {
    let code = payload.get(..4).map_or(-Errno::PROTO.raw_os_error(), |bytes| {
        i32::from_ne_bytes(bytes.try_into().expect("invariant: four bytes were taken"))
    });
    (code != 0).then(|| Errno::from_raw_os_error(code.wrapping_neg()))
}

struct Answer<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

struct Answers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let header = self.rest.get(..HEADER)?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = word(0) as usize;
        let payload = self.rest.get(HEADER..length)?;
        let answer = Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: word(8),
            payload,
        };
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    }
}
