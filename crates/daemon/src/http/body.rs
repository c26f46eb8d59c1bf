//! Response bodies: nothing, bytes, or a stream fed by a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

/// How many pieces may wait for a slow client before the producer has to wait.
const STREAM_DEPTH: usize = 16;

/// A response body.
pub(crate) enum Body {
    /// Bytes that are all there; `None` once sent.
    Whole(Option<Bytes>),
    /// Pieces to come, sent as they arrive. The response ends when the sender is dropped.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    /// A complete body.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// A body that is written through the returned [`BodyWriter`].
    pub(crate) fn channel() -> (BodyWriter, Self) {
        let (sender, receiver) = mpsc::channel(STREAM_DEPTH);
        (BodyWriter(sender), Self::Stream(receiver))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => receiver
                .poll_recv(cx)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// The writing end of a streamed body. Every write is one flushed chunk.
#[derive(Clone)]
pub(crate) struct BodyWriter(mpsc::Sender<Bytes>);

/// The client of a stream is gone.
#[derive(Debug, thiserror::Error)]
#[error("the client has gone")]
pub(crate) struct ClientGone;

impl BodyWriter {
    /// Sends one piece; waits when the client is slow.
    pub(crate) async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), ClientGone> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.send(bytes).await.map_err(|_| ClientGone)
    }

    /// Sends from a thread that may block.
    pub(crate) fn write_blocking(&self, bytes: impl Into<Bytes>) -> Result<(), ClientGone> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.blocking_send(bytes).map_err(|_| ClientGone)
    }

    /// Sends one JSON document and `end`.
    pub(crate) async fn write_json<T: Serialize>(&self, value: &T, end: &str) -> Result<(), ClientGone> {
        let mut text = serde_json::to_vec(value).expect("invariant: wire types always encode");
        text.extend_from_slice(end.as_bytes());
        self.write(text).await
    }

    /// Resolves when the client has closed its connection.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The write half as a blocking writer, for archives produced on a thread.
pub(crate) struct BlockingBodyWriter(pub(crate) BodyWriter);

impl std::io::Write for BlockingBodyWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .write_blocking(Bytes::copy_from_slice(bytes))
            .map_err(|gone| std::io::Error::new(std::io::ErrorKind::BrokenPipe, gone))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client's socket.
pub(crate) enum Socket {
    /// A local client.
    Unix(UnixStream),
    /// A remote client.
    Tcp(TcpStream),
}

/// A connection that has left HTTP.
pub(crate) struct RawConnection {
    /// The socket itself.
    pub(crate) socket: Socket,
    /// What the HTTP parser had already read behind the request.
    pub(crate) leftover: Bytes,
}

/// What a handler does with a connection it has taken over.
pub(crate) type Takeover = Box<dyn FnOnce(RawConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;
