//! The history of events on disk: `<root>/events/current` and `previous`, one event as JSON on each line.
//!
//! Lines are appended and never changed. When `current` has as many events as are to be kept, or half of the bytes
//! that may be used, it becomes `previous`. A line that a crash or a full disk cut short is taken away again.
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::model::{Event, Timestamp};

/// How much of the past is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The newest events that are kept at least, as long as they fit.
    pub events: u64,
    /// Bytes of both files together.
    pub bytes: u64,
}

/// Bytes that one event is given room for.
const EVENT_BYTES: u64 = 1600;

impl HistoryLimits {
    /// Limits for so many events; their room grows with them.
    pub fn of(events: u64) -> Self {
        let events = events.max(1);
        let bytes = events.saturating_mul(EVENT_BYTES).max(1 << 20);
        Self { events, bytes }
    }
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self::of(10_000)
    }
}

/// The end that is written.
#[derive(Debug)]
pub(crate) struct EventLog {
    dir: PathBuf,
    limits: HistoryLimits,
    current: File,
    /// Bytes of whole lines in `current`.
    length: u64,
    /// Lines in `current`.
    lines: u64,
}

impl EventLog {
    /// Opens or creates the history in `dir`.
    pub(crate) fn open(dir: &Path, limits: HistoryLimits) -> Result<Self> {
        std::fs::create_dir_all(dir).internal(|| format!("create {}", dir.display()))?;
        let path = dir.join("current");
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path);
        let current = opened.internal(|| format!("open the history of events {}", path.display()))?;
        let (lines, length) = whole_lines(&current).internal(|| format!("read {}", path.display()))?;
        let log = Self {
            dir: dir.to_owned(),
            limits,
            current,
            length,
            lines,
        };
        // ORDER: what a crash cut short goes before anything is appended to it.
        log.current
            .set_len(length)
            .internal(|| format!("repair {}", path.display()))?;
        Ok(log)
    }

    /// Appends events; after a failure none of them is there.
    pub(crate) fn append(&mut self, events: &[std::sync::Arc<Event>]) -> std::io::Result<()> {
        if self.lines >= self.limits.events || self.length >= self.limits.bytes / 2 {
            self.rotate()?;
        }
        let mut text = Vec::new();
        for event in events {
            serde_json::to_writer(&mut text, &**event)?;
            text.push(b'\n');
        }
        if let Err(error) = self.current.write_all(&text) {
            self.current.set_len(self.length)?;
            return Err(error);
        }
        self.length += text.len() as u64;
        self.lines += events.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let path = self.dir.join("current");
        std::fs::rename(&path, self.dir.join("previous"))?;
        self.current = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path)?;
        (self.length, self.lines) = (0, 0);
        Ok(())
    }

    /// The newest events, at most `count`, oldest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<Event> {
        let mut events = read(&self.dir, &Selection::default());
        events.split_off(events.len().saturating_sub(count))
    }
}

/// Number of whole lines and their bytes.
fn whole_lines(file: &File) -> std::io::Result<(u64, u64)> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let (mut lines, mut length, mut at) = (0, 0, 0);
    let mut piece = vec![0; 64 << 10];
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            return Ok((lines, length));
        }
        for (i, _) in piece[..n].iter().enumerate().filter(|(_, b)| **b == b'\n') {
            lines += 1;
            length = at + i as u64 + 1;
        }
        at += n as u64;
    }
}

/// Which events of the history are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Selection {
    /// Not before this time.
    pub(crate) since: Option<Timestamp>,
    /// Only those with a smaller number.
    pub(crate) below_seq: Option<u64>,
}

impl Selection {
    fn wants(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| event.time >= since) && self.below_seq.is_none_or(|seq| event.seq < seq)
    }
}

/// Reads the history, oldest first; lines that are no event are passed over. Blocking.
pub(crate) fn read(dir: &Path, selection: &Selection) -> Vec<Event> {
    // ORDER: both are open before either is read: a rotation in between must not hide one. The newer one first, as it
    // may become the older one meanwhile: then it is there twice, and the numbers tell.
    let current = File::open(dir.join("current")).ok();
    let previous = File::open(dir.join("previous")).ok();
    let mut events: Vec<Event> = Vec::new();
    for file in [previous, current].into_iter().flatten() {
        for line in BufReader::new(file).split(b'\n').map_while(std::io::Result::ok) {
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                continue;
            };
            let newer = events.last().is_none_or(|last| last.seq < event.seq);
            if newer && selection.wants(&event) {
                events.push(event);
            }
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::EventKind;

    fn event(seq: u64) -> Arc<Event> {
        Arc::new(Event {
            seq,
            kind: EventKind::Container,
            action: "start".into(),
            actor: format!("c{seq}"),
            attributes: [("name".to_owned(), "x".repeat(20))].into(),
            time: Timestamp::from_nanos(seq.cast_signed() * 10),
        })
    }

    fn seqs(events: &[Event]) -> Vec<u64> {
        events.iter().map(|e| e.seq).collect()
    }

    const LIMITS: HistoryLimits = HistoryLimits {
        events: 10,
        bytes: 1 << 20,
    };

    #[test]
    fn the_history_is_bounded_and_keeps_at_least_what_it_promises() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut log = EventLog::open(dir.path(), LIMITS).expect("open");
        for seq in 1..=95 {
            log.append(&[event(seq)]).expect("append");
            let kept = seqs(&read(dir.path(), &Selection::default()));
            assert!(kept.len() as u64 >= seq.min(10) && kept.len() <= 20, "{kept:?}");
            assert_eq!(kept.last(), Some(&seq));
        }
        let chosen = Selection {
            since: Some(Timestamp::from_nanos(920)),
            below_seq: Some(95),
        };
        assert_eq!(seqs(&read(dir.path(), &chosen)), [92, 93, 94]);
        assert_eq!(seqs(&log.newest(3)), [93, 94, 95]);
        let small = HistoryLimits {
            events: 1000,
            bytes: 2000,
        };
        let mut log = EventLog::open(dir.path(), small).expect("open");
        for seq in 96..200 {
            log.append(&[event(seq)]).expect("append");
        }
        let bytes: u64 = ["current", "previous"]
            .iter()
            .map(|f| std::fs::metadata(dir.path().join(f)).expect("there").len())
            .sum();
        assert!(bytes < 2400, "{bytes}");
    }

    #[test]
    fn a_line_cut_short_at_any_byte_costs_that_event_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("current");
        let mut log = EventLog::open(dir.path(), LIMITS).expect("open");
        log.append(&[event(1), event(2)]).expect("append");
        let whole = std::fs::read(&path).expect("read");
        let first = whole.iter().position(|b| *b == b'\n').expect("a line") + 1;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("write");
            let mut log = EventLog::open(dir.path(), LIMITS).expect("open");
            log.append(&[event(3)]).expect("append");
            assert_eq!(seqs(&log.newest(10)), [1, 3], "cut at {cut}");
        }
    }
}
