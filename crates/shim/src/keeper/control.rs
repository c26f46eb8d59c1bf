//! The control socket: requests of the engine, JSON behind a length of four
//! bytes (big endian), descriptors beside the first byte of the request that
//! needs them. The other half of this contract is in the net crate.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{SendFlags, sockopt};
use serde::{Deserialize, Serialize};

/// Raised with every change an older engine would misunderstand.
const VERSION: u32 = 1;
const REQUEST_MAX: usize = 16 << 20;
const RECEIVE_BUFFER: usize = 64 << 10;
/// An engine that does not read its answer is dropped.
const SEND_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(super) enum Request {
    Hello { version: u32 },
    Apply { changes: Vec<Change> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// Identifies a held port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct PortKey {
    pub protocol: Protocol,
    pub host: SocketAddr,
}

/// A server that queries are forwarded to.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Upstream {
    pub address: IpAddr,
    pub from_host: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(super) enum Change {
    /// With three descriptors: UDP socket, TCP socket, namespace.
    Namespace {
        id: String,
        upstream: Vec<Upstream>,
    },
    DropNamespace {
        id: String,
    },
    ForgetNames,
    Endpoint {
        network: String,
        network_name: String,
        container: String,
        names: Vec<String>,
        addresses: Vec<IpAddr>,
        #[serde(default)]
        links: BTreeMap<String, String>,
    },
    DropEndpoint {
        network: String,
        container: String,
    },
    /// With one descriptor.
    Port {
        #[serde(flatten)]
        key: PortKey,
        target: SocketAddr,
    },
    Retarget {
        #[serde(flatten)]
        key: PortKey,
        target: SocketAddr,
    },
    DropPort {
        #[serde(flatten)]
        key: PortKey,
    },
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortKey>,
}

impl Answer {
    pub(super) fn error(message: impl Into<String>) -> Answer {
        Answer {
            error: Some(message.into()),
            ..Answer::default()
        }
    }

    pub(super) fn hello(version: u32, namespaces: Vec<String>, ports: Vec<PortKey>) -> Answer {
        if version != VERSION {
            return Answer::error(format!("protocol version {version} is not {VERSION}"));
        }
        Answer {
            error: None,
            version: Some(VERSION),
            pid: Some(std::process::id()),
            namespaces,
            ports,
        }
    }
}

/// One engine's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub socket: OwnedFd,
    received: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Connection> {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SEND_DEADLINE))?;
        Ok(Connection {
            socket,
            received: Vec::new(),
            descriptors: VecDeque::new(),
        })
    }

    /// Takes in what has arrived; false at the end of the connection.
    pub(super) fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; RECEIVE_BUFFER];
        let (length, fds) = wharf_sys::fdpass::receive(&self.socket, &mut buffer)?;
        self.received.extend_from_slice(&buffer[..length]);
        self.descriptors.extend(fds);
        Ok(length > 0)
    }

    /// The next whole request, if it is there.
    pub(super) fn next_request(&mut self) -> io::Result<Option<Request>> {
        let Some(prefix) = self.received.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > REQUEST_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(body) = self.received.get(4..4 + length) else {
            return Ok(None);
        };
        let request = serde_json::from_slice(body)?;
        self.received.drain(..4 + length);
        Ok(Some(request))
    }

    /// The next descriptor that came with the request.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    pub(super) fn send(&mut self, answer: &Answer) -> io::Result<()> {
        // Descriptors of a request that failed must not be taken for the next one's.
        self.descriptors.clear();
        let body = serde_json::to_vec(answer)?;
        let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(body);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let sent = rustix::net::send(&self.socket, rest, SendFlags::NOSIGNAL)?;
            rest = &rest[sent..];
        }
        Ok(())
    }
}
