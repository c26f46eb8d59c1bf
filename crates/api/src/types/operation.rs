//! Operations under way, which only Wharf tells of.
use serde::{Deserialize, Serialize};

/// One element of `GET /wharf/ops`, an extension of Wharf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Operation {
    /// Number, counted from the engine's start.
    #[serde(rename = "ID")]
    pub id: u64,
    /// What it does: `create`, `start`, `remove`, `image-pull`, ...
    pub kind: String,
    /// To what: a container's or network's id or name, a volume's name, an image's reference.
    pub target: String,
    /// The container's name, where the target is a container that has one by now.
    pub name: String,
    /// How far it is.
    pub step: String,
    /// What it waits for now, and for how long.
    pub waits: Vec<OperationWait>,
    /// When it began, RFC 3339.
    pub started: String,
    /// How long ago, nanoseconds.
    pub age: i64,
    /// When it is given up, RFC 3339; empty when it may take for ever.
    pub deadline: String,
    /// The deadline is over; whoever asked was told.
    pub overdue: bool,
    /// Whether a row in the database makes the next engine complete or undo it.
    pub durable: bool,
}

/// Something that an operation waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct OperationWait {
    /// What.
    pub what: String,
    /// For how long, nanoseconds.
    pub age: i64,
}
