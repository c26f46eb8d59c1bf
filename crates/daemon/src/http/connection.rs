//! One client connection: HTTP/1.1 until it ends or a handler takes the socket over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::body::{Body, RawConnection, Socket, Takeover};
use super::reply::Content;
use super::serve;
use crate::app::App;

/// How long a connection may sit without a complete request head. Go clients keep idle
/// connections for 90 s; a shorter limit here would make their next request race the close.
const IDLE_LIMIT: Duration = Duration::from_secs(300);

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve<S>(app: Arc<App>, stream: S, stopping: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Into<Socket> + Unpin + Send + 'static,
{
    let (hand_over, mut takeovers) = mpsc::channel(1);
    let service = HttpService { app, hand_over };
    let mut connection = http1::Builder::new()
        .title_case_headers(true)
        .header_read_timeout(IDLE_LIMIT)
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let taken = tokio::select! {
        result = &mut connection => return report(result),
        Some(takeover) = takeovers.recv() => Some(takeover),
        () = stopping.cancelled() => None,
    };
    match taken {
        Some(takeover) => {
            let parts = connection.into_parts();
            let raw = RawConnection {
                socket: parts.io.into_inner().into(),
                leftover: parts.read_buf,
            };
            takeover(raw).await;
        }
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            report(connection.await);
        }
    }
}

fn report(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The service of one connection.
struct HttpService {
    app: Arc<App>,
    hand_over: mpsc::Sender<Takeover>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, std::convert::Infallible>> + Send>>;

impl Service<hyper::Request<Incoming>> for HttpService {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Answering;

    fn call(&self, request: hyper::Request<Incoming>) -> Answering {
        let app = Arc::clone(&self.app);
        let hand_over = self.hand_over.clone();
        Box::pin(async move {
            let reply = serve::answer(app, request).await;
            match reply.content {
                Content::Body(body) => {
                    let mut response = Response::new(body);
                    *response.status_mut() = reply.status;
                    *response.headers_mut() = reply.headers;
                    Ok(response)
                }
                Content::Takeover(takeover) => {
                    // ORDER: nothing is answered through hyper any more; the connection's driver
                    // drops this future and takes the socket out.
                    let _ = hand_over.send(takeover).await;
                    std::future::pending().await
                }
            }
        })
    }
}
