//! What the engine before left undecided about one container: the rows of the journal, and what
//! follows from each kind once the container is found.
//!
//! | row | found running | found ended |
//! |---|---|---|
//! | create | - | no record: its volumes and directory are removed |
//! | start | undone, nobody was told that it runs | undone |
//! | stop | stopped with the time that is left | it stays stopped |
//! | restart | restarted with the time that is left | started |
//! | update | the limits are set again and written down | the limits are for the next start |
//! | commit | thawed | - |
//! | remove | completed | completed |
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::changes;
use super::machine::{Input, Phase};
use super::task::Task;
use crate::db::{Db, JournalEntry, JournalId};
use crate::error::{Context, Result};
use crate::model::Timestamp;
use crate::operations::OperationKind;

/// How a stop or restart was asked for, as its row tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StopRow {
    signal: i32,
    /// When SIGKILL follows, nanoseconds since 1970; never if absent.
    kill_at_ns: Option<i64>,
}

/// The row of a stop or restart; nothing for other requests.
pub(super) fn stop_row(input: Input, now: Timestamp) -> Option<(OperationKind, serde_json::Value)> {
    let (kind, signal, timeout) = match input {
        Input::Stop { signal, timeout } => (OperationKind::Stop, signal, timeout),
        Input::Restart { signal, timeout } => (OperationKind::Restart, signal, timeout),
        _ => return None,
    };
    let kill_at_ns = timeout.map(|timeout| {
        let timeout = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        now.as_nanos().saturating_add(timeout)
    });
    let args = serde_json::to_value(StopRow { signal, kill_at_ns }).unwrap_or_default();
    Some((kind, args))
}

/// The request that a row stands for, with the time that is left.
fn wanted(row: &JournalEntry, now: Timestamp) -> Option<Input> {
    let stop: StopRow = serde_json::from_value(row.args.clone()).ok()?;
    let left = |at: i64| Duration::from_nanos(u64::try_from(at.saturating_sub(now.as_nanos())).unwrap_or(0));
    let (signal, timeout) = (stop.signal, stop.kill_at_ns.map(left));
    match row.kind {
        OperationKind::Stop => Some(Input::Stop { signal, timeout }),
        OperationKind::Restart => Some(Input::Restart { signal, timeout }),
        _ => None,
    }
}

/// The rows of one container.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    /// Oldest first.
    pub(super) rows: Vec<JournalEntry>,
    /// The machine was booted since the engine last ran.
    pub(super) rebooted: bool,
}

impl Unfinished {
    /// What was begun last.
    pub(super) fn youngest(&self) -> Option<OperationKind> {
        self.rows.last().map(|row| row.kind)
    }

    /// Whether there is a row of this kind.
    pub(super) fn has(&self, kind: OperationKind) -> bool {
        self.rows.iter().any(|row| row.kind == kind)
    }

    /// The row that decides what is found of the container means: a removal above all.
    pub(super) fn decisive(&self) -> Option<OperationKind> {
        [OperationKind::Remove, OperationKind::Start]
            .into_iter()
            .find(|kind| self.has(*kind))
    }

    /// Whether a removal was to take the anonymous volumes too.
    pub(super) fn takes_volumes(&self) -> bool {
        let asks = |row: &JournalEntry| row.args.get("volumes") == Some(&serde_json::Value::Bool(true));
        self.rows.iter().any(asks)
    }

    /// What a user had asked for and what is not done yet; the youngest request counts.
    pub(super) fn wanted(&self, now: Timestamp) -> Option<Input> {
        self.rows.iter().rev().find_map(|row| wanted(row, now))
    }

    /// The row that the request above stands in: it stays until that is done.
    pub(super) fn open_rows(&self) -> Vec<JournalId> {
        let open = |row: &&JournalEntry| matches!(row.kind, OperationKind::Stop | OperationKind::Restart);
        self.rows.iter().filter(open).map(|row| row.id).collect()
    }

    /// The arguments of an update that may be half done.
    pub(super) fn update(&self) -> Option<serde_json::Value> {
        let row = self.rows.iter().rev().find(|row| row.kind == OperationKind::Update);
        row.map(|row| row.args.clone())
    }
}

/// Completes or undoes what follows once a running container was found.
pub(super) async fn settle_running(task: &mut Task, left: &Unfinished) {
    if let Some(args) = left.update()
        && let Err(error) = changes::complete_update(task, &args).await
    {
        tracing::warn!(
            container = task.record.id.short(),
            "an update could not be completed: {}",
            error.chain()
        );
    }
    if left.has(OperationKind::Commit) && task.phase() == Phase::Paused {
        // A commit froze it, nobody else would thaw it.
        task.ask_itself(Input::Unpause).await;
    }
}

/// Ends rows whose operations are completed or undone.
pub(super) fn end_rows(db: &Db, rows: &[JournalId]) -> Result<()> {
    for row in rows {
        db.journal_end(*row).internal(|| "end what is settled".into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: OperationKind, args: serde_json::Value) -> JournalEntry {
        JournalEntry {
            id: JournalId(1),
            kind,
            target: "c".into(),
            step: 0,
            deadline: Timestamp::from_nanos(0),
            args,
        }
    }

    fn read_back(input: Input, after: i64) -> Option<Input> {
        let (kind, args) = stop_row(input, Timestamp::from_nanos(1000)).expect("a row");
        wanted(&row(kind, args), Timestamp::from_nanos(1000 + after))
    }

    #[test]
    fn a_stop_is_continued_with_the_time_that_is_left() {
        let stop = |nanos: Option<u64>| Input::Stop {
            signal: 15,
            timeout: nanos.map(Duration::from_nanos),
        };
        assert_eq!(read_back(stop(Some(100)), 40), Some(stop(Some(60))));
        assert_eq!(read_back(stop(Some(100)), 400), Some(stop(Some(0))));
        assert_eq!(read_back(stop(None), 400), Some(stop(None)));
        let restart = Input::Restart {
            signal: 2,
            timeout: Some(Duration::ZERO),
        };
        assert_eq!(read_back(restart, 0), Some(restart));
        assert!(stop_row(Input::Start, Timestamp::from_nanos(0)).is_none());
    }

    #[test]
    fn a_removal_decides_before_a_start() {
        let none = serde_json::Value::Null;
        let left = Unfinished {
            rows: vec![
                row(OperationKind::Start, none.clone()),
                row(OperationKind::Remove, serde_json::json!({"volumes": true})),
            ],
            rebooted: false,
        };
        assert_eq!(left.decisive(), Some(OperationKind::Remove));
        assert!(left.takes_volumes() && left.wanted(Timestamp::from_nanos(0)).is_none());
    }
}
