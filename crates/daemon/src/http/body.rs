//! Response bodies: nothing, bytes, or a stream fed by a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use serde::Serialize;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::request;

/// How many pieces may wait for a slow client before the producer has to wait.
const STREAM_DEPTH: usize = 16;

/// A response body.
pub(crate) enum Body {
    /// Bytes that are all there; `None` once sent.
    Whole(Option<Bytes>),
    /// Pieces to come, sent as they arrive. The response ends when the sender is dropped, and
    /// breaks off at an error.
    Stream(mpsc::Receiver<Result<Bytes, Broken>>),
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

/// The producer failed after the headers were sent: the connection is cut, so that the client
/// sees a broken transfer and not a short one.
#[derive(Debug, thiserror::Error)]
#[error("the answer breaks off: {0}")]
pub(crate) struct Broken(pub(crate) String);

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(receiver) => receiver
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
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
pub(crate) struct BodyWriter(mpsc::Sender<Result<Bytes, Broken>>);

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
        self.0.send(Ok(bytes)).await.map_err(|_| ClientGone)
    }

    /// Breaks the answer off.
    pub(crate) async fn fail(&self, reason: impl Into<String>) {
        let _ = self.0.send(Err(Broken(reason.into()))).await;
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

/// A request body read by blocking code, on a thread of its own.
pub(crate) struct BodyReader {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    current: Bytes,
}

impl BodyReader {
    /// Starts to take the body in; at most a few pieces wait for the reader.
    pub(crate) fn new(mut body: Incoming) -> Self {
        let (sender, pieces) = mpsc::channel(STREAM_DEPTH);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                let piece = frame.map(|frame| frame.into_data().unwrap_or_default());
                let piece = piece.map_err(|error| std::io::Error::new(std::io::ErrorKind::UnexpectedEof, error));
                if sender.send(piece).await.is_err() {
                    return request::drain(body).await;
                }
            }
        });
        Self {
            pieces,
            current: Bytes::new(),
        }
    }
}

impl std::io::Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let taken = self.current.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.current.split_to(taken));
        Ok(taken)
    }
}
