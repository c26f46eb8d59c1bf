//! Writing a log: lines from bytes, rotation, and what happens when the disk is full.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::files::rotated;
use super::line::{Ending, parse_line, write_line};
use super::pack::{Origin, PackJob, packed_name, unfinished_name};
use super::reader::Stream;
use crate::plan::LogPlan;

/// Longest piece of a line, the newline not counted.
pub(crate) const PIECE: usize = 16 << 10;

/// Formatted bytes are written when so many have come together, and at the end of each call.
const BATCH: usize = 64 << 10;

/// The writing end of one log. Never fails and never blocks on anything but the disk: what cannot
/// be written is counted, and the log says so as soon as it can be written again.
#[derive(Debug)]
pub struct LogWriter {
    plan: LogPlan,
    attrs: String,
    ending: Ending,
    file: Option<OwnedFd>,
    size: u64,
    /// Bytes of an unfinished line, by stream.
    pending: [Vec<u8>; 2],
    batch: Vec<u8>,
    batch_lines: u64,
    dropped: u64,
    last_error: Option<Errno>,
    last_ns: i64,
    /// A rotated file may be there that is not compressed.
    has_rotated: bool,
}

impl LogWriter {
    /// A writer that continues the log at `plan.path`. A torn last line is closed off.
    pub fn new(plan: LogPlan) -> Self {
        let attrs = if plan.attrs.is_empty() {
            String::new()
        } else {
            serde_json::json!(plan.attrs).to_string()
        };
        let mut writer = Self {
            plan,
            attrs,
            ending: Ending::default(),
            file: None,
            size: 0,
            pending: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batch_lines: 0,
            dropped: 0,
            last_error: None,
            last_ns: i64::MIN,
            has_rotated: true,
        };
        writer.open();
        writer
    }

    /// Takes what a process wrote to a stream at a time.
    pub fn append(&mut self, stream: Stream, mut bytes: &[u8], time_ns: i64) {
        // ORDER: times never go backwards, although the clock may: readers bisect by time.
        self.last_ns = self.last_ns.max(time_ns);
        let index = usize::from(stream == Stream::Stderr);
        // Without vector instructions: which there are is a question that a hypervisor answers slowly, and most write little.
        let end_of_line = memchr::arch::all::memchr::One::new(b'\n');
        while !bytes.is_empty() {
            let room = PIECE - self.pending[index].len();
            let newline = end_of_line.find(&bytes[..bytes.len().min(room + 1)]);
            let take = match newline {
                Some(at) => at + 1,
                None if bytes.len() < room => {
                    self.pending[index].extend_from_slice(bytes);
                    break;
                }
                None => cut_between_characters(bytes, room, self.pending[index].is_empty()),
            };
            let (piece, rest) = bytes.split_at(take);
            self.emit(index, stream, piece);
            bytes = rest;
        }
        self.write_batch();
    }

    /// Writes unfinished lines as they are; call when the streams have ended.
    pub fn flush(&mut self) {
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            if !self.pending[index].is_empty() {
                self.emit(index, stream, &[]);
            }
        }
        self.write_batch();
    }

    /// Starts a new file now.
    pub fn rotate(&mut self) {
        self.write_batch();
        self.shift_files();
    }

    /// The oldest rotated file that is to be compressed and is not; one at a time: [`LogWriter::packed`]
    /// is told of its end before the next is asked for.
    pub fn next_to_pack(&mut self) -> Option<PackJob> {
        if !self.plan.compress || !self.has_rotated {
            return None;
        }
        let path = &self.plan.path;
        for age in (1..self.plan.max_files).rev() {
            let source = rotated(path, age);
            if let Ok(stat) = rustix::fs::stat(&source) {
                return Some(PackJob {
                    source,
                    packed: unfinished_name(path),
                    origin: Origin::of(&stat),
                });
            }
        }
        self.has_rotated = false;
        None
    }

    /// Puts a compressed file in the place of its original, which may have moved on meanwhile.
    pub fn packed(&mut self, job: &PackJob, is_whole: bool) {
        let path = &self.plan.path;
        let mut sources = (1..self.plan.max_files).map(|age| rotated(path, age));
        // Its number alone may be a newer file's by now: a flood of lines removes files faster than they are compressed.
        let is_it = |source: &PathBuf| rustix::fs::stat(source).is_ok_and(|stat| Origin::of(&stat) == job.origin);
        let source = sources.find(is_it);
        self.has_rotated = is_whole;
        // ORDER: while both exist readers take the original.
        let done = match source {
            Some(source) if is_whole => rustix::fs::rename(&job.packed, packed_name(&source))
                .and_then(|()| rustix::fs::unlink(&source))
                .is_ok(),
            _ => false,
        };
        if !done {
            let _ = rustix::fs::unlink(&job.packed);
        }
    }

    /// Lines lost so far and not yet mentioned in the log.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Formats what is pending on a stream, followed by `piece`, as one line.
    fn emit(&mut self, index: usize, stream: Stream, piece: &[u8]) {
        let start = self.batch.len();
        let ending = self.ending.of(stream, self.last_ns, &self.attrs);
        let pending = &mut self.pending[index];
        if pending.is_empty() {
            write_line(&mut self.batch, piece, ending);
        } else {
            pending.extend_from_slice(piece);
            write_line(&mut self.batch, pending, ending);
            pending.clear();
        }
        let total = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        let is_full = self.plan.max_bytes > 0 && self.size.saturating_add(total) > self.plan.max_bytes;
        if is_full && (self.size > 0 || start > 0) {
            let line = self.batch.split_off(start);
            self.write_batch();
            self.shift_files();
            self.batch = line;
        }
        self.batch_lines += 1;
        if self.batch.len() >= BATCH {
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.open();
        }
        if self.dropped > 0 {
            self.mention_dropped();
        }
        match self.write_whole() {
            Ok(()) => self.dropped = 0,
            Err(errno) => {
                self.dropped += self.batch_lines;
                self.last_error = Some(errno);
            }
        }
        self.batch_lines = 0;
        self.batch.clear();
        self.batch.shrink_to(BATCH);
    }

    /// Puts a line about lost ones in front of the batch.
    fn mention_dropped(&mut self) {
        let reason = self
            .last_error
            .map_or_else(String::new, |errno| format!(": {}", io::Error::from(errno)));
        let text = format!("wharf: {} log lines were lost{reason}\n", self.dropped);
        let mut batch = Vec::with_capacity(self.batch.len() + 256);
        let ending = self.ending.of(Stream::Stderr, self.last_ns, &self.attrs);
        write_line(&mut batch, text.as_bytes(), ending);
        batch.append(&mut self.batch);
        self.batch = batch;
    }

    /// Writes the batch, or nothing: a part that was written is cut off again.
    fn write_whole(&mut self) -> Result<(), Errno> {
        let file = self.file.as_ref().ok_or(self.last_error.unwrap_or(Errno::NOENT))?;
        let mut written = 0;
        while written < self.batch.len() {
            match rustix::io::write(file, &self.batch[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(Errno::INTR) => {}
                Ok(_) => return Err(take_back(file, written, Errno::IO)),
                Err(errno) => return Err(take_back(file, written, errno)),
            }
        }
        self.size += u64::try_from(written).unwrap_or(0);
        Ok(())
    }

    /// Opens the newest file for appending and learns where it stands.
    fn open(&mut self) {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.plan.path, flags, Mode::from_raw_mode(0o640));
        let opened = opened.and_then(|file| Ok((rustix::fs::fstat(&file)?.st_size, file)));
        match opened {
            Err(errno) => self.last_error = Some(errno),
            Ok((size, file)) => {
                self.size = u64::try_from(size).unwrap_or(0);
                self.resume(&file);
                self.file = Some(file);
            }
        }
    }

    /// Closes a torn last line and takes over the time of the last whole one.
    fn resume(&mut self, file: &OwnedFd) {
        let mut tail = vec![0u8; (PIECE * 4).min(usize::try_from(self.size).unwrap_or(usize::MAX))];
        let start = self.size - u64::try_from(tail.len()).unwrap_or(0);
        let Ok(length) = rustix::io::pread(file, &mut tail, start) else {
            return;
        };
        tail.truncate(length);
        if tail.last().is_some_and(|byte| *byte != b'\n') && rustix::io::write(file, b"\n").is_ok() {
            self.size += 1;
        }
        let last = tail.split(|byte| *byte == b'\n').rev().find_map(parse_line);
        self.last_ns = last.map_or(self.last_ns, |record| self.last_ns.max(record.time_ns));
    }

    /// Moves every file one further and begins a new one.
    ///
    /// A failure in the middle leaves a gap in the numbers, which readers skip; the newest file is
    /// only left behind once it has been moved or removed.
    fn shift_files(&mut self) {
        let path = &self.plan.path;
        let keep = self.plan.max_files.max(1);
        let is_there = |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok();
        let exists = |age: u32| is_there(&rotated(path, age)) || is_there(&packed_name(&rotated(path, age)));
        let free = (0..keep).find(|age| !exists(*age)).unwrap_or(keep - 1);
        remove_both(&rotated(path, keep - 1));
        for age in (0..free).rev() {
            move_both(&rotated(path, age), &rotated(path, age + 1));
        }
        self.has_rotated = true;
        self.file = None;
        self.size = 0;
        self.open();
    }
}

/// Removes a file, compressed or not.
fn remove_both(path: &Path) {
    let _ = rustix::fs::unlink(path);
    let _ = rustix::fs::unlink(packed_name(path));
}

/// Moves a file, compressed or not. Where both forms exist the compressed one may be unfinished business.
fn move_both(from: &Path, to: &Path) {
    if rustix::fs::rename(from, to).is_ok() {
        let _ = rustix::fs::unlink(packed_name(from));
    } else {
        let _ = rustix::fs::rename(packed_name(from), packed_name(to));
    }
}

/// How much of a piece that is too long to take, so that no character is cut in two. A piece that
/// joins earlier bytes is cut anywhere, as its beginning may be the middle of a character.
pub(crate) fn cut_between_characters(bytes: &[u8], room: usize, is_start: bool) -> usize {
    let is_continuation = |byte: u8| byte & 0xc0 == 0x80;
    let back = (0..4.min(room)).find(|back| bytes.get(room - back).is_none_or(|byte| !is_continuation(*byte)));
    match back {
        Some(back) if is_start && back > 0 && room > back => room - back,
        _ => room,
    }
}

fn take_back(file: &OwnedFd, written: usize, errno: Errno) -> Errno {
    if written > 0
        && let Ok(stat) = rustix::fs::fstat(file)
    {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let _ = rustix::fs::ftruncate(file, size.saturating_sub(u64::try_from(written).unwrap_or(0)));
    }
    errno
}
