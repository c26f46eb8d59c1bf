//! The json-file log: lines in Docker's format, rotated by size, read from either end.
//!
//! ```text
//! <id>-json.log      the newest file, written by the shim alone
//! <id>-json.log.1    the one before, and so on; the oldest is removed at rotation
//! <id>-json.log.1.gz the same, if rotated files are compressed
//!
//! {"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}
//! ```
//!
//! A line longer than 16 KiB is split; all pieces but the last lack the newline. Bytes that are not
//! UTF-8 appear as U+FFFD in `log`, as with Docker, and exactly in an additional field `hex`.
//! Times never go backwards within a log, so a reader finds a moment by bisection.

mod files;
mod line;
mod pack;
mod place;
mod reader;
mod time;
mod writer;

pub use pack::{Origin, PackJob, pack};
pub use reader::{LogError, LogReader, ReadOptions, Record, Stream};
pub use time::{format_time, parse_time};
pub use writer::LogWriter;
#[cfg(feature = "server")]
pub(crate) use writer::{PIECE, cut_between_characters};
