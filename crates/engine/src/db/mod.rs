//! The engine's records in `<root>/wharf.db`: containers, networks, journal, mounts of plugins' volumes, runs.
//!
//! One connection behind a mutex, WAL, `synchronous=NORMAL`: a commit survives the death of
//! the engine; networks are committed with `FULL`, because losing an
//! acknowledged one in a power cut would lose user data. Functions are synchronous and short; async code
//! uses [`Db::call`]. The store keeps its own tables in the same file through its own
//! connection.
mod checkpoint;
mod events;
mod journal;
mod mounts;
mod records;
mod runs;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::{Context, Error, Result};

use checkpoint::Checkpoints;
pub use journal::{JournalEntry, JournalId};
pub use runs::EngineRun;

/// Version of the tables, kept in `engine_meta`.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS engine_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS networks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, target TEXT NOT NULL,
    step INTEGER NOT NULL DEFAULT 0, deadline_ns INTEGER NOT NULL, args TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS volume_mounts (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS engine_runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, started_ns INTEGER NOT NULL, ended_ns INTEGER, rebooted INTEGER NOT NULL);
";

/// Handle on the engine's records; cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    connection: Arc<Mutex<Connection>>,
    checkpoints: Checkpoints,
}

impl Db {
    /// Opens or creates `path` and its tables; refuses tables of a newer engine.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).internal(|| format!("open the database {}", path.display()))?;
        let db = Self {
            connection: Arc::new(Mutex::new(connection)),
            checkpoints: Checkpoints::of(path),
        };
        db.prepare()
            .internal(|| format!("prepare the database {}", path.display()))?;
        db.check_version(path)?;
        Ok(db)
    }

    /// Runs `work` on a thread where blocking is allowed.
    pub async fn call<T: Send + 'static>(&self, work: impl FnOnce(&Db) -> Result<T> + Send + 'static) -> Result<T> {
        let _waiting = crate::operations::waiting("the database");
        let db = self.clone();
        if self.checkpoints.is_due() {
            let checkpoints = self.checkpoints.clone();
            // Nobody waits for it.
            drop(tokio::task::spawn_blocking(move || checkpoints.run()));
        }
        match tokio::task::spawn_blocking(move || work(&db)).await {
            Ok(result) => result,
            Err(join) => Err(Error::internal("a database call was interrupted").with_source(join)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while holding it leaves SQLite's own transaction rolled back: usable.
        self.connection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let connection = self.lock();
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // ORDER: checkpoints sync both files; they are made beside the commits.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -512)?;
        connection.set_prepared_statement_cache_capacity(32);
        connection.execute_batch(SCHEMA)?;
        connection.execute(
            "INSERT OR IGNORE INTO engine_meta (key, value) VALUES ('schema', ?1)",
            [SCHEMA_VERSION],
        )?;
        Ok(())
    }

    /// Gives back what SQLite keeps of the file in memory.
    pub(crate) fn shrink(&self) {
        if let Err(error) = self.lock().execute_batch("PRAGMA shrink_memory") {
            tracing::debug!(%error, "the database gave no memory back");
        }
    }

    fn check_version(&self, path: &Path) -> Result<()> {
        let version: i64 = self
            .lock()
            .query_row("SELECT value FROM engine_meta WHERE key = 'schema'", [], |r| r.get(0))
            .internal(|| "read the schema version".into())?;
        if version > SCHEMA_VERSION {
            return Err(Error::internal(format!(
                "{} was written by a newer engine (schema {version}, this one knows {SCHEMA_VERSION})",
                path.display()
            ))
            .with_hint("install the newer engine again, or use another root"));
        }
        Ok(())
    }

    /// Runs `work` with commits that survive a power cut.
    fn durably<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let connection = self.lock();
        connection.pragma_update(None, "synchronous", "FULL")?;
        let result = work(&connection);
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        result
    }
}

#[cfg(test)]
mod tests;
