//! Events: one ordered history, watched live, kept on disk.
//!
//! [`EventBus::publish`] numbers an event, hands it to watchers and wakes the writer, a thread that appends it to the
//! history on disk ([`crate::event_log`]) within microseconds, so that publishing never waits for the disk. In memory
//! stay the newest, and those that a full disk did not take yet, up to a bound.
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::containers::blocking::blocking;
use crate::db::Db;
use crate::error::{Context, Result};
use crate::event_log::{self, EventLog, HistoryLimits, Selection};
use crate::model::{Event, EventKind, Timestamp};

/// Events in memory for watchers that ask for the past.
const HISTORY: usize = 256;

/// Events in memory when the disk takes none; older ones are lost to the history.
const MAX_UNSAVED: usize = 4096;

/// Events a watcher may be behind before it misses some.
const WATCHER_BACKLOG: usize = 4096;

/// How long a disk that took nothing is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Longest time the last events are waited for when the engine ends.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// Publishes events; cheap to clone.
#[derive(Clone, Debug)]
pub struct EventBus {
    shared: Arc<Shared>,
    _end: Arc<End>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    history: Mutex<History>,
    sender: broadcast::Sender<Arc<Event>>,
    unsaved: Condvar,
    saved: Condvar,
}

#[derive(Debug, Default)]
struct History {
    last_seq: u64,
    saved_seq: u64,
    events: VecDeque<Arc<Event>>,
    lost: u64,
    is_over: bool,
}

/// Ends the writer with the last bus.
#[derive(Debug)]
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.unsaved.notify_one();
    }
}

/// Past events and a receiver of those to come, without a gap between them.
#[derive(Debug)]
pub struct EventWatch {
    /// Past events, oldest first.
    pub past: Vec<Arc<Event>>,
    /// Those to come.
    pub next: broadcast::Receiver<Arc<Event>>,
}

impl EventBus {
    /// A bus that goes on from the events kept in `dir`; those that an earlier version kept in `db` are taken over.
    pub fn open(dir: &Path, limits: HistoryLimits, db: &Db) -> Result<Self> {
        let mut log = EventLog::open(dir, limits)?;
        let mut events: VecDeque<_> = log.newest(HISTORY).into_iter().map(Arc::new).collect();
        if events.is_empty() {
            events = db.events()?.into_iter().map(Arc::new).collect();
            log.append(events.make_contiguous())
                .internal(|| format!("write the history of events below {}", dir.display()))?;
        }
        db.forget_events()?;
        let last_seq = events.back().map_or(0, |e| e.seq);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            history: Mutex::new(History {
                last_seq,
                saved_seq: last_seq,
                events,
                ..History::default()
            }),
            sender: broadcast::channel(WATCHER_BACKLOG).0,
            unsaved: Condvar::new(),
            saved: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("wharf-events".into())
            .stack_size(128 << 10)
            .spawn(move || writer.write_on(&mut log))
            .internal(|| "start the writer of events".into())?;
        Ok(Self {
            _end: Arc::new(End(Arc::clone(&shared))),
            shared,
        })
    }

    /// Publishes one event with the present time.
    pub fn publish(
        &self,
        kind: EventKind,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let mut history = self.shared.lock();
        history.last_seq += 1;
        let event = Arc::new(Event {
            seq: history.last_seq,
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes,
            time: Timestamp::now(),
        });
        history.events.push_back(Arc::clone(&event));
        history.shorten();
        // ORDER: sent under the lock, so that a watcher sees each event exactly once.
        let _ = self.shared.sender.send(event); // an error means that nobody watches
        drop(history);
        self.shared.unsaved.notify_one();
    }

    /// Starts watching; the past begins at `since`, as far as it is kept, or is empty.
    pub async fn watch(&self, since: Option<Timestamp>) -> Result<EventWatch> {
        let (mut recent, next_seq, next) = {
            let history = self.shared.lock();
            let recent: Vec<_> = history.events.iter().cloned().collect();
            (recent, history.last_seq + 1, self.shared.sender.subscribe())
        };
        let Some(since) = since else {
            return Ok(EventWatch { past: Vec::new(), next });
        };
        if recent.first().is_some_and(|first| first.time <= since) {
            recent.retain(|event| event.time >= since);
            return Ok(EventWatch { past: recent, next });
        }
        let selection = Selection {
            since: Some(since),
            // What happens from now on is on its way to the disk and to the watcher.
            below_seq: Some(recent.first().map_or(next_seq, |first| first.seq)),
        };
        let mut past = self.read(selection).await?;
        past.extend(recent.into_iter().filter(|event| event.time >= since));
        Ok(EventWatch { past, next })
    }

    /// All events that are kept, oldest first.
    pub(crate) async fn kept(&self) -> Result<Vec<Arc<Event>>> {
        Ok(self.watch(Some(Timestamp::from_nanos(0))).await?.past)
    }

    async fn read(&self, selection: Selection) -> Result<Vec<Arc<Event>>> {
        let dir = self.shared.dir.clone();
        blocking("reading the history of events", move || {
            Ok(event_log::read(&dir, &selection).into_iter().map(Arc::new).collect())
        })
        .await
    }

    /// Lets go of the events in memory that are on disk, from where they are read when somebody asks for the past. A
    /// few hundred events are thousands of small allocations among what has been freed since they happened.
    pub(crate) fn forget_saved(&self) {
        let mut history = self.shared.lock();
        let saved = history.saved_seq;
        history.events.retain(|event| event.seq > saved);
        history.events.shrink_to_fit();
    }

    /// Number of watchers (`info` tells it).
    pub fn watchers(&self) -> usize {
        self.shared.sender.receiver_count()
    }

    /// Waits until all events are on disk, or the disk does not take them in time; tells whether they are.
    pub fn flush(&self) -> bool {
        let history = self.shared.lock();
        let unsaved = |h: &mut History| h.saved_seq < h.last_seq;
        let waited = self.shared.saved.wait_timeout_while(history, FLUSH_PATIENCE, unsaved);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl History {
    /// Forgets what is old and on disk; without a disk, what is too much.
    fn shorten(&mut self) {
        while self.events.len() > HISTORY {
            let is_saved = self.events.front().is_some_and(|e| e.seq <= self.saved_seq);
            if !is_saved {
                if self.events.len() <= MAX_UNSAVED {
                    return;
                }
                self.lost += 1;
            }
            self.events.pop_front();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer: appends what is new until the bus ends.
    fn write_on(&self, log: &mut EventLog) {
        let mut complained = false;
        loop {
            let Some(new) = self.next_batch() else { return };
            let newest = new.last().map_or(0, |e| e.seq);
            match log.append(&new) {
                Ok(()) => {
                    complained = false;
                    let mut history = self.lock();
                    history.saved_seq = newest;
                    history.shorten();
                    let lost = std::mem::take(&mut history.lost);
                    drop(history);
                    self.saved.notify_all();
                    if lost > 0 {
                        tracing::warn!("{lost} events are missing from the history: the disk took none for too long");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!("events wait to be written below {}: {error}", self.dir.display());
                    }
                    if !self.pause() {
                        return;
                    }
                }
            }
        }
    }

    /// What is not on disk, once there is some; `None` when the bus has ended.
    fn next_batch(&self) -> Option<Vec<Arc<Event>>> {
        let idle = |h: &mut History| h.saved_seq >= h.last_seq && !h.is_over;
        let waited = self.unsaved.wait_while(self.lock(), idle);
        let history = waited.unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = history
            .events
            .iter()
            .filter(|e| e.seq > history.saved_seq)
            .cloned()
            .collect();
        (!new.is_empty()).then_some(new)
    }

    /// Waits before the next attempt; tells whether there is to be one.
    fn pause(&self) -> bool {
        let waited = self.unsaved.wait_timeout_while(self.lock(), RETRY, |h| !h.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> EventBus {
        let db = Db::open(&dir.join("wharf.db")).expect("open");
        EventBus::open(&dir.join("events"), HistoryLimits::default(), &db).expect("bus")
    }

    fn publish(bus: &EventBus, actor: String) {
        bus.publish(EventKind::Container, "start", actor, BTreeMap::new());
    }

    #[tokio::test]
    async fn the_past_is_kept_on_disk_and_joins_the_present_without_a_gap() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bus = open(dir.path());
        for i in 0..1000 {
            publish(&bus, format!("c{i}"));
        }
        assert!(bus.flush());
        assert_eq!(bus.shared.lock().events.len(), HISTORY);
        let mut watch = bus.watch(Some(Timestamp::from_nanos(0))).await.expect("watch");
        publish(&bus, "last".into());
        let seqs: Vec<u64> = watch.past.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, (1..=1000).collect::<Vec<u64>>());
        assert_eq!(watch.next.recv().await.expect("event").seq, 1001);
        assert!(bus.flush());
        // The same when nothing is in memory any more.
        bus.forget_saved();
        assert!(bus.shared.lock().events.is_empty());
        let watch = bus.watch(Some(Timestamp::from_nanos(0))).await.expect("watch");
        assert_eq!(
            watch.past.iter().map(|e| e.seq).collect::<Vec<_>>(),
            (1..=1001).collect::<Vec<u64>>()
        );
        drop(bus);
        let again = open(dir.path());
        publish(&again, "later".into());
        let past = again.kept().await.expect("past");
        let tail: Vec<(u64, &str)> = past[1000..].iter().map(|e| (e.seq, e.actor.as_str())).collect();
        assert_eq!(tail, [(1001, "last"), (1002, "later")]);
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_costs_memory_up_to_a_bound_and_is_caught_up_with() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bus = open(dir.path());
        bus.shared.lock().saved_seq = 0;
        let held = bus.shared.lock();
        drop(held);
        let mut history = History::default();
        for seq in 1..=(MAX_UNSAVED as u64 + 10) {
            history.last_seq = seq;
            history.events.push_back(Arc::new(Event {
                seq,
                kind: EventKind::Container,
                action: "start".into(),
                actor: "x".into(),
                attributes: BTreeMap::new(),
                time: Timestamp::now(),
            }));
            history.shorten();
        }
        assert_eq!((history.events.len(), history.lost), (MAX_UNSAVED, 10));
        history.saved_seq = history.last_seq;
        history.shorten();
        assert_eq!(history.events.len(), HISTORY);
    }
}
