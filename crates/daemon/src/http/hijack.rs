//! Attach and exec leave HTTP: the answer's head is written by hand and the socket goes to
//! whoever owns the container's streams.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::UnixStream;
use wharf_api::stdcopy::{self, StreamKind};

use super::body::{RawConnection, Socket};

/// The head that tells the client that the rest of the connection is the stream.
/// COMPAT: Go's CLI insists on 101 when it asked for an upgrade; others get 200.
pub(crate) fn head(upgrade: bool, media_type: &str) -> Vec<u8> {
    let (status, headers) = match upgrade {
        true => ("101 UPGRADED", "Connection: Upgrade\r\nUpgrade: tcp\r\n"),
        false => ("200 OK", ""),
    };
    format!("HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\n{headers}\r\n").into_bytes()
}

/// Writes `head` and gives the connection away: a plain unix stream socket, and the bytes that
/// were read from it already.
///
/// A local client's own socket is given, so that its stream outlives this process; a remote
/// client is carried through a pair by a task of ours.
pub(crate) async fn hand_over(raw: RawConnection, head: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
    let early = raw.leftover.to_vec();
    let socket = match raw.socket {
        Socket::Unix(mut stream) => {
            stream.write_all(head).await?;
            OwnedFd::from(stream.into_std()?)
        }
        Socket::Tcp(stream) => carry(stream, head).await?,
    };
    Ok((socket, early))
}

async fn carry<S>(mut client: S, head: &[u8]) -> io::Result<OwnedFd>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    client.write_all(head).await?;
    let (mut ours, theirs) = UnixStream::pair()?;
    tokio::spawn(async move {
        // Each direction is closed by itself: the end of stdin is not the end of the output.
        let _ = copy_bidirectional(&mut client, &mut ours).await;
    });
    Ok(OwnedFd::from(theirs.into_std()?))
}

/// Tells a client whose connection has already left HTTP why there will be no stream.
pub(crate) fn report(client: OwnedFd, message: &str, framed: bool) {
    use std::io::Write as _;
    let mut stream = std::os::unix::net::UnixStream::from(client);
    let text = format!("{message}\r\n");
    let bytes = match framed {
        true => stdcopy::frame(StreamKind::SystemError, text.as_bytes()),
        false => text.into(),
    };
    if let Err(error) = stream.write_all(&bytes) {
        tracing::debug!(%error, "a client left before it could be told of a failure");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn heads_are_docker_s() {
        assert_eq!(
            String::from_utf8_lossy(&head(true, "application/vnd.docker.raw-stream")),
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        assert_eq!(
            String::from_utf8_lossy(&head(false, "application/vnd.docker.raw-stream")),
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn remote_clients_are_carried_and_halves_close_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("address");
        let mut client = tokio::net::TcpStream::connect(address).await.expect("connect");
        let (server, _) = listener.accept().await.expect("accept");
        let raw = RawConnection {
            socket: Socket::Tcp(server),
            leftover: Bytes::from_static(b"early"),
        };
        let (given, early) = hand_over(raw, b"HEAD").await.expect("given");
        assert_eq!(early, b"early");
        client.write_all(b"late").await.expect("write");
        client.shutdown().await.expect("half-close");
        let mut given = UnixStream::from_std(given.into()).expect("socket");
        let mut text = String::new();
        given.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "late");
        given.write_all(b"answer").await.expect("still open");
        drop(given);
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "HEADanswer");
    }
}
