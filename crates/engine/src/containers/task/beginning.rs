//! How a container's task begins: new, or from what the engine before left of its container.
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use wharf_shim::client::ShimClient;
use wharf_shim::protocol::ExitRecord;
use wharf_sys::failpoint;

use super::super::handle::Handle;
use super::super::machine::{Input, Machine, Phase};
use super::super::recovery::{self, Found};
use super::super::remove::NetworkLeft;
use super::super::start;
use super::super::unfinished::{self, Unfinished};
use super::{Askers, Task, policy_of};
use crate::Shared;
use crate::model::requests::RemoveOptions;
use crate::model::{Cause, ContainerRecord, Status, Timestamp};
use crate::operations;

/// Requests a container's task may be behind.
const MAILBOX: usize = 64;

/// How a container's task begins.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// A new engine has to find out.
    Recover(Unfinished),
    /// Nothing runs.
    Idle,
    /// It runs in a shim that was reconnected to.
    Adopted(Found),
    /// It ended while no engine watched.
    Ended(ExitRecord, Option<ShimClient>),
    /// Its policy shall start it (again) now.
    Restart,
    /// A removal is to be completed.
    Remove(RemoveOptions),
}

/// Makes the handle of a container and starts its task.
///
/// The receiver hears when the container's state is known.
pub(crate) fn spawn(shared: &Arc<Shared>, record: ContainerRecord, beginning: Beginning) -> oneshot::Receiver<()> {
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let handle = Handle::new(record.clone(), sender);
    let auto_remove = record.host.auto_remove;
    let (ready, known) = oneshot::channel();
    let task = Task {
        ready: Some(ready),
        shared: Arc::clone(shared),
        handle: Arc::clone(&handle),
        machine: machine_of(&record),
        committed: record.clone(),
        record,
        shim: None,
        mailbox,
        events: None,
        stop_at: None,
        restart_at: None,
        give_up_at: None,
        is_shim_silent: false,
        askers: Askers::default(),
        monitor: None,
        run: 0,
        // COMPAT: --rm takes the anonymous volumes too.
        removal: RemoveOptions {
            volumes: auto_remove,
            ..RemoveOptions::default()
        },
        user_stop: false,
        user_restart: false,
        cause: Cause::Engine,
        rows: Vec::new(),
        network: NetworkLeft::default(),
        resumed: None,
    };
    shared.containers.insert(handle);
    tokio::spawn(task.run(beginning));
    known
}

/// The machine of a record at rest or running.
fn machine_of(record: &ContainerRecord) -> Machine {
    let phase = match record.state.status {
        Status::Created => Phase::Created,
        Status::Running => Phase::Running,
        Status::Paused => Phase::Paused,
        Status::Restarting => Phase::Restarting,
        Status::Removing | Status::Dead => Phase::Dead,
        Status::Exited => Phase::Exited,
    };
    Machine {
        phase,
        ran: record.state.started_at.is_some(),
        restart_count: record.restart_count,
        manually_stopped: record.manually_stopped,
        ..Machine::new(policy_of(&record.host), record.host.auto_remove)
    }
}

impl Task {
    pub(super) async fn begin(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::Recover(unfinished) => match unfinished.youngest() {
                // What goes on is seen in the list of operations as if it had just been asked for.
                Some(kind) => {
                    let operations = &self.shared.operations;
                    let operation = operations.begin_until(kind, self.record.id.as_str(), None);
                    self.resumed = Some(Arc::clone(&operation));
                    operations::within(operation, self.take_over(unfinished)).await;
                }
                None => self.take_over(unfinished).await,
            },
            Beginning::Idle => {
                self.commit().await;
                self.handle.publish(&self.record);
            }
            Beginning::Adopted(found) => self.adopt(found).await,
            Beginning::Ended(exit, shim) => {
                self.shim = shim;
                self.on_exit(exit).await;
            }
            Beginning::Restart => {
                self.tell_ready(); // nobody waits for the start itself
                self.machine.phase = Phase::Restarting;
                let _ = self.feed(Input::BackoffElapsed).await; // never refused
            }
            Beginning::Remove(options) => {
                self.tell_ready();
                self.removal = options;
                self.machine.phase = Phase::Dead;
                let _ = self.feed(Input::Remove { force: true }).await; // accepted when dead
            }
        }
    }

    /// Goes on where the engine before was killed: what it found, then what it had been asked for.
    async fn take_over(&mut self, left: Unfinished) {
        operations::step("resumed");
        let next = recovery::examine(&self.shared, &mut self.record, &left).await;
        self.record.state.reconnecting = false;
        self.machine = machine_of(&self.record);
        let wanted = left.wanted(Timestamp::now());
        let lives = matches!(next, Beginning::Adopted(_));
        let (goes_on, is_open) = match (&next, wanted) {
            (Beginning::Ended(..), Some(input)) => {
                // Its end is that of the stop or restart which the engine before had begun.
                if let Ok((machine, _)) = self.machine.step(input) {
                    self.machine = machine;
                }
                (false, true)
            }
            (Beginning::Remove(_), _) | (_, None) | (Beginning::Idle, Some(Input::Stop { .. })) => (false, false),
            _ => (true, true),
        };
        let kept = if is_open { left.open_rows() } else { Vec::new() };
        self.rows.clone_from(&kept);
        Box::pin(self.begin(next)).await;
        failpoint::reach("recover/began");
        if lives {
            unfinished::settle_running(self, &left).await;
        }
        recovery::end_settled(&self.shared, &left, &kept).await;
        failpoint::reach("recover/settled");
        if let Some(input) = wanted.filter(|_| goes_on) {
            self.tell_ready(); // nobody waits for what was asked of the engine before
            self.ask_itself(input).await;
        }
    }

    pub(super) async fn adopt(&mut self, found: Found) {
        let Found { shim, events, execs } = found;
        super::super::exec::adopt(&self.shared, &self.handle, &shim, execs);
        self.run += 1;
        self.record.state.reconnecting = false;
        for (_, client) in self.handle.shim_is(Some(shim.clone())) {
            drop(client); // nobody can have waited for a start of a running container
        }
        self.shim = Some(shim);
        self.is_shim_silent = false;
        self.events = Some(events);
        self.committed.state.reconnecting = false;
        start::show_namespace(&self.shared, &self.record).await;
        self.handle.publish(&self.record);
        self.start_monitor();
    }
}
