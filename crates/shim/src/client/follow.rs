//! Following a log from asynchronous code.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::io::unix::AsyncFd;

use crate::log::{LogError, LogReader, ReadOptions, Record};

/// Records handed out at once.
const BATCH: usize = 256;

/// Reads a log in batches on the blocking threads and waits for more without polling.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    reader: Option<LogReader>,
    changes: AsyncFd<OwnedFd>,
}

impl LogFollower {
    /// Opens the log whose newest file is `path`; its directory must exist.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn open(path: PathBuf, options: ReadOptions) -> Result<Self, LogError> {
        let watch = |source: io::Error| LogError::Watch {
            path: path.clone(),
            source,
        };
        let place = path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let mut reader = LogReader::open(&place, options)?;
            let failed = |source| LogError::Watch {
                path: place.clone(),
                source,
            };
            let changes = reader.changes()?.try_clone_to_owned().map_err(failed)?;
            Ok((reader, changes))
        });
        let (reader, changes) = opened.await.map_err(|error| watch(io::Error::other(error)))??;
        #[expect(
            deprecated,
            reason = "an OwnedFd keeps its number for life, which is what the replacement asks for"
        )]
        let changes = AsyncFd::new(changes).map_err(watch)?;
        Ok(Self {
            path,
            reader: Some(reader),
            changes,
        })
    }

    /// Records that are there; empty at the present end. After a cancelled call the follower is
    /// of no use any more.
    ///
    /// # Errors
    /// [`LogError::Read`].
    pub async fn next_batch(&mut self) -> Result<Vec<Record>, LogError> {
        let failed = |source: io::Error| LogError::Read {
            path: self.path.clone(),
            source,
        };
        let mut reader = self
            .reader
            .take()
            .ok_or_else(|| failed(io::Error::other("an earlier read was cut short")))?;
        let read = tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            while batch.len() < BATCH
                && let Some(record) = reader.next_record()?
            {
                batch.push(record);
            }
            Ok((reader, batch))
        });
        let (reader, batch) = read.await.map_err(|error| failed(io::Error::other(error)))??;
        self.reader = Some(reader);
        Ok(batch)
    }

    /// Whether nothing wanted can follow any more.
    pub fn is_past_until(&self) -> bool {
        self.reader.as_ref().is_some_and(LogReader::is_past_until)
    }

    /// Waits until the log has changed. Cancel safe.
    ///
    /// # Errors
    /// [`LogError::Watch`].
    pub async fn changed(&mut self) -> Result<(), LogError> {
        let watch = |source| LogError::Watch {
            path: self.path.clone(),
            source,
        };
        let mut guard = self.changes.readable().await.map_err(watch)?;
        // ORDER: readiness is cleared before the notices are taken; one that comes in between
        // makes the descriptor readable again.
        guard.clear_ready();
        if let Some(reader) = &mut self.reader {
            reader.drain_changes();
        }
        Ok(())
    }
}
