//! Where reading begins: from the end for a tail, by bisection for a time.

use std::collections::VecDeque;
use std::path::Path;

use rustix::io::Errno;

use super::line::parse_line;
use super::reader::{BLOCK, LogFile, ReadOptions};

/// Sets the offset of the first file wanted and drops the files before it.
pub(super) fn place(files: &mut VecDeque<LogFile>, options: &ReadOptions, directory: &Path) -> Result<(), Errno> {
    match (options.tail, options.since_ns) {
        (Some(records), _) => place_tail(files, records, directory),
        (None, Some(since)) => place_since(files, since, directory),
        (None, None) => Ok(()),
    }
}

fn place_tail(files: &mut VecDeque<LogFile>, records: u64, directory: &Path) -> Result<(), Errno> {
    let mut wanted = records;
    for index in (0..files.len()).rev() {
        let file = &mut files[index];
        file.unpack(directory)?;
        let (offset, found) = find_tail(file, wanted)?;
        file.offset = offset;
        wanted -= found.min(wanted);
        if wanted == 0 {
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Offset of the last `records` whole lines, and how many there are.
fn find_tail(file: &LogFile, records: u64) -> Result<(u64, u64), Errno> {
    let mut end = file.size()?;
    let mut newlines = 0;
    let mut last_end = end;
    let mut block = vec![0u8; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let length = usize::try_from(end - start).expect("invariant: at most one block");
        read_exactly(file, &mut block[..length], start)?;
        for at in (0..length).rev().filter(|at| block[*at] == b'\n') {
            let after = start + at as u64 + 1;
            if newlines == 0 {
                last_end = after;
            }
            if newlines == records {
                return Ok((if records == 0 { last_end } else { after }, newlines));
            }
            newlines += 1;
        }
        end = start;
    }
    Ok((0, newlines))
}

/// The newest file that begins before the moment holds it.
fn place_since(files: &mut VecDeque<LogFile>, since: i64, directory: &Path) -> Result<(), Errno> {
    for index in (0..files.len()).rev() {
        files[index].unpack(directory)?;
        let size = files[index].size()?;
        let first = first_time(&files[index], 0, size)?;
        if first.is_some_and(|(_, time)| time < since) {
            files[index].offset = bisect(&files[index], since, size)?;
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Start of a line at or shortly before the first one of the moment.
fn bisect(file: &LogFile, since: i64, size: u64) -> Result<u64, Errno> {
    let (mut low, mut high) = (0, size);
    while high - low > BLOCK as u64 {
        let middle = low + (high - low) / 2;
        match first_time(file, middle, high)? {
            Some((start, time)) if time < since => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Start and time of the first whole line that begins in `from..to` (at `from` only if that is 0).
fn first_time(file: &LogFile, from: u64, to: u64) -> Result<Option<(u64, i64)>, Errno> {
    let mut bytes = Vec::new();
    let mut at = from;
    let mut line_start = (from == 0).then_some(0);
    while at < to || line_start.is_some() {
        let known = bytes.len();
        bytes.resize(known + BLOCK, 0);
        let length = rustix::io::retry_on_intr(|| rustix::io::pread(&file.fd, &mut bytes[known..], at))?;
        bytes.truncate(known + length);
        at += length as u64;
        if length == 0 {
            return Ok(None);
        }
        while let Some(start) = next_start(&bytes, line_start) {
            let Some(end) = bytes[start..].iter().position(|byte| *byte == b'\n') else {
                line_start = Some(start);
                break;
            };
            let absolute = from + start as u64;
            if absolute >= to {
                return Ok(None);
            }
            if let Some(record) = parse_line(&bytes[start..start + end]) {
                return Ok(Some((absolute, record.time_ns)));
            }
            line_start = Some(start + end + 1);
        }
    }
    Ok(None)
}

fn next_start(bytes: &[u8], known: Option<usize>) -> Option<usize> {
    match known {
        Some(start) => (start < bytes.len()).then_some(start),
        None => bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|at| at + 1)
            .filter(|start| *start < bytes.len()),
    }
}

fn read_exactly(file: &LogFile, buffer: &mut [u8], mut offset: u64) -> Result<(), Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(&file.fd, &mut buffer[filled..], offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(length) => {
                filled += length;
                offset += length as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
