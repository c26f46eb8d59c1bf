//! Reading a log: tail, since, until and follow, across rotation, in bounded memory.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::files::rotated;
use super::line::parse_line;
use super::pack::{Origin, origin_of, packed_name, unpack};
use super::place;

/// How much is read at once.
pub(super) const BLOCK: usize = 64 << 10;

/// A line longer than this is none of ours and is skipped.
const LONGEST_LINE: usize = 1 << 20;

/// Files looked for behind the newest.
const MOST_FILES: u32 = 1000;

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
    /// Only the last so many records. COMPAT: counted before the other options choose among them.
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

impl ReadOptions {
    fn wants(&self, record: &Record) -> bool {
        let stream = match record.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        stream && self.since_ns.is_none_or(|since| record.time_ns >= since)
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

/// One open file of a log.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) fd: OwnedFd,
    inode: u64,
    /// What is compressed, until it is read.
    packed: Option<Packed>,
    /// Where the next read begins.
    pub(super) offset: u64,
}

/// A compressed file.
#[derive(Debug)]
struct Packed {
    /// What it was made from.
    origin: Option<Origin>,
    is_open: bool,
}

impl LogFile {
    /// Opens a file in either form. ORDER: a file that has just been compressed is there in both.
    fn open(path: &Path) -> Result<Option<Self>, LogError> {
        if let Some((fd, inode)) = open_one(path)? {
            return Ok(Some(Self {
                fd,
                inode,
                packed: None,
                offset: 0,
            }));
        }
        let packed = open_one(&packed_name(path))?;
        Ok(packed.map(|(fd, inode)| Self {
            packed: Some(Packed {
                origin: origin_of(&fd),
                is_open: false,
            }),
            fd,
            inode,
            offset: 0,
        }))
    }

    /// Makes the content readable at any place.
    pub(super) fn unpack(&mut self, directory: &Path) -> Result<(), Errno> {
        if let Some(packed) = self.packed.as_mut().filter(|packed| !packed.is_open) {
            packed.is_open = true;
            let plain = unpack(&self.fd, directory);
            self.fd = plain.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        Ok(())
    }

    /// Whether this is the same file, or what it has been compressed into.
    fn is(&self, later: &Self) -> bool {
        match (&self.packed, &later.packed) {
            (None, None) | (Some(_), Some(_)) => self.inode == later.inode,
            (Some(_), None) => false,
            (None, Some(packed)) => {
                let own = rustix::fs::fstat(&self.fd).map(|stat| Origin::of(&stat));
                own.is_ok_and(|own| packed.origin.as_ref() == Some(&own))
            }
        }
    }

    pub(super) fn size(&self) -> Result<u64, Errno> {
        Ok(u64::try_from(rustix::fs::fstat(&self.fd)?.st_size).unwrap_or(0))
    }
}

/// Reads a log in order. Synchronous; call it off the asynchronous threads.
///
/// A log that does not exist (yet) reads as empty. A torn or foreign line is skipped.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    options: ReadOptions,
    current: Option<LogFile>,
    newer: VecDeque<LogFile>,
    buffer: Vec<u8>,
    /// What of the buffer has been used.
    used: usize,
    is_past_until: bool,
    watch: Option<OwnedFd>,
}

impl LogReader {
    /// Opens the log whose newest file is `path`, placed where `options` say.
    ///
    /// # Errors
    /// [`LogError::Read`] for anything but a missing file.
    pub fn open(path: &Path, options: ReadOptions) -> Result<Self, LogError> {
        let mut files = open_all(path)?;
        let failed = |errno: Errno| LogError::Read {
            path: path.to_path_buf(),
            source: errno.into(),
        };
        let directory = directory_of(path);
        place::place(&mut files, &options, directory).map_err(failed)?;
        let mut current = files.pop_front();
        if let Some(file) = &mut current {
            file.unpack(directory).map_err(failed)?;
        }
        let path = path.to_path_buf();
        let buffer = Vec::new();
        Ok(Self {
            path,
            options,
            current,
            newer: files,
            buffer,
            used: 0,
            is_past_until: false,
            watch: None,
        })
    }

    /// The next record; `None` at the present end (call again later to follow) and, for good, once
    /// a record after `until_ns` was met (see [`LogReader::is_past_until`]).
    ///
    /// # Errors
    /// [`LogError::Read`].
    pub fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        while !self.is_past_until {
            let Some(record) = self.next_line()? else {
                return Ok(None);
            };
            if self.options.until_ns.is_some_and(|until| record.time_ns > until) {
                self.is_past_until = true;
            } else if self.options.wants(&record) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Whether nothing wanted can follow any more.
    pub fn is_past_until(&self) -> bool {
        self.is_past_until
    }

    /// A non-blocking descriptor that becomes readable when the log has changed since the last
    /// [`LogReader::drain_changes`]. Ask for it before reading to the end, so that no change is missed.
    ///
    /// # Errors
    /// [`LogError::Watch`], also if the log's directory does not exist.
    pub fn changes(&mut self) -> Result<BorrowedFd<'_>, LogError> {
        if self.watch.is_none() {
            self.watch = Some(watch_directory(&self.path)?);
        }
        Ok(self.watch.as_ref().expect("invariant: set above").as_fd())
    }

    /// Takes the pending notices of [`LogReader::changes`].
    pub fn drain_changes(&mut self) {
        let mut scratch = [0u8; 4096];
        while let Some(watch) = &self.watch
            && rustix::io::read(watch, &mut scratch).is_ok_and(|length| length > 0)
        {}
    }

    /// The next parseable line of any file.
    fn next_line(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            while let Some(length) = self.buffer[self.used..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.used..self.used + length];
                let record = parse_line(line);
                self.used += length + 1;
                if record.is_some() {
                    return Ok(record);
                }
            }
            if !self.fill()? && !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Reads a further block of the present file; false at its end.
    fn fill(&mut self) -> Result<bool, LogError> {
        let Some(file) = &mut self.current else {
            return Ok(false);
        };
        self.buffer.drain(..self.used);
        self.used = 0;
        if self.buffer.len() > LONGEST_LINE {
            self.buffer.clear();
        }
        let start = self.buffer.len();
        self.buffer.resize(start + BLOCK, 0);
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(&file.fd, &mut self.buffer[start..], file.offset));
        let length = read.unwrap_or(0);
        self.buffer.truncate(start + length);
        file.offset += u64::try_from(length).unwrap_or(0);
        match read {
            Err(errno) => Err(LogError::Read {
                path: self.path.clone(),
                source: errno.into(),
            }),
            // Somebody emptied the file under its writer: begin again.
            Ok(0) if file.size().is_ok_and(|size| size < file.offset) => {
                file.offset = 0;
                self.buffer.clear();
                Ok(true)
            }
            Ok(length) => Ok(length > 0),
        }
    }

    /// Goes on to the next file at the end of one; false if there is none yet.
    fn advance(&mut self) -> Result<bool, LogError> {
        if self.newer.is_empty() {
            self.newer = self.find_newer()?;
            // ORDER: the file may have grown between its end and its rotation.
            if !self.newer.is_empty() && self.fill()? {
                return Ok(true);
            }
        }
        let Some(mut next) = self.newer.pop_front() else {
            return Ok(false);
        };
        next.unpack(directory_of(&self.path)).map_err(|errno| LogError::Read {
            path: self.path.clone(),
            source: errno.into(),
        })?;
        self.current = Some(next);
        self.buffer.clear();
        self.used = 0;
        Ok(true)
    }

    /// Files that were begun after the present one, oldest first.
    fn find_newer(&self) -> Result<VecDeque<LogFile>, LogError> {
        let mut files = open_all(&self.path)?;
        if let Some(current) = &self.current
            // The newest: an older file may have had the same inode before.
            && let Some(position) = files.iter().rposition(|file| current.is(file))
        {
            files.drain(..=position);
        }
        Ok(files)
    }
}

/// Every file of the log, oldest first.
///
/// ORDER: newest first in time, so that a rotation meanwhile shows a file twice and hides none.
fn open_all(path: &Path) -> Result<VecDeque<LogFile>, LogError> {
    let mut files: VecDeque<LogFile> = VecDeque::new();
    for age in 0..MOST_FILES {
        match LogFile::open(&rotated(path, age))? {
            Some(file) if files.iter().any(|known| known.is(&file)) => {}
            Some(file) => files.push_front(file),
            // Between two renames of a rotation one number is missing, at most.
            None if age > 1 => break,
            None => {}
        }
    }
    Ok(files)
}

fn open_one(path: &Path) -> Result<Option<(OwnedFd, u64)>, LogError> {
    let failed = |errno: Errno| LogError::Read {
        path: path.to_path_buf(),
        source: errno.into(),
    };
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
        Ok(fd) => {
            let inode = rustix::fs::fstat(&fd).map_err(failed)?.st_ino;
            Ok(Some((fd, inode)))
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn watch_directory(path: &Path) -> Result<OwnedFd, LogError> {
    let failed = |errno: Errno| LogError::Watch {
        path: path.to_path_buf(),
        source: errno.into(),
    };
    let directory = directory_of(path);
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(failed)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, directory, flags).map_err(failed)?;
    Ok(watch)
}
