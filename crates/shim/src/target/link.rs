//! The connection to a target: every step without waiting.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::plan::{Address, TlsPlan};

/// Longest list of addresses accepted from the helper.
const LONGEST_ANSWER: usize = 16 << 10;

/// How far a connection has come.
#[derive(Debug)]
enum State {
    Down,
    /// The helper looks a name up.
    Resolving {
        pipe: OwnedFd,
        answer: Vec<u8>,
    },
    /// The kernel connects; further addresses are tried if it cannot.
    Connecting {
        fd: OwnedFd,
        rest: Vec<SocketAddr>,
    },
    /// The helper connects, and sends one byte when it has.
    Handshaking {
        fd: OwnedFd,
    },
    Up {
        fd: OwnedFd,
        is_datagram: bool,
    },
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something is still awaited.
    Pending,
    /// Connected.
    Up,
    /// Why there is no connection.
    Failed(String),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Something to read.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

/// A connection and its address.
#[derive(Debug)]
pub(super) struct Link {
    address: Address,
    helper: Option<PathBuf>,
    state: State,
    /// Changes with each new descriptor.
    generation: u32,
}

impl Link {
    pub(super) fn new(address: Address, helper: Option<PathBuf>) -> Self {
        Self {
            address,
            helper,
            state: State::Down,
            generation: 0,
        }
    }

    /// Begins to connect.
    pub(super) fn begin(&mut self) -> Step {
        let address = self.address.clone();
        match &address {
            Address::Nowhere => Step::Failed("this shim does not know the target's kind".to_owned()),
            Address::Unix { paths, datagram } => self.begin_unix(paths, *datagram),
            Address::Udp { host, port } | Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => self.connect(vec![SocketAddr::new(ip, *port)]),
                Err(_) => self.resolve(host, *port),
            },
            Address::Tls { host, port, tls } => self.handshake(host, *port, tls),
        }
    }

    /// Goes on after the descriptor has become ready.
    pub(super) fn advance(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Down => Step::Pending,
            State::Resolving { pipe, answer } => self.take_answer(pipe, answer),
            State::Connecting { fd, rest } => match rustix::net::sockopt::socket_error(&fd) {
                Ok(Ok(())) => self.keep_up(fd),
                Ok(Err(errno)) | Err(errno) if rest.is_empty() => failed("connect to the target", errno),
                _ => self.connect(rest),
            },
            State::Handshaking { fd } => {
                let mut byte = [0u8; 1];
                match rustix::io::read(&fd, &mut byte) {
                    Ok(1) => self.keep_up(fd),
                    Err(Errno::AGAIN | Errno::INTR) => {
                        self.state = State::Handshaking { fd };
                        Step::Pending
                    }
                    _ => Step::Failed("the TLS connection to the target failed".to_owned()),
                }
            }
            State::Up { fd, is_datagram } => {
                self.state = State::Up { fd, is_datagram };
                Step::Up
            }
        }
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        self.state = State::Down;
    }

    /// The connected descriptor, and whether it keeps messages apart.
    pub(super) fn connected(&self) -> Option<(BorrowedFd<'_>, bool)> {
        match &self.state {
            State::Up { fd, is_datagram } => Some((fd.as_fd(), *is_datagram)),
            _ => None,
        }
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// The descriptor to watch, its generation, and for what.
    pub(super) fn watched(&self, wants_to_write: bool) -> Option<(BorrowedFd<'_>, u32, Wish)> {
        let reading = Wish {
            read: true,
            write: false,
        };
        let (fd, wish) = match &self.state {
            State::Down => return None,
            State::Resolving { pipe, .. } => (pipe, reading),
            State::Handshaking { fd } => (fd, reading),
            State::Connecting { fd, .. } => (
                fd,
                Wish {
                    read: false,
                    write: true,
                },
            ),
            // A datagram socket has nothing to read but errors, which sending reports too.
            State::Up { fd, is_datagram } => (
                fd,
                Wish {
                    read: !is_datagram,
                    write: wants_to_write,
                },
            ),
        };
        Some((fd.as_fd(), self.generation, wish))
    }

    fn enter(&mut self, state: State) {
        self.generation = self.generation.wrapping_add(1);
        self.state = state;
    }

    /// The descriptor is watched already: it keeps its generation.
    fn keep_up(&mut self, fd: OwnedFd) -> Step {
        self.state = State::Up { fd, is_datagram: false };
        Step::Up
    }

    fn up(&mut self, fd: OwnedFd, is_datagram: bool) -> Step {
        self.enter(State::Up { fd, is_datagram });
        Step::Up
    }

    /// A socket of the other kind than asked for is used as it is: `/dev/log` comes as both.
    fn begin_unix(&mut self, paths: &[PathBuf], datagram: bool) -> Step {
        let mut last = Errno::NOENT;
        for path in paths {
            for is_datagram in [datagram, !datagram] {
                match connect_unix(path, is_datagram) {
                    Ok(fd) => return self.up(fd, is_datagram),
                    Err(Errno::PROTOTYPE) => last = Errno::PROTOTYPE,
                    Err(errno) => {
                        last = errno;
                        break;
                    }
                }
            }
        }
        failed("connect to the target's socket", last)
    }

    /// Connects to the first of some addresses that answers.
    fn connect(&mut self, addresses: Vec<SocketAddr>) -> Step {
        let is_datagram = matches!(self.address, Address::Udp { .. });
        let kind = if is_datagram {
            SocketType::DGRAM
        } else {
            SocketType::STREAM
        };
        let mut last = Errno::HOSTUNREACH;
        let mut rest = addresses.into_iter();
        while let Some(address) = rest.next() {
            let family = if address.is_ipv4() {
                AddressFamily::INET
            } else {
                AddressFamily::INET6
            };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let connected =
                rustix::net::socket_with(family, kind, flags, None).and_then(|fd| {
                    match rustix::net::connect(&fd, &address) {
                        Ok(()) => Ok((fd, true)),
                        Err(Errno::INPROGRESS) => Ok((fd, false)),
                        Err(errno) => Err(errno),
                    }
                });
            match connected {
                Ok((fd, true)) => return self.up(fd, is_datagram),
                Ok((fd, false)) => {
                    self.enter(State::Connecting {
                        fd,
                        rest: rest.collect(),
                    });
                    return Step::Pending;
                }
                Err(errno) => last = errno,
            }
        }
        failed("connect to the target", last)
    }

    /// Has a name looked up: the system's resolver may wait for long, and needs more than a static
    /// program has.
    fn resolve(&mut self, host: &str, port: u16) -> Step {
        let Some(helper) = &self.helper else {
            return Step::Failed(format!("nobody can look up the name {host:?}"));
        };
        let mut command = Command::new(helper);
        command
            .args(["log-target", "resolve", host])
            .arg(port.to_string())
            .stdin(Stdio::null());
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK);
        let spawned = pipe.map_err(std::io::Error::from).and_then(|(reader, writer)| {
            // Only our end must not block, but an answer always fits into the pipe.
            command.stdout(Stdio::from(writer)).stderr(Stdio::null()).spawn()?;
            Ok(reader)
        });
        match spawned {
            Ok(pipe) => {
                let answer = Vec::new();
                self.enter(State::Resolving { pipe, answer });
                Step::Pending
            }
            Err(error) => Step::Failed(format!("cannot run {}: {error}", helper.display())),
        }
    }

    fn take_answer(&mut self, pipe: OwnedFd, mut answer: Vec<u8>) -> Step {
        let mut file = std::fs::File::from(pipe);
        let mut chunk = [0u8; 1024];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) if answer.len() < LONGEST_ANSWER => answer.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let pipe = file.into();
                    self.state = State::Resolving { pipe, answer };
                    return Step::Pending;
                }
                _ => break,
            }
        }
        let text = String::from_utf8_lossy(&answer);
        let addresses: Vec<SocketAddr> = text.lines().filter_map(|line| line.parse().ok()).collect();
        if addresses.is_empty() {
            return Step::Failed("the target's name is not known".to_owned());
        }
        self.connect(addresses)
    }

    /// Has the helper connect; it passes on what it is given.
    fn handshake(&mut self, host: &str, port: u16, tls: &TlsPlan) -> Step {
        let Some(helper) = &self.helper else {
            return Step::Failed("nobody can speak TLS".to_owned());
        };
        let mut command = Command::new(helper);
        command.args(["log-target", "tls", host]).arg(port.to_string());
        for (option, path) in [("--ca", &tls.ca), ("--cert", &tls.certificate), ("--key", &tls.key)] {
            if let Some(path) = path {
                command.arg(option).arg(path);
            }
        }
        if tls.skip_verify {
            command.arg("--skip-verify");
        }
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let spawned = pair.map_err(std::io::Error::from).and_then(|(ours, theirs)| {
            let output = theirs.try_clone()?;
            command
                .stdin(Stdio::from(theirs))
                .stdout(Stdio::from(output))
                .stderr(Stdio::null())
                .spawn()?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            Ok(ours)
        });
        match spawned {
            Ok(fd) => {
                self.enter(State::Handshaking { fd });
                Step::Pending
            }
            Err(error) => Step::Failed(format!("cannot run {}: {error}", helper.display())),
        }
    }
}

fn connect_unix(path: &Path, is_datagram: bool) -> Result<OwnedFd, Errno> {
    let kind = if is_datagram {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

fn failed(what: &str, errno: Errno) -> Step {
    Step::Failed(format!("cannot {what}: {}", std::io::Error::from(errno)))
}
