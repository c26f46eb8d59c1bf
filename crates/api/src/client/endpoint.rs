//! Where an engine listens, and how to connect to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket, `unix:///run/wharf/wharf.sock`.
    Unix(PathBuf),
    /// Plain TCP, `tcp://host:port`.
    Tcp {
        /// Host and port.
        authority: String,
    },
}

/// A text that is no address of an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No scheme, or an empty address.
    #[error("unable to parse docker host `{text}`")]
    Malformed {
        /// The text.
        text: String,
    },
    /// A scheme that is not spoken here.
    #[error("unsupported protocol scheme \"{scheme}\" in host {text:?}: use unix:// or tcp://")]
    UnsupportedScheme {
        /// The scheme.
        scheme: String,
        /// The text.
        text: String,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed { text: text.to_owned() };
        let (scheme, address) = text.split_once("://").ok_or_else(malformed)?;
        if address.is_empty() {
            return Err(malformed());
        }
        match scheme {
            "unix" => Ok(Self::Unix(PathBuf::from(address))),
            "tcp" | "http" => Ok(Self::Tcp {
                authority: with_port(address),
            }),
            _ => Err(EndpointError::UnsupportedScheme {
                scheme: scheme.to_owned(),
                text: text.to_owned(),
            }),
        }
    }
}

/// Docker's port when none is given, and no path.
fn with_port(address: &str) -> String {
    let authority = address.split('/').next().unwrap_or(address);
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.ends_with(':') && port.parse::<u16>().is_ok());
    if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:2375")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { authority } => write!(f, "tcp://{authority}"),
        }
    }
}

impl Endpoint {
    /// Opens a connection.
    ///
    /// # Errors
    /// The system's error.
    pub async fn connect(&self) -> io::Result<Transport> {
        match self {
            Self::Unix(path) => Ok(Transport::Unix(UnixStream::connect(path).await?)),
            Self::Tcp { authority } => {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Ok(Transport::Tcp(stream))
            }
        }
    }

    /// The `Host` header of requests.
    #[must_use]
    pub fn host_header(&self) -> &str {
        match self {
            Self::Unix(_) => "api.moby.localhost",
            Self::Tcp { authority } => authority,
        }
    }
}

/// An open connection to an engine.
#[derive(Debug)]
pub enum Transport {
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

macro_rules! on_stream {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Unix($stream) => $call,
            Transport::Tcp($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        let check = |text: &str, expected: &str| {
            let shown = match text.parse::<Endpoint>() {
                Ok(endpoint) => endpoint.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{text}");
        };
        check("unix:///run/x.sock", "unix:///run/x.sock");
        check("tcp://h:1", "tcp://h:1");
        check("tcp://h", "tcp://h:2375");
        check("tcp://[::1]:80/x", "tcp://[::1]:80");
        check("nothing", "unable to parse docker host `nothing`");
        check("unix://", "unable to parse docker host `unix://`");
        assert!("ssh://h".parse::<Endpoint>().is_err());
    }
}
