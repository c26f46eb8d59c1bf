//! The image tables of `wharf.db`.
//!
//! The engine has its own connection to the same file for its own tables; both use WAL and wait for each other.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::Result;
use crate::error::DatabaseContext;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,            -- digest of the target manifest or index
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,          -- of the target document
    parent TEXT,                    -- image it was made from, if known
    stored_ns INTEGER NOT NULL,
    tagged_ns INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS image_names (
    name TEXT PRIMARY KEY,          -- canonical reference with tag or digest
    image TEXT NOT NULL REFERENCES images(id)
) STRICT;
CREATE INDEX IF NOT EXISTS image_names_by_image ON image_names(image);
CREATE TABLE IF NOT EXISTS leases (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,          -- the process that holds it; empty for pins
    purpose TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    deadline_ns INTEGER             -- NULL: a pin, never ends by itself
) STRICT;
CREATE TABLE IF NOT EXISTS lease_refs (
    lease TEXT NOT NULL REFERENCES leases(id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (lease, digest)
) STRICT, WITHOUT ROWID;
";

/// How long an acknowledged change must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A killed process (`synchronous=NORMAL`).
    Process,
    /// A power cut (`synchronous=FULL`): user data, such as a tag after a commit.
    Power,
}

/// Opens the database and makes the tables.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).during("opening")?;
    connection
        .busy_timeout(Duration::from_secs(5))
        .during("setting the wait time")?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .during("choosing the journal")?;
    connection
        .pragma_update(None, "synchronous", "NORMAL")
        .during("choosing durability")?;
    connection
        .pragma_update(None, "foreign_keys", true)
        .during("turning on foreign keys")?;
    connection.execute_batch(SCHEMA).during("making the tables")?;
    Ok(connection)
}

/// Runs `work` in one write transaction.
pub(crate) fn transact<T>(
    connection: &mut Connection,
    durability: Durability,
    work: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let full = durability == Durability::Power;
    if full {
        connection
            .pragma_update(None, "synchronous", "FULL")
            .during("choosing durability")?;
    }
    let result = begin_and_commit(connection, work);
    if full {
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .during("choosing durability")?;
    }
    result
}

fn begin_and_commit<T>(connection: &mut Connection, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .during("beginning")?;
    let value = work(&transaction)?;
    transaction.commit().during("committing")?;
    Ok(value)
}

/// Now, as the tables hold it.
pub(crate) fn now_ns() -> i64 {
    to_ns(SystemTime::now())
}

/// A time as the tables hold it.
pub(crate) fn to_ns(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A time from the tables.
pub(crate) fn from_ns(ns: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}
