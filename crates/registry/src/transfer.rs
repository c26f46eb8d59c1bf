//! A blob on its way down: the asynchronous answer as a blocking reader, resumed where it broke off.

use crate::error::RegistryError;
use crate::progress::{BlobSink, LayerState};
use crate::session::Session;
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wharf_store::Descriptor;

/// Chunks that may wait between the network and the disk.
const QUEUED_CHUNKS: usize = 32;

/// Opens one blob of a repository from any offset; lives as long as the attempts to get that blob.
pub(crate) struct BlobSource {
    pub(crate) session: Arc<Session>,
    pub(crate) descriptor: Descriptor,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) runtime: Handle,
    /// The typed reason behind an `io::Error` that the store handed back.
    pub(crate) failure: Arc<Mutex<Option<RegistryError>>>,
}

impl BlobSource {
    /// The blob from `offset` on. Call from a blocking thread.
    pub(crate) fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let answer = self.runtime.block_on(self.request(offset)).map_err(|e| self.keep(e))?;
        let skip = if answer.status().as_u16() == 206 { 0 } else { offset };
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        let url = answer.url().to_string();
        self.runtime.spawn(pump(answer, url, sender));
        let mut reader = ChunkReader {
            receiver,
            current: Bytes::new(),
            cancelled: self.cancelled.clone(),
            failure: self.failure.clone(),
        };
        // A registry that does not know ranges sends all of it again.
        let skipped = io::copy(&mut (&mut reader).take(skip), &mut io::sink())?;
        if skipped < skip {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the blob ends at {skipped}, before {skip}"),
            ));
        }
        Ok(Box::new(reader))
    }

    async fn request(&self, offset: u64) -> Result<reqwest::Response, RegistryError> {
        let url = self.session.url(&format!("blobs/{}", self.descriptor.digest));
        let ranged = |r: reqwest::RequestBuilder| {
            if offset > 0 {
                r.header("Range", format!("bytes={offset}-"))
            } else {
                r
            }
        };
        let answer = self.session.send("GET", &url, ranged).await?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            206 if starts_at(&answer, offset) => Ok(answer),
            206 => Err(RegistryError::Malformed {
                url,
                reason: format!("another range than from {offset}"),
            }),
            401 | 403 => Err(self.session.unauthorized(answer).await),
            _ => Err(Session::status("GET", &url, answer).await),
        }
    }

    fn keep(&self, error: RegistryError) -> io::Error {
        let text = error.to_string();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::Error::other(text)
    }
}

fn starts_at(answer: &reqwest::Response, offset: u64) -> bool {
    let range = answer.headers().get("Content-Range").and_then(|v| v.to_str().ok());
    range.is_none_or(|r| r.trim_start_matches("bytes ").split('-').next() == Some(offset.to_string().as_str()))
}

async fn pump(mut answer: reqwest::Response, url: String, sender: mpsc::Sender<Result<Bytes, RegistryError>>) {
    loop {
        let piece = match answer.chunk().await {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => return,
            Err(error) => Err(RegistryError::unreachable("GET", &url, &error)),
        };
        let broke = piece.is_err();
        // The reader is gone when the store refused the content.
        if sender.send(piece).await.is_err() || broke {
            return;
        }
    }
}

struct ChunkReader {
    receiver: mpsc::Receiver<Result<Bytes, RegistryError>>,
    current: Bytes,
    cancelled: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<RegistryError>>>,
}

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("the transfer was given up"));
            }
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => {
                    let text = error.to_string();
                    *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Err(io::Error::other(text));
                }
                None => return Ok(0),
            }
        }
        let n = into.len().min(self.current.len());
        into[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// Tells a sink about bytes, but not more often than a person could read.
pub(crate) struct Meter {
    sink: BlobSink,
    step: u64,
    told: Mutex<u64>,
}

impl Meter {
    pub(crate) fn new(sink: BlobSink, total: u64) -> Self {
        Self {
            sink,
            step: (total / 64).max(64 << 10),
            told: Mutex::new(0),
        }
    }

    pub(crate) fn at(&self, current: u64, state: impl FnOnce() -> LayerState) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if current < *told {
            *told = 0; // a new attempt or the next phase
        }
        if current >= *told + self.step {
            *told = current;
            self.sink.tell(state());
        }
    }
}
