//! Operations under way: what each does, to what, how far it is, what it waits for, until when.
//!
//! ```text
//!  caller --> run / run_here / watch -- deadline over --> "did not end ...: it is stuck on ..."
//!                        |
//!                        v  scope: the operation that this task is about
//!              step("...") and waiting("...") from anywhere below, without passing it along
//! ```
//! Every operation is here from before its first side effect until nobody works on it any more,
//! even when its caller was told that it takes too long. Which ones also have a row in the
//! database, and why, is in [`OperationKind::durability`]. Locks here are held for a few instructions only.
mod kind;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use wharf_sys::failpoint;

pub use kind::{Durability, OperationKind};

use crate::Shared;
use crate::db::JournalId;
use crate::error::{Error, Result};
use crate::model::Timestamp;

/// Where an operation stands before anybody works on it.
const QUEUED: &str = "queued";

tokio::task_local! {
    static CURRENT: Arc<Operation>;
}

/// The operations of one engine; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Operations {
    list: Arc<Mutex<List>>,
    limits: Arc<Mutex<BTreeMap<OperationKind, Duration>>>,
    worked: Arc<Notify>,
}

#[derive(Debug, Default)]
struct List {
    last: u64,
    running: BTreeMap<u64, Weak<Operation>>,
}

/// One operation; it is over when the last of these is dropped.
#[derive(Debug)]
pub(crate) struct Operation {
    id: u64,
    kind: OperationKind,
    target: String,
    begun: Instant,
    begun_at: Timestamp,
    deadline: Option<Instant>,
    doing: Mutex<Doing>,
    list: Arc<Mutex<List>>,
    worked: Arc<Notify>,
}

#[derive(Debug)]
struct Doing {
    step: &'static str,
    waits: Vec<(Cow<'static, str>, Instant)>,
}

/// An operation as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationSeen {
    /// Number, counted from the engine's start.
    pub id: u64,
    /// What it does.
    pub kind: OperationKind,
    /// To what: a container's id, a network's or volume's name, an image's reference.
    pub target: String,
    /// How far it is.
    pub step: String,
    /// What it waits for now, with the time that has taken; several when it does things in parallel.
    pub waits: Vec<(String, Duration)>,
    /// When it began.
    pub begun: Timestamp,
    /// How long ago.
    pub age: Duration,
    /// When it is given up; `None` when it may take for ever (a stop without a time limit).
    pub deadline: Option<Timestamp>,
    /// The deadline is over; whoever asked was told, and nobody else waits for it.
    pub overdue: bool,
}

impl Operations {
    /// With the configured time limits by kind.
    pub(crate) fn new(limits: BTreeMap<OperationKind, Duration>) -> Self {
        Self {
            list: Arc::default(),
            limits: Arc::new(Mutex::new(limits)),
            worked: Arc::default(),
        }
    }

    /// Rings when an operation has ended.
    pub(crate) fn worked(&self) -> &Arc<Notify> {
        &self.worked
    }

    /// How long an operation of this kind may take.
    pub(crate) fn time_limit(&self, kind: OperationKind) -> Duration {
        let configured = lock(&self.limits).get(&kind).copied();
        configured.unwrap_or_else(|| kind.time_limit())
    }

    /// Other time limits for operations that begin from now on.
    pub(crate) fn limit(&self, limits: BTreeMap<OperationKind, Duration>) {
        *lock(&self.limits) = limits;
    }

    /// Notes that an operation begins; the time limit is its kind's.
    pub(crate) fn begin(&self, kind: OperationKind, target: impl Into<String>) -> Arc<Operation> {
        self.begin_until(kind, target, Some(Duration::ZERO))
    }

    /// Notes that an operation begins that has `more` time than others of its kind; `None` is for ever.
    pub(crate) fn begin_until(
        &self,
        kind: OperationKind,
        target: impl Into<String>,
        more: Option<Duration>,
    ) -> Arc<Operation> {
        let begun = Instant::now();
        let mut list = lock(&self.list);
        list.last += 1;
        let operation = Arc::new(Operation {
            id: list.last,
            kind,
            target: target.into(),
            begun,
            begun_at: Timestamp::now(),
            deadline: more.and_then(|more| begun.checked_add(self.time_limit(kind) + more)),
            doing: Mutex::new(Doing {
                step: QUEUED,
                waits: Vec::new(),
            }),
            list: Arc::clone(&self.list),
            worked: Arc::clone(&self.worked),
        });
        list.running.insert(operation.id, Arc::downgrade(&operation));
        operation
    }

    /// Everything under way, oldest first. Never waits.
    pub fn list(&self) -> Vec<OperationSeen> {
        self.running().iter().map(|operation| operation.seen()).collect()
    }

    fn running(&self) -> Vec<Arc<Operation>> {
        lock(&self.list).running.values().filter_map(Weak::upgrade).collect()
    }

    /// Runs `work` as an operation in a task of its own: it goes on when the caller goes away, and
    /// when its deadline is over the caller is told what it is stuck on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        kind: OperationKind,
        target: impl Into<String>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let operation = self.begin(kind, target);
        let task = tokio::spawn(within(Arc::clone(&operation), async {
            step("begun");
            work.await
        }));
        let ended = async {
            match task.await {
                Ok(result) => result,
                Err(join) => Err(Error::internal(format!("the {kind} was interrupted")).with_source(join)),
            }
        };
        self.watch(&operation, ended).await
    }

    /// Runs `work` as an operation that ends with its caller: transfers that nobody waits for are cancelled.
    pub(crate) async fn run_here<T>(
        &self,
        kind: OperationKind,
        target: impl Into<String>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let operation = self.begin(kind, target);
        let work = within(Arc::clone(&operation), async {
            step("begun");
            work.await
        });
        self.watch(&operation, work).await
    }

    /// Waits for the end of what somebody else does, but not beyond the operation's deadline.
    pub(crate) async fn watch<T>(&self, operation: &Operation, ended: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(deadline) = operation.deadline else {
            return ended.await;
        };
        match tokio::time::timeout_at(deadline.into(), ended).await {
            Ok(result) => result,
            Err(_) => Err(self.overdue(operation)),
        }
    }

    /// The error of an operation whose deadline is over.
    fn overdue(&self, operation: &Operation) -> Error {
        let stuck = operation.stuck_on();
        let stuck = match self.ahead_of(operation) {
            Some(ahead) if operation.is_queued() => {
                format!(
                    "operation {} ({}), which is stuck on {}",
                    ahead.id,
                    ahead.kind,
                    ahead.stuck_on()
                )
            }
            _ => stuck,
        };
        Error::unavailable(format!(
            "{} of {} did not end within {} s: it is stuck on {stuck}",
            operation.kind,
            operation.target,
            operation.begun.elapsed().as_secs(),
        ))
        .with_hint(format!("it goes on as operation {} of `wharf ops`", operation.id))
    }

    /// The operation on the same target that is worked on while this one waits.
    fn ahead_of(&self, operation: &Operation) -> Option<Arc<Operation>> {
        let same = |other: &Arc<Operation>| other.target == operation.target && other.id != operation.id;
        self.running().into_iter().filter(same).find(|other| !other.is_queued())
    }
}

impl Operation {
    /// When it is given up, as the journal writes it; what may take for ever is the largest time.
    pub(crate) fn deadline(&self) -> Timestamp {
        let left = self.deadline.map(|deadline| deadline.duration_since(self.begun));
        let at = left.and_then(|left| {
            let left = i64::try_from(left.as_nanos()).ok()?;
            self.begun_at.as_nanos().checked_add(left)
        });
        Timestamp::from_nanos(at.unwrap_or(i64::MAX))
    }

    fn is_queued(&self) -> bool {
        let doing = lock(&self.doing);
        doing.step == QUEUED && doing.waits.is_empty()
    }

    /// What it waits for, or the step it is at.
    fn stuck_on(&self) -> String {
        let doing = lock(&self.doing);
        let waits: Vec<String> = doing
            .waits
            .iter()
            .map(|(what, since)| format!("{what} (for {} s)", since.elapsed().as_secs()))
            .collect();
        match waits.is_empty() {
            true => format!("the step {:?}", doing.step),
            false => waits.join(" and "),
        }
    }

    fn seen(&self) -> OperationSeen {
        let doing = lock(&self.doing);
        let waits = doing
            .waits
            .iter()
            .map(|(what, since)| (what.to_string(), since.elapsed()));
        OperationSeen {
            id: self.id,
            kind: self.kind,
            target: self.target.clone(),
            step: doing.step.to_owned(),
            waits: waits.collect(),
            begun: self.begun_at,
            age: self.begun.elapsed(),
            deadline: self.deadline.map(|_| self.deadline()),
            overdue: self.deadline.is_some_and(|deadline| deadline <= Instant::now()),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        lock(&self.list).running.remove(&self.id);
        self.worked.notify_one();
    }
}

/// Runs `work` as a part of `operation`.
pub(crate) async fn within<T>(operation: Arc<Operation>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(operation, work).await
}

/// The operation that this task is about.
pub(crate) fn current() -> Option<Arc<Operation>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs `work` as a part of the current operation, or as one of its own when there is none: what a
/// container's policy decides is an operation like what a user asks for.
pub(crate) async fn ensure<T>(
    operations: &Operations,
    kind: OperationKind,
    target: &str,
    work: impl Future<Output = T>,
) -> T {
    match current() {
        Some(_) => work.await,
        None => within(operations.begin(kind, target), work).await,
    }
}

/// Notes how far the current operation is. Also a failpoint, `<kind>/<step>`.
pub(crate) fn step(name: &'static str) {
    let _ = CURRENT.try_with(|operation| {
        lock(&operation.doing).step = name;
        if failpoint::is_armed() {
            failpoint::reach(&format!("{}/{name}", operation.kind));
        }
    }); // outside of any operation there is nothing to note
}

/// Writes the row of an operation before its first side effect; its deadline is the current operation's.
pub(crate) async fn journal(
    shared: &Arc<Shared>,
    kind: OperationKind,
    target: &str,
    args: serde_json::Value,
) -> Result<JournalId> {
    let deadline = match current() {
        Some(operation) => operation.deadline(),
        None => shared.operations.begin(kind, target).deadline(),
    };
    let target = target.to_owned();
    let begin = move |db: &crate::db::Db| db.journal_begin(kind, &target, deadline, &args);
    shared.db.call(begin).await
}

/// The time that the current operation has left.
pub(crate) fn time_left() -> Option<Duration> {
    let deadline = current()?.deadline?;
    Some(deadline.saturating_duration_since(Instant::now()))
}

/// Something that the current operation waits for, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    operation: Option<Arc<Operation>>,
    what: Cow<'static, str>,
}

/// Notes that the current operation waits for `what`.
pub(crate) fn waiting(what: impl Into<Cow<'static, str>>) -> Waiting {
    let (operation, what) = (current(), what.into());
    if let Some(operation) = &operation {
        lock(&operation.doing).waits.push((what.clone(), Instant::now()));
    }
    Waiting { operation, what }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(operation) = &self.operation {
            let mut doing = lock(&operation.doing);
            if let Some(at) = doing.waits.iter().position(|(what, _)| *what == self.what) {
                doing.waits.remove(at);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
