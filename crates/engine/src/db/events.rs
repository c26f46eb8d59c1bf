//! Events that earlier versions kept here; they are taken over into files.
use super::Db;
use super::records::from_json;
use crate::error::{Context, Result};
use crate::model::Event;

impl Db {
    /// The events of an earlier version, oldest first.
    pub fn events(&self) -> Result<Vec<Event>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            let known = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'events'";
            if connection.query_row(known, [], |r| r.get::<_, i64>(0))? == 0 {
                return Ok(Vec::new());
            }
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

    /// Forgets the events of an earlier version, once they are kept elsewhere.
    pub fn forget_events(&self) -> Result<()> {
        let done = self.lock().execute_batch("DROP TABLE IF EXISTS events");
        done.internal(|| "forget the events of an earlier version".into())
    }
}
