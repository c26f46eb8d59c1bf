//! Standard streams, to and from a container.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use wharf_api::client::{Hijacked, Response};
use wharf_api::stdcopy::{Decoder, StreamKind};

use crate::error::CliError;
use crate::terminal::{DetachKeys, Input, RawMode};

/// Bytes read at once.
const PIECE: usize = 32 << 10;

/// How the streams of a container meet those of this program.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Standard input goes to the container.
    pub(crate) stdin: bool,
    /// The container has a terminal: its output is raw, and keys can detach.
    pub(crate) tty: bool,
    /// The keys that detach.
    pub(crate) detach_keys: DetachKeys,
}

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The container closed its output.
    Finished,
    /// The user pressed the detach keys.
    Detached,
}

/// Copies until the container's output ends or the user detaches.
pub(crate) async fn copy(hijacked: Hijacked, plan: Plan) -> Result<Ended, CliError> {
    let raw = if plan.stdin && plan.tty {
        RawMode::enter().map_err(CliError::io("setting the terminal to raw mode"))?
    } else {
        None
    };
    let (mut reader, mut writer) = tokio::io::split(hijacked.stream);
    let detach_keys = (plan.tty && raw.is_some()).then_some(plan.detach_keys);
    let tty = plan.tty;
    let input = async {
        if plan.stdin && send_input(&mut writer, detach_keys).await {
            return Ended::Detached;
        }
        // The end of standard input; a peer that has gone needs none.
        let _ = writer.shutdown().await;
        std::future::pending().await
    };
    let output = async {
        let mut sink = Sink::new(tty);
        let mut piece = vec![0u8; PIECE];
        loop {
            match reader.read(&mut piece).await {
                Ok(0) => return sink.finish(),
                Ok(count) => sink.write(&piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return sink.finish(),
                Err(error) => return Err(CliError::io("reading from the container")(error)),
            }
        }
    };
    tokio::select! {
        biased;
        done = output => done.map(|()| Ended::Finished),
        ended = input => Ok(ended),
    }
}

/// Copies the body of an answer, as of `logs`.
pub(crate) async fn print(mut response: Response, tty: bool) -> Result<(), CliError> {
    let mut sink = Sink::new(tty);
    while let Some(bytes) = response.chunk().await? {
        sink.write(&bytes)?;
    }
    sink.finish()
}

/// Sends standard input; true when the detach keys were pressed, false at its end.
async fn send_input<W>(writer: &mut W, mut keys: Option<DetachKeys>) -> bool
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut pieces = spawn_stdin();
    while let Some(bytes) = pieces.recv().await {
        let bytes = match &mut keys {
            None => bytes,
            Some(keys) => match keys.filter(&bytes) {
                Input::Bytes(bytes) => bytes,
                Input::Detached => return true,
            },
        };
        if writer.write_all(&bytes).await.is_err() {
            return false;
        }
    }
    false
}

/// Reads standard input in a thread of its own: files cannot be waited for, and a thread that
/// waits for keys does not keep the program from ending.
fn spawn_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut piece = vec![0u8; PIECE];
        loop {
            match stdin.read(&mut piece) {
                Ok(0) => return,
                Ok(count) if sender.blocking_send(piece[..count].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Where a container's output goes.
struct Sink {
    decoder: Option<Decoder>,
}

impl Sink {
    fn new(raw: bool) -> Self {
        Self {
            decoder: (!raw).then(Decoder::new),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let Some(decoder) = &mut self.decoder else {
            return put(StreamKind::Stdout, bytes);
        };
        decoder.push(bytes);
        loop {
            match decoder.next_frame() {
                Ok(None) => return Ok(()),
                Ok(Some((StreamKind::SystemError, text))) => {
                    return Err(CliError::message(format!(
                        "error from daemon in stream: {}",
                        String::from_utf8_lossy(&text)
                    )));
                }
                Ok(Some((kind, payload))) => put(kind, &payload)?,
                Err(error) => return Err(CliError::message(error.to_string())),
            }
        }
    }

    fn finish(&self) -> Result<(), CliError> {
        match &self.decoder {
            Some(decoder) if decoder.is_partial() => Err(CliError::message("the container's output broke off")),
            _ => Ok(()),
        }
    }
}

/// Writes at once, so that what was printed is seen whatever happens next. A reader that has gone
/// is no error: the container goes on.
fn put(kind: StreamKind, bytes: &[u8]) -> Result<(), CliError> {
    let written = match kind {
        StreamKind::Stderr => io::stderr().lock().write_all(bytes),
        _ => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(CliError::io("writing the container's output")),
    }
}

/// A container with a terminal needs one here for its input.
pub(crate) fn check_terminal(stdin: bool, tty: bool) -> Result<(), CliError> {
    if stdin && tty && !io::stdin().is_terminal() {
        return Err(CliError::message("the input device is not a TTY"));
    }
    Ok(())
}
