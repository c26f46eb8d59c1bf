//! Bringing what was committed from the write-ahead log into the database, beside the commits.
//!
//! SQLite does that by itself in the commit that makes the log long, and syncs both files there: on a busy disk every
//! container's task would wait for it. Here a connection of its own does it; commits go on meanwhile. Where it is
//! killed the log stays as it is, and the next one goes on.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::Connection;

/// Calls between two checkpoints; each writes some pages of 4 KiB at most.
const CALLS: u32 = 500;

/// A log of more pages than this (64 MiB), because commits never stop, is ended while they wait.
const MOST_PAGES: i64 = 16 << 10;

/// When the next checkpoint is due, and whether one is under way; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    calls: AtomicU32,
    is_running: AtomicBool,
}

impl Checkpoints {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            state: Arc::new(State {
                path: path.to_owned(),
                calls: AtomicU32::new(0),
                is_running: AtomicBool::new(false),
            }),
        }
    }

    /// Counts a call; answers whether the caller has to [`Checkpoints::run`] now.
    pub(super) fn is_due(&self) -> bool {
        let calls = self.state.calls.fetch_add(1, Ordering::Relaxed) + 1;
        calls >= CALLS && !self.state.is_running.swap(true, Ordering::Acquire)
    }

    /// Makes a checkpoint. To be called on a thread where blocking is allowed.
    pub(super) fn run(&self) {
        self.state.calls.store(0, Ordering::Relaxed);
        if let Err(error) = checkpoint(&self.state.path) {
            // The disk may be full; the log holds everything, and grows until a later one succeeds.
            tracing::warn!("no checkpoint of {}: {error}", self.state.path.display());
        }
        self.state.is_running.store(false, Ordering::Release);
    }
}

fn checkpoint(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let (pages, done) = ask(&connection, "PASSIVE")?;
    if done < pages && pages > MOST_PAGES {
        ask(&connection, "RESTART")?;
    }
    Ok(())
}

/// Pages in the log, and how many of them are in the database now.
fn ask(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get(1)?, row.get(2)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_due_once_at_a_time() {
        let checkpoints = Checkpoints::of(Path::new("/nowhere/db"));
        assert_eq!((1..CALLS).filter(|_| checkpoints.is_due()).count(), 0);
        assert!(checkpoints.is_due());
        assert_eq!(
            (0..2 * CALLS).filter(|_| checkpoints.is_due()).count(),
            0,
            "one is under way"
        );
        checkpoints.run(); // fails, and is told
        assert_eq!((0..CALLS).filter(|_| checkpoints.is_due()).count(), 1);
    }

    #[test]
    fn commits_go_on_while_the_log_is_brought_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("wharf.db");
        let connection = Connection::open(&path).expect("a database");
        connection.pragma_update(None, "journal_mode", "WAL").expect("WAL");
        connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .expect("none by itself");
        connection.execute_batch("CREATE TABLE t (v TEXT)").expect("a table");
        let write = || connection.execute("INSERT INTO t VALUES (?1)", ["x".repeat(5000)]);
        (0..50).for_each(|_| assert_eq!(write().expect("written"), 1));
        let log = || std::fs::metadata(dir.path().join("wharf.db-wal")).expect("a log").len();
        let before = log();
        checkpoint(&path).expect("a checkpoint");
        // All is in the database, so that the log begins anew.
        (0..50).for_each(|_| assert_eq!(write().expect("written"), 1));
        assert_eq!(log(), before);
        let count: i64 = connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .expect("read");
        assert_eq!(count, 100);
    }
}
