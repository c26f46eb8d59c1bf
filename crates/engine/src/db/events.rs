//! The last events, kept across restarts of the engine.
use rusqlite::params;

use super::Db;
use super::records::{from_json, to_json};
use crate::error::{Context, Result};
use crate::model::Event;

impl Db {
    /// Appends events and forgets all but the newest `keep`.
    pub fn append_events(&self, events: &[Event], keep: u64) -> Result<()> {
        let Some(newest) = events.last().map(|e| e.seq) else {
            return Ok(());
        };
        let rows: Vec<(u64, String)> = events.iter().map(|e| Ok((e.seq, to_json(e)?))).collect::<Result<_>>()?;
        let mut connection = self.lock();
        let write = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            for (seq, json) in &rows {
                transaction.execute(
                    "INSERT OR REPLACE INTO events (seq, record) VALUES (?1, ?2)",
                    params![seq.cast_signed(), json],
                )?;
            }
            transaction.execute(
                "DELETE FROM events WHERE seq <= ?1",
                [newest.saturating_sub(keep).cast_signed()],
            )?;
            transaction.commit()
        };
        let mut write = write;
        write().internal(|| "write events".into())
    }

    /// The kept events, oldest first.
    pub fn events(&self) -> Result<Vec<Event>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare("SELECT record FROM events ORDER BY seq")?;
            let rows = statement.query_map([], |r| r.get(0))?;
            rows.collect()
        };
        read()
            .internal(|| "read events".into())?
            .iter()
            .map(|t| from_json(t))
            .collect()
    }
}
