//! The event bus: a bounded history and a broadcast to watchers.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, broadcast};

use crate::db::Db;
use crate::error::Result;
use crate::model::{Event, EventKind, Timestamp};

/// Events kept for `since`, in memory and on disk.
pub const HISTORY: usize = 256;

/// Events a slow watcher may fall behind before it loses some.
const WATCHER_BACKLOG: usize = 4096;

/// Publishes events; cheap to clone.
#[derive(Clone, Debug)]
pub struct EventBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    history: Mutex<History>,
    sender: broadcast::Sender<Arc<Event>>,
    unsaved: Notify,
}

#[derive(Debug, Default)]
struct History {
    last_seq: u64,
    saved_seq: u64,
    events: VecDeque<Arc<Event>>,
}

/// Past events and a receiver of those to come, without a gap between them.
#[derive(Debug)]
pub struct EventWatch {
    /// Kept events, oldest first.
    pub past: Vec<Arc<Event>>,
    /// Those to come.
    pub next: broadcast::Receiver<Arc<Event>>,
}

impl EventBus {
    /// A bus that goes on from the events kept in `db`.
    pub fn open(db: &Db) -> Result<Self> {
        let events: VecDeque<_> = db.events()?.into_iter().map(Arc::new).collect();
        let last_seq = events.back().map_or(0, |e| e.seq);
        let history = History {
            last_seq,
            saved_seq: last_seq,
            events,
        };
        let (sender, _) = broadcast::channel(WATCHER_BACKLOG);
        let shared = Shared {
            history: Mutex::new(history),
            sender,
            unsaved: Notify::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
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
        let mut history = self.lock();
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
        if history.events.len() > HISTORY {
            history.events.pop_front();
        }
        // ORDER: sent under the lock, so that a watcher sees each event exactly once.
        let _ = self.shared.sender.send(event); // an error means that nobody watches
        drop(history);
        self.shared.unsaved.notify_one();
    }

    /// Starts watching.
    pub fn watch(&self) -> EventWatch {
        let history = self.lock();
        EventWatch {
            past: history.events.iter().cloned().collect(),
            next: self.shared.sender.subscribe(),
        }
    }

    /// Number of watchers (`info` tells it).
    pub fn watchers(&self) -> usize {
        self.shared.sender.receiver_count()
    }

    /// Writes new events to `db` whenever there are some, until the task is dropped.
    pub async fn save_to(self, db: Db) {
        loop {
            self.shared.unsaved.notified().await;
            // A burst is written once: sleep a little, then take all there is.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if let Err(e) = self.flush(&db).await {
                tracing::warn!("events not saved: {}", e.chain());
            }
        }
    }

    /// Writes events that are not on disk yet.
    pub async fn flush(&self, db: &Db) -> Result<()> {
        let new: Vec<Event> = {
            let history = self.lock();
            let saved = history.saved_seq;
            history
                .events
                .iter()
                .filter(|e| e.seq > saved)
                .map(|e| (**e).clone())
                .collect()
        };
        let Some(newest) = new.last().map(|e| e.seq) else {
            return Ok(());
        };
        db.call(move |db| db.append_events(&new, HISTORY as u64)).await?;
        self.lock().saved_seq = newest;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, History> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn history_is_bounded_kept_and_gapless() {
        let dir = tempfile::tempdir().expect("temp dir");
        let db = Db::open(&dir.path().join("wharf.db")).expect("open");
        let bus = EventBus::open(&db).expect("bus");
        for i in 0..300 {
            bus.publish(EventKind::Container, "start", format!("c{i}"), BTreeMap::new());
        }
        let mut watch = bus.watch();
        assert_eq!(watch.past.len(), HISTORY);
        bus.publish(EventKind::Container, "die", "last", BTreeMap::new());
        let next = watch.next.recv().await.expect("event");
        assert_eq!(next.seq, watch.past.last().expect("some").seq + 1);
        bus.flush(&db).await.expect("flush");
        let again = EventBus::open(&db).expect("bus");
        assert_eq!(again.watch().past.last().expect("some").actor, "last");
    }
}
