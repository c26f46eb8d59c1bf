//! Attaching clients: accepted first, handed to the shim once the client knows.
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use wharf_shim::log::{LogReader, ReadOptions, Stream};
use wharf_shim::plan::AttachSpec;

use super::blocking::blocking;
use super::exec::{self, ExecSession};
use super::handle::{AttachPromise, Handle};
use super::happened;
use super::paths::Places;
use crate::Shared;
use crate::error::{Context, Error, Result};
use crate::logging;
use crate::model::Status;
use crate::model::requests::{AttachQuery, ClientStream, StartExec};

/// An attach that was accepted; becomes effective with [`AttachTicket::attach`] after the
/// client was told so. A start waits for tickets given out before it, so that no byte is
/// lost; dropping the ticket gives it up.
#[derive(Debug)]
pub struct AttachTicket {
    /// The container (or exec) has a terminal: the stream is not framed.
    pub tty: bool,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Container {
        shared: Arc<Shared>,
        handle: Arc<Handle>,
        query: AttachQuery,
        promise: AttachPromise,
    },
    Exec {
        shared: Arc<Shared>,
        handle: Arc<Handle>,
        session: Arc<ExecSession>,
        request: StartExec,
    },
}

impl AttachTicket {
    /// Accepts an attach to a container.
    pub(super) fn for_container(shared: Arc<Shared>, handle: Arc<Handle>, query: AttachQuery) -> Result<Self> {
        let record = handle.record();
        parse_detach_keys(&query.detach_keys)?;
        if query.logs && !logging::is_readable(&record.host.log_config) {
            return Err(Error::unimplemented(
                "configured logging driver does not support reading",
            ));
        }
        match record.state.status {
            Status::Paused => {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    record.name
                )));
            }
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    record.name
                )));
            }
            _ => {}
        }
        let promise = handle.promise_attach()?;
        happened::publish(&shared.events, &record, "attach", &[]);
        let tty = record.config.tty;
        Ok(Self {
            tty,
            target: Target::Container {
                shared,
                handle,
                query,
                promise,
            },
        })
    }

    /// Accepts a client of an exec session.
    pub(super) fn for_exec(
        shared: Arc<Shared>,
        handle: Arc<Handle>,
        session: Arc<ExecSession>,
        request: StartExec,
    ) -> Self {
        Self {
            tty: session.request.tty,
            target: Target::Exec {
                shared,
                handle,
                session,
                request,
            },
        }
    }

    /// Whether output can follow the answer's head without the client doing anything.
    fn may_answer_at_once(&self) -> bool {
        match &self.target {
            Target::Container { handle, query, .. } => query.logs || handle.record().state.is_running(),
            Target::Exec { .. } => true,
        }
    }

    /// Hands over the client's connection.
    pub async fn attach(self, stream: ClientStream) -> Result<()> {
        if self.may_answer_at_once() {
            await_head_read(&stream.socket).await;
        }
        match self.target {
            Target::Container {
                shared,
                handle,
                query,
                promise,
            } => attach_container(&shared, &handle, query, promise, stream).await,
            Target::Exec {
                shared,
                handle,
                session,
                request,
            } => exec::start_attached(&shared, &handle, &session, &request, stream).await,
        }
    }
}

/// How long a client may take to read the head of the answer before its stream begins anyway.
const HEAD_GRACE: Duration = Duration::from_millis(100);

/// How long it is looked at without a pause: clients take it at once.
const HEAD_GLANCE: Duration = Duration::from_micros(150);

/// How often it is looked at then: the scheduler is what is waited for.
const HEAD_LOOK: Duration = Duration::from_micros(50);

/// Waits until the client took the head that was written before its stream.
///
/// COMPAT: clients that read the head through a buffer and the stream from the socket below it
/// (docker-py) lose what arrives together with the head. Docker's own processes start late enough
/// to hide that; ours do not.
async fn await_head_read(socket: &OwnedFd) {
    let is_unread = |socket: &OwnedFd| wharf_sys::fd::unread_by_peer(socket).is_ok_and(|left| left > 0);
    let begun = Instant::now();
    while begun.elapsed() < HEAD_GLANCE {
        if !is_unread(socket) {
            return;
        }
        tokio::task::yield_now().await;
    }
    let Ok(socket) = socket.try_clone() else { return };
    let look = move || {
        while is_unread(&socket) && begun.elapsed() < HEAD_GRACE {
            std::thread::sleep(HEAD_LOOK);
        }
        Ok(())
    };
    // Nothing depends on it but the comfort of such clients.
    let _ = blocking("waiting for the client", look).await;
}

async fn attach_container(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    query: AttachQuery,
    promise: AttachPromise,
    stream: ClientStream,
) -> Result<()> {
    let record = handle.record();
    let mut socket = stream.socket;
    if query.logs {
        let log = Places::of(&shared.config, &record.id).log(&record.id);
        socket = replay(log, &query, stream.framed, socket).await?;
    }
    if !query.stream {
        return Ok(());
    }
    let spec = AttachSpec {
        stdin: query.stdin && record.config.open_stdin,
        stdout: query.stdout,
        stderr: query.stderr,
        framed: stream.framed,
        detach_keys: parse_detach_keys(&query.detach_keys)?,
        early_stdin: stream.early_input,
        ..AttachSpec::default()
    };
    promise.keep(spec, socket).await
}

/// Bytes of the log that are written to the client at a time.
const REPLAY_CHUNK: usize = 64 << 10;

/// Writes what was logged so far to the client.
async fn replay(log: std::path::PathBuf, query: &AttachQuery, framed: bool, socket: OwnedFd) -> Result<OwnedFd> {
    let options = ReadOptions {
        stdout: query.stdout,
        stderr: query.stderr,
        ..ReadOptions::default()
    };
    let mut reader = blocking("opening the log", move || {
        LogReader::open(&log, options).internal(|| "open the log".into())
    })
    .await?;
    let mut client = stream_of(socket)?;
    loop {
        let (back, bytes) = blocking("reading the log", move || {
            let mut bytes = Vec::new();
            while bytes.len() < REPLAY_CHUNK {
                let Some(record) = reader.next_record().internal(|| "read the log".into())? else {
                    break;
                };
                frame(&mut bytes, record.stream, &record.line, framed);
            }
            Ok((reader, bytes))
        })
        .await?;
        reader = back;
        if bytes.is_empty() {
            break;
        }
        client
            .write_all(&bytes)
            .await
            .internal(|| "write to the client".into())?;
    }
    let std = client
        .into_std()
        .internal(|| "take the client's connection back".into())?;
    Ok(std.into())
}

fn frame(bytes: &mut Vec<u8>, stream: Stream, line: &[u8], framed: bool) {
    if framed {
        let kind = if stream == Stream::Stderr { 2 } else { 1 };
        bytes.extend([kind, 0, 0, 0]);
        bytes.extend(u32::try_from(line.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend(line);
}

/// A stream socket as an asynchronous one. TCP sockets work too: only read, write and
/// shutdown are used of it.
fn stream_of(socket: OwnedFd) -> Result<UnixStream> {
    let std = std::os::unix::net::UnixStream::from(socket);
    std.set_nonblocking(true)
        .internal(|| "prepare the client's connection".into())?;
    UnixStream::from_std(std).internal(|| "prepare the client's connection".into())
}

/// Writes bytes to a client and ends its stream.
pub(super) async fn write_all(socket: OwnedFd, bytes: Vec<u8>) -> Result<()> {
    let mut client = stream_of(socket)?;
    client
        .write_all(&bytes)
        .await
        .internal(|| "write to the client".into())?;
    client.shutdown().await.internal(|| "end the client's stream".into())
}

/// Reads `ctrl-p,ctrl-q` or `a,b,c`; empty is the default.
pub(super) fn parse_detach_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(AttachSpec::DEFAULT_DETACH_KEYS.to_vec());
    }
    text.split(',')
        .map(parse_key)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| Error::invalid(format!("invalid detach keys ({text}) provided")))
}

fn parse_key(word: &str) -> Option<u8> {
    if let [single] = word.as_bytes() {
        return Some(*single);
    }
    match word.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        [b'@'] => Some(0),
        [b'['] => Some(27),
        [b'\\'] => Some(28),
        [b']'] => Some(29),
        [b'^'] => Some(30),
        [b'_'] => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_read_as_dockers() {
        assert_eq!(parse_detach_keys("").expect("default"), [0x10, 0x11]);
        assert_eq!(parse_detach_keys("ctrl-p,ctrl-q").expect("valid"), [0x10, 0x11]);
        assert_eq!(parse_detach_keys("a,ctrl-[").expect("valid"), [b'a', 27]);
        for wrong in ["ctrl-", "ctrl-A", "ab", "a,,b"] {
            assert!(parse_detach_keys(wrong).is_err(), "{wrong:?}");
        }
    }
}
