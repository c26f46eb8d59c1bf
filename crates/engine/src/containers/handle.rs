//! What readers and callers share with a container's task: its published record, those who
//! wait for its end, the way to its shim, attaching clients and exec sessions.
//!
//! Locks here are held for a few instructions and never across an await.
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use wharf_shim::client::ShimClient;
use wharf_shim::plan::AttachSpec;

use super::command::Command;
use super::exec::ExecSession;
use crate::error::{Error, Result};
use crate::model::requests::{WaitCondition, WaitResult};
use crate::model::{ContainerId, ContainerRecord, ExecId, Status};

/// How long a start waits for clients that were told they are attached.
const ATTACH_PATIENCE: Duration = Duration::from_secs(2);

/// How long the news of an end may be on its way.
const NEWS_PATIENCE: Duration = Duration::from_secs(5);

/// Clients that may wait attached to a container that does not run.
const MAX_WAITING_CLIENTS: usize = 64;

/// One container as everybody but its task sees it.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Its task's mailbox.
    pub(crate) mailbox: mpsc::Sender<Command>,
    published: Mutex<Published>,
    changed: tokio::sync::watch::Sender<u64>,
    attach: Mutex<AttachQueue>,
    attach_changed: Notify,
    pub(super) execs: Mutex<HashMap<ExecId, Arc<ExecSession>>>,
}

#[derive(Debug)]
struct Published {
    record: Arc<ContainerRecord>,
    next_exit: Vec<oneshot::Sender<WaitResult>>,
    removed: Vec<oneshot::Sender<WaitResult>>,
}

#[derive(Debug, Default)]
struct AttachQueue {
    /// Clients that were told they are attached and have not been handed over yet.
    promised: usize,
    /// Clients that wait for the next start.
    waiting: Vec<(AttachSpec, OwnedFd)>,
    /// The shim, while it keeps a container.
    live: Option<ShimClient>,
}

/// A promise that a client will be handed over; dropping it takes it back.
#[derive(Debug)]
pub(crate) struct AttachPromise {
    handle: Arc<Handle>,
}

impl Handle {
    pub(crate) fn new(record: ContainerRecord, mailbox: mpsc::Sender<Command>) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            mailbox,
            published: Mutex::new(Published {
                record: Arc::new(record),
                next_exit: Vec::new(),
                removed: Vec::new(),
            }),
            changed: tokio::sync::watch::Sender::new(0),
            attach: Mutex::new(AttachQueue::default()),
            attach_changed: Notify::new(),
            execs: Mutex::new(HashMap::new()),
        })
    }

    /// The published record.
    pub(crate) fn record(&self) -> Arc<ContainerRecord> {
        Arc::clone(&lock(&self.published).record)
    }

    /// Publishes a record.
    pub(crate) fn publish(&self, record: &ContainerRecord) {
        lock(&self.published).record = Arc::new(record.clone());
        self.changed.send_modify(|n| *n += 1);
    }

    /// Publishes the end of a run and tells those who waited for it.
    pub(crate) fn publish_exit(&self, record: &ContainerRecord) {
        let waiters = {
            let mut published = lock(&self.published);
            published.record = Arc::new(record.clone());
            std::mem::take(&mut published.next_exit)
        };
        self.changed.send_modify(|n| *n += 1);
        let result = result_of(record);
        for waiter in waiters {
            let _ = waiter.send(result.clone()); // gone callers do not mind
        }
    }

    /// Tells everybody who still waits that it is gone.
    pub(crate) fn publish_removed(&self) {
        let (waiters, result) = {
            let mut published = lock(&self.published);
            let mut waiters = std::mem::take(&mut published.removed);
            waiters.append(&mut published.next_exit);
            // COMPAT: the error of a failed start is the answer of `start`, not of the removal after it.
            let result = WaitResult {
                error: None,
                ..result_of(&published.record)
            };
            (waiters, result)
        };
        self.changed.send_modify(|n| *n += 1);
        for waiter in waiters {
            let _ = waiter.send(result.clone()); // gone callers do not mind
        }
    }

    /// Changes of the published record, as a counter.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The published record, but not while its process is gone and the news is on the way.
    pub(crate) async fn settled(&self) -> Arc<ContainerRecord> {
        let mut changes = self.changes();
        let wait = async {
            loop {
                let record = self.record();
                let gone = record.state.is_running() && !is_alive(record.state.pid);
                if !gone || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(NEWS_PATIENCE, wait).await; // then what is known has to do
        self.record()
    }

    /// Registers a wait; no end after this call is missed.
    pub(crate) fn wait(&self, condition: WaitCondition) -> oneshot::Receiver<WaitResult> {
        let (sender, receiver) = oneshot::channel();
        let mut published = lock(&self.published);
        let runs = published.record.state.shows_as_running();
        match condition {
            WaitCondition::Removed => published.removed.push(sender),
            WaitCondition::NotRunning if !runs => {
                let _ = sender.send(result_of(&published.record)); // the receiver is below
            }
            WaitCondition::NotRunning | WaitCondition::NextExit => published.next_exit.push(sender),
        }
        receiver
    }

    /// The shim, when there is one.
    pub(crate) fn shim(&self) -> Option<ShimClient> {
        lock(&self.attach).live.clone()
    }

    /// The shim of a running container, or Docker's error.
    pub(crate) fn running_shim(&self) -> Result<ShimClient> {
        let record = self.record();
        match self.shim() {
            Some(shim) if record.state.is_running() => Ok(shim),
            _ => Err(Error::conflict(format!("container {} is not running", self.id))),
        }
    }

    /// Takes note that a client is about to be attached.
    pub(crate) fn promise_attach(self: &Arc<Self>) -> Result<AttachPromise> {
        let mut queue = lock(&self.attach);
        if queue.promised + queue.waiting.len() >= MAX_WAITING_CLIENTS {
            return Err(Error::unavailable(format!(
                "container {} has {MAX_WAITING_CLIENTS} clients waiting for its start already",
                self.id
            )));
        }
        queue.promised += 1;
        Ok(AttachPromise {
            handle: Arc::clone(self),
        })
    }

    /// Waits until every promised client is handed over, or patience is over; takes them.
    pub(crate) async fn take_waiting_clients(&self) -> Vec<(AttachSpec, OwnedFd)> {
        let all_there = async {
            loop {
                let notified = self.attach_changed.notified();
                if lock(&self.attach).promised == 0 {
                    return;
                }
                notified.await;
            }
        };
        let _ = tokio::time::timeout(ATTACH_PATIENCE, all_there).await; // late ones attach live
        std::mem::take(&mut lock(&self.attach).waiting)
    }

    /// Publishes the shim; clients that came meanwhile are returned, to be attached to it.
    pub(crate) fn shim_is(&self, shim: Option<ShimClient>) -> Vec<(AttachSpec, OwnedFd)> {
        let mut queue = lock(&self.attach);
        queue.live = shim;
        match queue.live {
            Some(_) => std::mem::take(&mut queue.waiting),
            None => Vec::new(),
        }
    }
}

impl AttachPromise {
    /// Hands a client over: to the shim when there is one, else to the next start.
    pub(crate) async fn keep(self, spec: AttachSpec, client: OwnedFd) -> Result<()> {
        let live = {
            let mut queue = lock(&self.handle.attach);
            match queue.live.clone() {
                Some(shim) => Some((shim, spec, client)),
                None => {
                    queue.waiting.push((spec, client));
                    None
                }
            }
        };
        match live {
            Some((shim, spec, client)) => shim.attach(spec, client).await.map_err(Error::from),
            None => Ok(()),
        }
    }
}

impl Drop for AttachPromise {
    fn drop(&mut self) {
        lock(&self.handle.attach).promised -= 1;
        self.handle.attach_changed.notify_waiters();
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn result_of(record: &ContainerRecord) -> WaitResult {
    let failed_start = record.state.status == Status::Created && !record.state.error.is_empty();
    WaitResult {
        status_code: i64::from(record.state.exit_code),
        error: failed_start.then(|| record.state.error.clone()),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
