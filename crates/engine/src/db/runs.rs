//! When engines ran on this root, for the stories of containers. The newest are kept.
use rusqlite::params;

use super::Db;
use crate::error::{Context, Result};
use crate::model::Timestamp;

/// Runs that are kept.
const MAX_RUNS: i64 = 64;

/// One run of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineRun {
    /// When it began.
    pub started: Timestamp,
    /// When it was stopped; `None` when it was killed, or runs.
    pub ended: Option<Timestamp>,
    /// The machine had been booted since the run before.
    pub rebooted: bool,
}

impl Db {
    /// Notes that an engine runs from now on.
    pub fn run_begins(&self, now: Timestamp, rebooted: bool) -> Result<()> {
        let connection = self.lock();
        let write = || {
            connection.execute(
                "INSERT INTO engine_runs (started_ns, rebooted) VALUES (?1, ?2)",
                params![now.as_nanos(), rebooted],
            )?;
            connection.execute(
                "DELETE FROM engine_runs WHERE id <= (SELECT max(id) FROM engine_runs) - ?1",
                [MAX_RUNS],
            )
        };
        write().internal(|| "note the start of the engine".into())?;
        Ok(())
    }

    /// Notes that the engine that runs ends in peace.
    pub fn run_ends(&self, now: Timestamp) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE engine_runs SET ended_ns = ?1 WHERE id = (SELECT max(id) FROM engine_runs)",
                [now.as_nanos()],
            )
            .internal(|| "note the end of the engine".into())?;
        Ok(())
    }

    /// The kept runs, oldest first.
    pub fn runs(&self) -> Result<Vec<EngineRun>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<EngineRun>> {
            let mut statement =
                connection.prepare("SELECT started_ns, ended_ns, rebooted FROM engine_runs ORDER BY id")?;
            let rows = statement.query_map([], |r| {
                Ok(EngineRun {
                    started: Timestamp::from_nanos(r.get(0)?),
                    ended: r.get::<_, Option<i64>>(1)?.map(Timestamp::from_nanos),
                    rebooted: r.get(2)?,
                })
            })?;
            rows.collect()
        };
        read().internal(|| "read the runs of the engine".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_bounded_and_a_killed_one_has_no_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let db = Db::open(&dir.path().join("wharf.db")).expect("open");
        for i in 1..=100 {
            db.run_begins(Timestamp::from_nanos(i), false).expect("begins");
            if i % 2 == 0 {
                db.run_ends(Timestamp::from_nanos(i)).expect("ends");
            }
        }
        let runs = db.runs().expect("read");
        assert_eq!(runs.len(), 64);
        assert_eq!(runs[63].ended, Some(Timestamp::from_nanos(100)));
        assert_eq!(runs[62].ended, None);
    }
}
