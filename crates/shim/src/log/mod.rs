//! The json-file log: lines in Docker's format, rotated by size, read from either end.

mod reader;

pub use reader::{LogError, LogReader, ReadOptions, Record, Stream};
