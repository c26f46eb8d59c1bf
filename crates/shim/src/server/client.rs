//! One attached client: what it is owed, and what it types.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use super::reactor::Interest;
use crate::detach::DetachMatcher;
use crate::log::Stream;
use crate::plan::{AttachSpec, WhenSlow};

/// A throttling client that is owed more stops its process; below half of it the process goes on.
pub(super) const HIGH_WATER: usize = 256 << 10;

/// A client that may be dropped is when it is owed more.
const DROP_ABOVE: usize = 1 << 20;

/// Largest read from a client.
const TYPED: usize = 16 << 10;

/// An attached client.
#[derive(Debug)]
pub(super) struct Client {
    fd: OwnedFd,
    is_socket: bool,
    /// Whose streams these are.
    pub(super) process: u32,
    stdout: bool,
    stderr: bool,
    framed: bool,
    is_throttling: bool,
    detach: Option<DetachMatcher>,
    owed: Vec<u8>,
    sent: usize,
    /// The client ends its side, or is not listened to.
    pub(super) input_ended: bool,
    pub(super) phase: ClientPhase,
    /// What the reactor waits for at present; `None` if it cannot wait for such a descriptor.
    pub(super) interest: Option<Interest>,
}

/// How far the end of a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientPhase {
    /// Attached.
    Open,
    /// Gets what it is owed, nothing more comes.
    Flushing,
    /// Got everything and was told the end; its own end is awaited, so that nothing it still sends
    /// turns the end into a reset.
    Lingering,
    /// To be removed.
    Gone,
}

/// What a client typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// For the process.
    pub(super) bytes: Vec<u8>,
    /// The client typed the detach keys.
    pub(super) detached: bool,
}

impl Client {
    /// A client for a process whose streams are a terminal or not, and that runs already or not.
    pub(super) fn new(fd: OwnedFd, process: u32, spec: &AttachSpec, facts: AttachFacts) -> Self {
        let is_throttling = match spec.when_slow {
            WhenSlow::Throttle => true,
            WhenSlow::Drop => false,
            WhenSlow::Auto => facts.is_terminal || facts.is_before_start,
        };
        let is_socket = rustix::net::sockopt::socket_type(&fd).is_ok();
        if !is_socket && let Ok(flags) = rustix::fs::fcntl_getfl(&fd) {
            // A regular file has no such mode, and needs none.
            let _ = rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK);
        }
        Self {
            fd,
            is_socket,
            process,
            stdout: spec.stdout,
            stderr: spec.stderr,
            framed: spec.framed,
            is_throttling,
            detach: if spec.stdin && facts.is_terminal {
                DetachMatcher::new(&spec.detach_keys)
            } else {
                None
            },
            owed: spec.preface.clone(),
            sent: 0,
            input_ended: !spec.stdin,
            phase: ClientPhase::Open,
            interest: None,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn owed_bytes(&self) -> usize {
        self.owed.len() - self.sent
    }

    /// Whether the process has to wait for this client, given whether it waits already.
    pub(super) fn holds_up(&self, is_waiting: bool) -> bool {
        let limit = if is_waiting { HIGH_WATER / 2 } else { HIGH_WATER };
        self.is_throttling && self.phase == ClientPhase::Open && self.owed_bytes() > limit
    }

    /// Sends a piece of output, or remembers what could not be sent.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let is_wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        if !is_wanted || self.phase != ClientPhase::Open {
            return;
        }
        let header = if self.framed {
            frame_header(stream, bytes.len())
        } else {
            [0; 8]
        };
        let header: &[u8] = if self.framed { &header } else { &[] };
        let mut done = 0;
        if self.owed_bytes() == 0 {
            match self.send(header, bytes) {
                Ok(count) => done = count,
                Err(Errno::AGAIN) => {}
                Err(_) => return self.phase = ClientPhase::Gone,
            }
        }
        self.owed.extend_from_slice(header.get(done..).unwrap_or(&[]));
        self.owed
            .extend_from_slice(bytes.get(done.saturating_sub(header.len())..).unwrap_or(&[]));
        if !self.is_throttling && self.owed_bytes() > DROP_ABOVE {
            self.phase = ClientPhase::Gone;
        }
    }

    /// Sends what is owed, as much as goes, and moves on to the end if that is due.
    pub(super) fn flush(&mut self) {
        while self.owed_bytes() > 0 {
            match self.send(&[], &self.owed[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => break,
                Err(_) => return self.phase = ClientPhase::Gone,
            }
        }
        if self.owed_bytes() == 0 {
            self.owed = Vec::new();
            self.sent = 0;
            if self.phase == ClientPhase::Flushing {
                self.say_end();
            }
        } else if self.sent > HIGH_WATER {
            self.owed.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// No more output comes: the client gets what it is owed and then the end.
    pub(super) fn finish(&mut self) {
        if self.phase == ClientPhase::Open {
            self.phase = ClientPhase::Flushing;
            self.flush();
        }
    }

    fn say_end(&mut self) {
        let told = self.is_socket && rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Write).is_ok();
        self.phase = if told {
            ClientPhase::Lingering
        } else {
            ClientPhase::Gone
        };
    }

    /// Reads what the client typed. After its end `input_ended` is set and what the detach keys
    /// held back is handed out.
    pub(super) fn read(&mut self) -> Typed {
        let mut buffer = [0u8; TYPED];
        let length = match self.receive(&mut buffer) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Typed::default(),
            Err(_) => 0,
        };
        let mut typed = Typed::default();
        match &mut self.detach {
            Some(matcher) => typed.detached = matcher.feed(&buffer[..length], &mut typed.bytes),
            None => typed.bytes.extend_from_slice(&buffer[..length]),
        }
        if length == 0 {
            self.input_ended = true;
            if let Some(matcher) = &mut self.detach {
                matcher.finish(&mut typed.bytes);
            }
        }
        typed
    }

    /// Throws away what a client sends after the end; true once it has ended too.
    pub(super) fn discard(&mut self) -> bool {
        let mut buffer = [0u8; TYPED];
        loop {
            match self.receive(&mut buffer) {
                Ok(0) => return true,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => return true,
            }
        }
    }

    /// What to wait for, given whether the process takes input now.
    pub(super) fn wanted_interest(&self, process_takes_input: bool) -> Interest {
        let read = match self.phase {
            ClientPhase::Open => !self.input_ended && process_takes_input,
            ClientPhase::Lingering => true,
            ClientPhase::Flushing | ClientPhase::Gone => false,
        };
        Interest {
            read,
            write: self.owed_bytes() > 0,
        }
    }

    /// SECURITY: the open file is shared with whoever sent it, so its flags stay as they are and
    /// each call says that it must not block.
    fn send(&self, header: &[u8], bytes: &[u8]) -> Result<usize, Errno> {
        let parts = [IoSlice::new(header), IoSlice::new(bytes)];
        rustix::io::retry_on_intr(|| {
            if self.is_socket {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::sendmsg(&self.fd, &parts, &mut SendAncillaryBuffer::default(), flags)
            } else {
                rustix::io::writev(&self.fd, &parts)
            }
        })
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.is_socket {
            rustix::net::recv(&self.fd, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)
        } else {
            rustix::io::read(&self.fd, buffer)
        }
    }
}

/// What the policy for slow clients depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttachFacts {
    pub(super) is_terminal: bool,
    pub(super) is_before_start: bool,
}

/// Docker's header: the stream, three zeros, the length in network order.
fn frame_header(stream: Stream, length: usize) -> [u8; 8] {
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [number, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    const PIPES: AttachFacts = AttachFacts {
        is_terminal: false,
        is_before_start: false,
    };
    const TERMINAL: AttachFacts = AttachFacts {
        is_terminal: true,
        is_before_start: false,
    };

    fn attached(spec: &AttachSpec, facts: AttachFacts) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Client::new(ours.into(), 0, spec, facts), theirs)
    }

    fn outputs(framed: bool) -> AttachSpec {
        AttachSpec {
            stdout: true,
            stderr: true,
            framed,
            ..AttachSpec::default()
        }
    }

    #[test]
    fn frames_name_stream_and_length() {
        let (mut client, mut peer) = attached(&outputs(true), PIPES);
        client.push(Stream::Stderr, b"oh");
        client.finish();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).expect("read");
        assert_eq!(got, b"\x02\0\0\0\0\0\0\x02oh");
    }

    #[test]
    fn a_terminal_is_framed_only_for_who_asks() {
        for (framed, wanted) in [(false, &b"raw"[..]), (true, b"\x01\0\0\0\0\0\0\x03raw")] {
            let (mut client, mut peer) = attached(&outputs(framed), TERMINAL);
            client.push(Stream::Stdout, b"raw");
            client.finish();
            let mut got = Vec::new();
            peer.read_to_end(&mut got).expect("read");
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn a_slow_client_gets_everything_in_order_or_is_dropped() {
        let chunk = [7u8; 32 << 10];
        let (mut client, _peer) = attached(&outputs(false), PIPES);
        while client.phase == ClientPhase::Open {
            client.push(Stream::Stdout, &chunk);
            assert!(client.owed_bytes() <= DROP_ABOVE + chunk.len());
        }
        assert_eq!(client.phase, ClientPhase::Gone);

        let (mut client, mut peer) = attached(&outputs(false), TERMINAL);
        let mut pushed = 0;
        while !client.holds_up(false) {
            client.push(Stream::Stdout, &chunk);
            pushed += chunk.len();
        }
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).expect("read");
            got.len()
        });
        while client.owed_bytes() > 0 {
            client.flush();
        }
        assert!(!client.holds_up(true));
        client.finish();
        assert_eq!(reader.join().expect("joined"), pushed);
    }

    #[test]
    fn detach_keys_are_kept_from_the_process() {
        let spec = AttachSpec {
            stdin: true,
            detach_keys: AttachSpec::DEFAULT_DETACH_KEYS.into(),
            ..outputs(false)
        };
        let (mut client, mut peer) = attached(&spec, TERMINAL);
        peer.write_all(b"ls\x10\x11rest").expect("written");
        assert_eq!(
            client.read(),
            Typed {
                bytes: b"ls".to_vec(),
                detached: true
            }
        );
    }

    #[test]
    fn what_arrives_after_the_end_does_not_reset_the_connection() {
        let (mut client, mut peer) = attached(
            &AttachSpec {
                stdin: true,
                ..outputs(false)
            },
            PIPES,
        );
        client.push(Stream::Stdout, b"bye");
        client.finish();
        assert_eq!(client.phase, ClientPhase::Lingering);
        peer.write_all(b"late input").expect("written");
        assert!(!client.discard());
        let mut got = String::new();
        peer.read_to_string(&mut got).expect("no reset");
        assert_eq!(got, "bye");
        drop(peer);
        assert!(client.discard());
    }
}
