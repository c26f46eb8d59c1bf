//! Attach and exec leave HTTP: the answer's head is written by hand and the socket goes to
//! whoever owns the container's streams.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::UnixStream;

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

/// Writes `head` and gives the connection away as a plain unix stream socket.
///
/// A local client's own socket is given, so that its stream outlives this process; a remote
/// client, or one whose parser had read ahead, is carried through a pair by a task of ours.
pub(crate) async fn hand_over(raw: RawConnection, head: &[u8]) -> io::Result<OwnedFd> {
    match (raw.socket, raw.leftover.is_empty()) {
        (Socket::Unix(mut stream), true) => {
            stream.write_all(head).await?;
            Ok(OwnedFd::from(stream.into_std()?))
        }
        (Socket::Unix(stream), false) => carry(stream, head, &raw.leftover).await,
        (Socket::Tcp(stream), _) => carry(stream, head, &raw.leftover).await,
    }
}

async fn carry<S>(mut client: S, head: &[u8], leftover: &[u8]) -> io::Result<OwnedFd>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    client.write_all(head).await?;
    let (ours, theirs) = UnixStream::pair()?;
    let leftover = leftover.to_vec();
    tokio::spawn(async move {
        let mut ours = ours;
        if ours.write_all(&leftover).await.is_ok() {
            // Each direction is closed by itself: the end of stdin is not the end of the output.
            let _ = copy_bidirectional(&mut client, &mut ours).await;
        }
    });
    Ok(OwnedFd::from(theirs.into_std()?))
}

/// Tells a client whose connection has already left HTTP why there will be no stream.
pub(crate) fn report(client: OwnedFd, message: &str) {
    use std::io::Write as _;
    let mut stream = std::os::unix::net::UnixStream::from(client);
    if let Err(error) = stream.write_all(format!("{message}\r\n").as_bytes()) {
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
    async fn bytes_read_ahead_arrive_first_and_halves_close_apart() {
        let (mut client, server) = UnixStream::pair().expect("pair");
        let raw = RawConnection {
            socket: Socket::Unix(server),
            leftover: Bytes::from_static(b"early "),
        };
        let given = hand_over(raw, b"HEAD").await.expect("given");
        client.write_all(b"late").await.expect("write");
        client.shutdown().await.expect("half-close");
        let given = std::os::unix::net::UnixStream::from(given);
        let mut given = UnixStream::from_std(given).expect("socket");
        let mut text = String::new();
        given.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "early late");
        given.write_all(b"answer").await.expect("still open");
        drop(given);
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "HEADanswer");
    }
}
