//! Reading a log: tail, since, until and follow, across rotation, in bounded memory.

#![allow(clippy::todo, unused_variables)]

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Which stream a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output (and everything of a terminal).
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, or one piece of a line longer than 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it came from.
    pub stream: Stream,
    /// When it was read, nanoseconds since 1970.
    pub time_ns: i64,
    /// The bytes, ending in a newline unless the line goes on or was the last.
    pub line: Vec<u8>,
    /// `attrs` as written.
    pub attrs: Vec<(String, String)>,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only the last so many records (of the wanted streams).
    pub tail: Option<u64>,
    /// Nothing before this time.
    pub since_ns: Option<i64>,
    /// Nothing after this time.
    pub until_ns: Option<i64>,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            tail: None,
            since_ns: None,
            until_ns: None,
            stdout: true,
            stderr: true,
        }
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file could not be opened or read.
    #[error("cannot read log {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Changes could not be watched.
    #[error("cannot watch log {path}")]
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads a log in order. Synchronous; call it off the asynchronous threads.
///
/// A log that does not exist (yet) reads as empty. A torn or foreign line is skipped.
#[derive(Debug)]
pub struct LogReader {}

impl LogReader {
    /// Opens the log whose newest file is `path`, placed where `options` say.
    pub fn open(path: &Path, options: ReadOptions) -> Result<Self, LogError> {
        todo!()
    }

    /// The next record; `None` at the present end (call again later to follow) and, for good, once
    /// a record after `until_ns` was met (see [`LogReader::is_past_until`]).
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        todo!()
    }

    /// Whether nothing wanted can follow any more.
    pub fn is_past_until(&self) -> bool {
        todo!()
    }

    /// A non-blocking descriptor that becomes readable when the log has changed since the last
    /// [`LogReader::drain_changes`]. Ask for it before reading to the end, so that no change is missed.
    pub fn changes(&mut self) -> Result<BorrowedFd<'_>, LogError> {
        todo!()
    }

    /// Takes the pending notices of [`LogReader::changes`].
    pub fn drain_changes(&mut self) {
        todo!()
    }
}
