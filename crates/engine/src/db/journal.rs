//! The journal: a row per operation that has begun and not ended.
use rusqlite::params;

use super::Db;
use super::records::to_json;
use crate::error::{Context, Result};
use crate::model::Timestamp;
use crate::operations::OperationKind;

/// A row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalId(pub i64);

/// One unfinished operation.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// Its key.
    pub id: JournalId,
    /// What it does.
    pub kind: OperationKind,
    /// To what (container id, network id, volume name).
    pub target: String,
    /// How far it came, in the operation's own counting.
    pub step: i64,
    /// When it is given up.
    pub deadline: Timestamp,
    /// What is needed to complete or undo it.
    pub args: serde_json::Value,
}

impl Db {
    /// Commits the row of an operation, before its first side effect.
    pub fn journal_begin(
        &self,
        kind: OperationKind,
        target: &str,
        deadline: Timestamp,
        args: &serde_json::Value,
    ) -> Result<JournalId> {
        let (kind_text, args_text) = (kind.as_str(), to_json(args)?);
        let connection = self.lock();
        connection
            .prepare_cached("INSERT INTO journal (kind, target, deadline_ns, args) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut s| s.insert(params![kind_text, target, deadline.as_nanos(), args_text]))
            .map(JournalId)
            .internal(|| format!("journal the {kind_text} of {target}"))
    }

    /// Records how far an operation came.
    pub fn journal_step(&self, id: JournalId, step: i64) -> Result<()> {
        self.lock()
            .prepare_cached("UPDATE journal SET step = ?2 WHERE id = ?1")
            .and_then(|mut s| s.execute(params![id.0, step]))
            .internal(|| format!("journal step {step} of operation {}", id.0))?;
        Ok(())
    }

    /// Forgets an operation that is complete or undone.
    pub fn journal_end(&self, id: JournalId) -> Result<()> {
        self.lock()
            .prepare_cached("DELETE FROM journal WHERE id = ?1")
            .and_then(|mut s| s.execute([id.0]))
            .internal(|| format!("end operation {} in the journal", id.0))?;
        Ok(())
    }

    /// All unfinished operations, oldest first.
    pub fn journal(&self) -> Result<Vec<JournalEntry>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<Row>> {
            let mut statement =
                connection.prepare("SELECT id, kind, target, step, deadline_ns, args FROM journal ORDER BY id")?;
            let rows = statement.query_map([], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
            })?;
            rows.collect()
        };
        let rows = read().internal(|| "read the journal".into())?;
        rows.into_iter().map(entry_of).collect()
    }
}

/// A row as it is stored: id, kind, target, step, deadline, arguments.
type Row = (i64, String, String, i64, i64, String);

fn entry_of(row: Row) -> Result<JournalEntry> {
    let (id, kind, target, step, deadline, args) = row;
    let kind = serde_json::from_value(serde_json::Value::String(kind))
        .internal(|| format!("read the kind of operation {id}"))?;
    let args = serde_json::from_str(&args).internal(|| format!("read the arguments of operation {id}"))?;
    Ok(JournalEntry {
        id: JournalId(id),
        kind,
        target,
        step,
        deadline: Timestamp::from_nanos(deadline),
        args,
    })
}
