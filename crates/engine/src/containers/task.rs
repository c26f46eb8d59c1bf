//! The task of one container: it alone changes it, one thing at a time.
//!
//! It performs what the state machine tells it to, commits the record, publishes it, tells
//! events, answers askers. Everything slow has a deadline.
mod beginning;
mod care;
mod refusals;
mod silence;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use wharf_shim::client::{CallError, EventStream, ShimClient, is_kept};
use wharf_shim::protocol::{Event as ShimEvent, ExitRecord};
use wharf_sys::failpoint;

use super::blocking::blocking;
use super::changes;
use super::command::{Command, Reply, stop_timeout};
use super::handle::Handle;
use super::happened;
use super::health::Monitor;
use super::machine::{Effect, Goal, Input, Machine, Phase, Policy, Refusal, SIGKILL};
use super::paths::Places;
use super::patience::KILL_PATIENCE;
use super::recovery;
use super::remove::{self, Circumstances, Deletion, Known, NetworkLeft};
use super::signals::parse_signal;
use super::start::{self, Namespace, StartFailure};
use super::telling;
use super::unfinished;
use crate::Shared;
use crate::db::JournalId;
use crate::error::{Error, Result};
use crate::model::requests::{RemoveOptions, StopOptions};
use crate::model::{Cause, ContainerRecord, EndpointRecord, Happening, HealthStatus, HostConfig, Status, Timestamp};
use crate::operations::{self, Operation, OperationKind};
use crate::volumes::Giving;

pub(super) use beginning::{Beginning, spawn};

/// SIGTERM, sent by a stop unless the container says otherwise.
const SIGTERM: i32 = 15;

/// Those who wait for something to happen.
#[derive(Debug, Default)]
struct Askers {
    start: Vec<Reply<()>>,
    stop: Vec<Reply<()>>,
    restart: Vec<Reply<()>>,
    remove: Vec<Reply<()>>,
}

impl Askers {
    /// What the end of the process is a part of.
    fn operation(&self) -> Option<Arc<Operation>> {
        let first = [&self.restart, &self.remove, &self.stop].into_iter().flatten().next();
        first.map(Reply::operation)
    }
}

/// The task's own state.
#[derive(Debug)]
pub(crate) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: Arc<Handle>,
    pub(super) record: ContainerRecord,
    pub(super) shim: Option<ShimClient>,
    committed: ContainerRecord,
    mailbox: mpsc::Receiver<Command>,
    machine: Machine,
    events: Option<EventStream>,
    stop_at: Option<Instant>,
    restart_at: Option<Instant>,
    give_up_at: Option<Instant>,
    /// The shim did not take the last signal.
    is_shim_silent: bool,
    askers: Askers,
    monitor: Option<Monitor>,
    run: u64,
    ready: Option<oneshot::Sender<()>>,
    removal: RemoveOptions,
    user_stop: bool,
    user_restart: bool,
    cause: Cause,
    /// Rows of a stop or restart under way, which end with the commit of its outcome.
    rows: Vec<JournalId>,
    /// What the last run has left of its network. The next engine does not know, and takes it back again.
    network: NetworkLeft,
    /// What the engine before had begun, until its rows end.
    resumed: Option<Arc<Operation>>,
}

/// What woke the task.
enum Wake {
    Command(Command),
    Shim(Option<ShimEvent>),
    StopTimedOut,
    BackoffElapsed,
    GiveUp,
    NobodyAsks,
}

fn policy_of(host: &HostConfig) -> Policy {
    let max_retries = u32::try_from(host.restart_policy.maximum_retry_count).unwrap_or(0);
    Policy {
        kind: host.restart(),
        max_retries,
    }
}

impl Task {
    async fn run(mut self, beginning: Beginning) {
        Box::pin(self.begin(beginning)).await;
        self.tell_ready();
        self.forget_resumed();
        while self.machine.phase != Phase::Removed {
            let wake = self.wake().await;
            if matches!(wake, Wake::NobodyAsks) {
                return;
            }
            // Boxed, so that a thousand idle tasks stay small.
            Box::pin(self.on(wake)).await;
            self.forget_resumed();
        }
    }

    fn forget_resumed(&mut self) {
        if self.rows.is_empty() {
            self.resumed = None;
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.machine.phase
    }

    /// Feeds what nobody waits for any more.
    pub(super) async fn ask_itself(&mut self, input: Input) {
        if let Err(error) = self.feed_or_refuse(input).await {
            tracing::info!(container = self.record.id.short(), "not completed: {}", error.chain());
        }
    }

    fn tell_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(()); // nobody may be interested
        }
    }

    async fn wake(&mut self) -> Wake {
        let at = |time: Option<Instant>| async move {
            match time {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        let (stop_at, restart_at, give_up_at) = (self.stop_at, self.restart_at, self.give_up_at);
        let events = &mut self.events;
        let next_event = async {
            match events {
                Some(stream) => stream.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = next_event => Wake::Shim(event),
            command = self.mailbox.recv() => command.map_or(Wake::NobodyAsks, Wake::Command),
            () = at(stop_at) => Wake::StopTimedOut,
            () = at(restart_at) => Wake::BackoffElapsed,
            () = at(give_up_at) => Wake::GiveUp,
        }
    }

    async fn on(&mut self, wake: Wake) {
        match wake {
            Wake::Command(command) => match command.operation() {
                Some(operation) => operations::within(operation, self.on_command(command)).await,
                None => self.on_command(command).await,
            },
            Wake::Shim(Some(ShimEvent::Exited(exit))) => match self.askers.operation().or_else(|| self.resumed.clone())
            {
                Some(operation) => operations::within(operation, self.on_exit(exit)).await,
                None => self.on_exit(exit).await,
            },
            Wake::Shim(Some(ShimEvent::OutOfMemory)) => {
                self.note_oom(Timestamp::now()).await;
                self.commit().await;
                self.happened("oom", &[]);
            }
            Wake::Shim(Some(ShimEvent::ExecExited { exec, exit })) => {
                super::exec::on_exit(&self.shared, &self.handle, self.shim.clone(), &exec, &exit);
            }
            Wake::Shim(Some(ShimEvent::Detached { exec })) => match exec {
                Some(exec) => self.happened("exec_detach", &[("execID", exec)]),
                None => self.happened("detach", &[]),
            },
            Wake::Shim(None) => self.on_shim_lost().await,
            Wake::StopTimedOut => {
                self.stop_at = None;
                let _ = self.feed(Input::StopTimedOut).await; // never refused
            }
            Wake::BackoffElapsed => {
                self.restart_at = None;
                let _ = self.feed(Input::BackoffElapsed).await; // never refused
            }
            Wake::GiveUp => {
                self.give_up_at = None;
                match self.askers.operation().or_else(|| self.resumed.clone()) {
                    Some(operation) => operations::within(operation, self.give_up()).await,
                    None => self.give_up().await,
                }
            }
            Wake::NobodyAsks => {}
        }
    }

    async fn on_command(&mut self, command: Command) {
        operations::step("begun");
        match command {
            Command::Start(reply) => {
                self.ask(Input::Start, reply, |a| &mut a.start).await;
            }
            Command::Stop(options, reply) => match self.stop_input(&options) {
                Ok((signal, timeout)) => {
                    self.user_stop = true;
                    let input = match options.for_shutdown {
                        true => Input::ShutDown { signal, timeout },
                        false => Input::Stop { signal, timeout },
                    };
                    self.record.shut_down = options.for_shutdown && self.machine.step(input).is_ok();
                    self.ask(input, reply, |a| &mut a.stop).await;
                    self.commit().await; // a refused one may have changed what a shutdown left
                }
                Err(error) => answer(reply, Err(error)),
            },
            Command::Restart(options, reply) => match self.stop_input(&options) {
                Ok((signal, timeout)) => {
                    self.user_stop = self.machine.is_alive();
                    self.user_restart = true;
                    self.ask(Input::Restart { signal, timeout }, reply, |a| &mut a.restart)
                        .await;
                }
                Err(error) => answer(reply, Err(error)),
            },
            Command::Kill(signal, reply) => self.kill(signal, reply).await,
            Command::Pause(reply) => {
                let done = self.feed_or_refuse(Input::Pause).await;
                answer(reply, done.map(|()| self.happened("pause", &[])));
            }
            Command::Unpause(reply) => {
                let done = self.feed_or_refuse(Input::Unpause).await;
                answer(reply, done.map(|()| self.happened("unpause", &[])));
            }
            Command::Remove(options, reply) => {
                self.removal = RemoveOptions {
                    volumes: options.volumes || self.record.host.auto_remove,
                    ..options
                };
                self.ask(Input::Remove { force: options.force }, reply, |a| &mut a.remove)
                    .await;
            }
            Command::Rename(name, reply) => {
                let done = changes::rename(self, &name).await;
                answer(reply, done);
            }
            Command::Update(request, reply) => {
                let done = changes::update(self, *request).await;
                answer(reply, done);
            }
            Command::Connect(network, settings, reply) => {
                let done = changes::connect(self, &network, *settings).await;
                answer(reply, done);
            }
            Command::Disconnect(network, reply) => {
                let done = changes::disconnect(self, &network).await;
                answer(reply, done);
            }
            Command::Probed { run, probe } => self.on_probe(run, probe).await,
        }
    }

    /// Feeds a request whose answer comes when its effect is complete.
    async fn ask(&mut self, input: Input, reply: Reply<()>, list: fn(&mut Askers) -> &mut Vec<Reply<()>>) {
        let at_rest = matches!(self.machine.phase, Phase::Restarting)
            && matches!(
                input,
                Input::Stop { .. } | Input::ShutDown { .. } | Input::Kill { ends_it: true, .. }
            );
        match self.machine.step(input) {
            Err(refusal) => {
                self.user_stop = self.user_stop && self.machine.is_alive();
                answer(reply, Err(self.refusal(refusal, input)));
            }
            Ok(_) => {
                self.journal_stop(input).await;
                list(&mut self.askers).push(reply);
                let _ = self.feed(input).await; // accepted a line ago
                if at_rest {
                    self.user_stop = false;
                    self.handle.publish_exit(&self.record);
                    self.happened("stop", &[]);
                    self.settle_stopped();
                }
            }
        }
    }

    /// Writes down that a running process is about to be stopped, so that the next engine goes on with it.
    async fn journal_stop(&mut self, input: Input) {
        let Some((kind, args)) = unfinished::stop_row(input, Timestamp::now()).filter(|_| self.machine.is_alive())
        else {
            return;
        };
        match operations::journal(&self.shared, kind, self.record.id.as_str(), args).await {
            Ok(row) => self.rows.push(row),
            // A disk that is full is no reason to let it run.
            Err(error) => tracing::warn!(container = self.record.id.short(), "not journalled: {}", error.chain()),
        }
        operations::step("journalled");
    }

    async fn feed_or_refuse(&mut self, input: Input) -> Result<()> {
        match self.feed(input).await {
            Ok(result) => result,
            Err(refusal) => Err(self.refusal(refusal, input)),
        }
    }

    /// Feeds one input and everything that follows from it. The inner result tells whether
    /// what a caller waits for directly (freeze, thaw) worked.
    async fn feed(&mut self, input: Input) -> Result<Result<()>, Refusal> {
        let mut inputs = vec![input];
        let mut outcome = Ok(());
        let mut first = true;
        self.cause = telling::cause_of(&input, &self.machine);
        while let Some(input) = inputs.pop() {
            let (machine, effects) = match self.machine.step(input) {
                Ok(step) => step,
                Err(refusal) if first => return Err(refusal),
                Err(_) => continue,
            };
            first = false;
            self.machine = machine;
            telling::performed(&mut self.record, &input, self.cause);
            self.note_machine();
            if effects.iter().any(|effect| matches!(effect, Effect::Signal(_))) {
                // ORDER: a process that ends of the signal must not be restarted by its policy, whoever sees the end.
                self.commit().await;
                operations::step("recorded");
            }
            for effect in effects {
                match self.perform(effect).await {
                    Ok(Some(answer)) => inputs.push(answer),
                    Ok(None) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            self.commit().await;
        }
        Ok(outcome)
    }

    async fn perform(&mut self, effect: Effect) -> Result<Option<Input>> {
        match effect {
            Effect::Launch => {
                let (shared, id) = (Arc::clone(&self.shared), self.record.id.to_string());
                let launch = operations::ensure(&shared.operations, OperationKind::Start, &id, self.launch());
                return Ok(Some(launch.await));
            }
            Effect::Signal(signal) => self.send_signal(signal).await,
            Effect::Freeze => {
                self.live_shim()?.pause().await?;
                return Ok(Some(Input::Frozen));
            }
            // What is killed without its shim is thawed with that.
            Effect::Thaw if self.is_shim_silent => return Ok(Some(Input::Thawed)),
            Effect::Thaw => {
                self.live_shim()?.resume().await?;
                return Ok(Some(Input::Thawed));
            }
            Effect::ArmStopTimer(after) => self.stop_at = Some(Instant::now() + after),
            Effect::DisarmStopTimer => self.stop_at = None,
            Effect::ArmRestartTimer(after) => self.restart_at = Some(Instant::now() + after),
            Effect::DisarmRestartTimer => self.restart_at = None,
            Effect::Remove => {
                let (shared, id) = (Arc::clone(&self.shared), self.record.id.to_string());
                let removal = operations::ensure(&shared.operations, OperationKind::Remove, &id, self.remove());
                return Ok(Some(removal.await));
            }
        }
        Ok(None)
    }

    fn live_shim(&self) -> Result<ShimClient> {
        self.shim
            .clone()
            .ok_or_else(|| Error::conflict(format!("container {} is not running", self.record.id)))
    }

    /// Copies what the machine decided into the record.
    fn note_machine(&mut self) {
        self.record.state.status = match self.machine.phase {
            Phase::Created => Status::Created,
            Phase::Starting => self.record.state.status,
            Phase::Running => Status::Running,
            Phase::Paused => Status::Paused,
            Phase::Restarting => Status::Restarting,
            Phase::Exited => Status::Exited,
            Phase::Removing | Phase::Removed => Status::Removing,
            Phase::Dead => Status::Dead,
        };
        self.record.restart_count = self.machine.restart_count;
        self.record.manually_stopped = self.machine.manually_stopped;
    }

    /// Commits and publishes the record when it changed. What happened is published even when it cannot be written
    /// (disk full); the next commit writes it too.
    pub(super) async fn commit(&mut self) {
        if let Err(error) = self.try_commit().await {
            tracing::error!(
                container = self.record.id.short(),
                "record not written: {}",
                error.chain()
            );
            self.handle.publish(&self.record);
        }
    }

    /// Commits what a user asked for; when that fails, the record is `before` again.
    pub(super) async fn commit_or_restore(&mut self, before: ContainerRecord) -> Result<()> {
        let done = self.try_commit().await;
        if done.is_err() {
            self.record = before;
        }
        done
    }

    async fn try_commit(&mut self) -> Result<()> {
        if self.record == self.committed || self.machine.phase == Phase::Removed {
            return Ok(());
        }
        let record = self.record.clone();
        self.shared.db.call(move |db| db.put_container(&record)).await?;
        self.committed.clone_from(&self.record);
        self.handle.publish(&self.record);
        Ok(())
    }

    /// Commits a start: the record and the end of the rows of what led to it in one transaction.
    async fn commit_start(&mut self, journal: JournalId) {
        let record = self.record.clone();
        let mut rows = std::mem::take(&mut self.rows);
        rows.push(journal);
        let done = self
            .shared
            .db
            .call(move |db| db.put_container_ending(&record, &rows))
            .await;
        operations::step("running");
        if let Err(error) = done {
            tracing::error!(
                container = self.record.id.short(),
                "record not written: {}",
                error.chain()
            );
        }
        self.committed.clone_from(&self.record);
        self.handle.publish(&self.record);
    }

    /// Commits the outcome of a stop or restart, together with the end of its rows.
    async fn commit_ending_rows(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return self.commit().await;
        }
        let record = self.record.clone();
        let done = self
            .shared
            .db
            .call(move |db| db.put_container_ending(&record, &rows))
            .await;
        if let Err(error) = done {
            tracing::error!(
                container = self.record.id.short(),
                "record not written: {}",
                error.chain()
            );
        } else {
            self.committed.clone_from(&self.record);
        }
        self.handle.publish(&self.record);
    }

    pub(super) fn happened(&self, action: &str, more: &[(&str, String)]) {
        happened::publish(&self.shared.events, &self.record, action, more);
    }

    async fn launch(&mut self) -> Input {
        self.network = NetworkLeft::Perhaps;
        match start::start(&self.shared, &self.handle, &mut self.record).await {
            Ok(running) => {
                self.run += 1;
                self.shim = Some(running.shim);
                self.events = Some(running.events);
                self.record.state.status = Status::Running;
                self.record.shut_down = false;
                self.start_monitor();
                let (by, pid) = (self.cause, self.record.state.pid);
                self.record.story.push(Happening::Started { by, pid });
                self.commit_start(running.journal).await;
                self.happened("start", &[]);
                super::links::tell_linked(&self.shared, &self.record).await;
                if std::mem::take(&mut self.user_restart) {
                    self.happened("restart", &[]);
                }
                for reply in self.askers.start.drain(..).chain(self.askers.restart.drain(..)) {
                    answer(reply, Ok(()));
                }
                Input::Launched
            }
            Err(failure) => self.launch_failed(failure).await,
        }
    }

    async fn launch_failed(&mut self, failure: StartFailure) -> Input {
        self.user_restart = false;
        self.record.state.exit_code = failure.exit_code;
        self.record.state.error = failure.error.message().to_owned();
        self.record.state.pid = 0;
        let status = match self.machine.ran {
            true => Status::Exited,
            false => Status::Created,
        };
        self.record.state.status = status;
        self.record.story.push(Happening::StartFailed {
            by: self.cause,
            message: failure.error.message().to_owned(),
            exit_code: failure.exit_code,
        });
        self.commit_ending_rows().await;
        // COMPAT: a first start that fails is no end of a run; nobody who waits for one is woken.
        if self.machine.ran {
            self.handle.publish_exit(&self.record);
        } else {
            self.handle.publish(&self.record);
        }
        let kind = failure.error.kind();
        let message = failure.error.message().to_owned();
        for reply in self.askers.start.drain(..).chain(self.askers.restart.drain(..)) {
            answer(reply, Err(Error::new(kind, message.clone())));
        }
        Input::LaunchFailed
    }

    async fn on_exit(&mut self, exit: ExitRecord) {
        failpoint::reach("end/noticed");
        let ended = Timestamp::from_nanos(exit.exited_at_ns);
        let ran_for = self.record.state.started_at.map_or(Duration::ZERO, |s| ended.since(s));
        let input = Input::Exited {
            code: exit.code,
            ran_for,
        };
        self.stop_monitor();
        if let Some(health) = &mut self.record.state.health {
            // COMPAT: what is not probed any more counts as unhealthy.
            health.status = HealthStatus::Unhealthy;
        }
        self.record.state.exit_code = exit.code;
        if exit.oom_killed && !self.record.state.oom_killed {
            self.note_oom(ended).await;
        }
        self.record.state.finished_at = Some(ended);
        self.record.state.pid = 0;
        self.record.state.reconnecting = false;
        let shim = self.shim.take();
        self.give_up_at = None;
        self.is_shim_silent = false;
        self.events = None;
        self.handle.shim_is(None);
        super::exec::forget_all(&self.shared, &self.handle);
        let decided = self.machine.step(input);
        telling::ended(&mut self.record, &self.machine, &exit, ran_for, &decided);
        let next = decided.as_ref().map_or(self.machine.phase, |(next, _)| next.phase);
        // ORDER: written down together with the end, so that the next engine keeps to the restart policy, too.
        self.record.state.status = match next {
            Phase::Restarting => Status::Restarting,
            _ => Status::Exited,
        };
        if let Ok((machine, _)) = &decided {
            self.record.manually_stopped = machine.manually_stopped;
        }
        let endpoints = self.end_run(shim, next).await;
        if let Ok((machine, _)) = decided {
            // The end is published as what follows it, once everything of the run is gone.
            failpoint::reach("end/released");
            match machine.phase {
                // What goes now need not be written once more.
                Phase::Removing => self.handle.publish(&self.record),
                _ => self.commit().await,
            }
            // ORDER: who inspects on this event must not find a running container.
            self.happened(
                "die",
                &[
                    ("exitCode", exit.code.to_string()),
                    ("execDuration", ran_for.as_secs().to_string()),
                ],
            );
            self.publish_released(endpoints);
            self.handle.publish_exit(&self.record);
        }
        if std::mem::take(&mut self.user_stop) {
            self.happened("stop", &[]);
        }
        self.settle_stopped();
        let _ = self.feed(input).await; // never refused
        if self.machine.phase == Phase::Exited {
            // A stop came after the restart, and is what counts.
            let stopped = || Error::conflict(format!("container {} was stopped before its restart", self.record.id));
            for reply in self.askers.restart.drain(..) {
                answer(reply, Err(stopped()));
            }
        }
    }

    /// Takes back what the run had in the kernel, and lets its shim go; answers the endpoints it had.
    async fn end_run(&mut self, shim: Option<ShimClient>, next: Phase) -> Vec<EndpointRecord> {
        let endpoints: Vec<_> = self
            .record
            .endpoints
            .values()
            .filter(|e| !e.endpoint_id.is_empty())
            .cloned()
            .collect();
        let goes_on = matches!(next, Phase::Starting | Phase::Restarting);
        let namespace = match goes_on || remove::is_joined(&self.shared, &self.record) {
            true => Namespace::Keep,
            false => Namespace::Remove,
        };
        // ORDER: the exit status is in the database before the shim may forget it.
        let kept = self.record.clone();
        // The row of a restart is ended by its start.
        let rows = match self.machine.goal {
            Goal::Start => Vec::new(),
            _ => std::mem::take(&mut self.rows),
        };
        let put = self.shared.db.call(move |db| db.put_container_ending(&kept, &rows));
        let put = put.await;
        failpoint::reach("end/recorded");
        if let Err(error) = &put {
            tracing::error!(
                container = self.record.id.short(),
                "exit not written: {}",
                error.chain()
            );
        } else {
            self.committed.clone_from(&self.record);
        }
        let dismissed = async {
            if put.is_ok() {
                dismiss(&self.shared, &self.committed, shim).await;
                failpoint::reach("end/dismissed");
            }
        };
        let released = start::release_network(&self.shared, &mut self.record, namespace);
        let ((), released) = tokio::join!(dismissed, released);
        if released.is_ok() && namespace == Namespace::Remove {
            self.network = NetworkLeft::Nothing;
        }
        let giving = match self.ready {
            Some(_) => Giving::Unawaited,
            None => Giving::Behind,
        };
        let unmounted = start::release_mounts(&self.shared, &self.record, giving).await;
        for error in [released.err(), unmounted.err()].into_iter().flatten() {
            tracing::warn!(container = self.record.id.short(), "after its end: {}", error.chain());
        }
        endpoints
    }

    /// Tells that the run's networks and volumes were released.
    fn publish_released(&self, endpoints: Vec<EndpointRecord>) {
        for endpoint in endpoints {
            let driver = self.shared.networks.resolve(endpoint.network_id.as_str());
            let driver = driver.map_or_else(|_| "bridge".to_owned(), |n| n.driver.clone());
            happened::publish_disconnect(&self.shared.events, &self.record, &endpoint, &driver);
        }
        for mount in self.record.mounts.iter().filter(|m| !m.driver.is_empty()) {
            happened::publish_volume(&self.shared.events, &self.record, mount, "unmount");
        }
    }

    /// Answers those who waited for the end of the process.
    fn settle_stopped(&mut self) {
        for reply in self.askers.stop.drain(..) {
            answer(reply, Ok(()));
        }
    }

    /// The connection to the shim broke although the container should run.
    async fn on_shim_lost(&mut self) {
        self.events = None;
        let found = recovery::find_run(&self.shared, &mut self.record).await;
        match found {
            Beginning::Adopted(found) => self.adopt(found).await,
            Beginning::Ended(exit, shim) => {
                self.shim = shim;
                self.on_exit(exit).await;
            }
            _ => {}
        }
    }

    async fn remove(&mut self) -> Input {
        self.record.state.status = Status::Removing;
        self.handle.publish(&self.record);
        let deletion = match self.askers.remove.is_empty() {
            true => Deletion::Behind,
            false => Deletion::Awaited,
        };
        let known = match self.committed.host.auto_remove && self.committed.state.status == Status::Exited {
            true => Known::ByRecord,
            false => Known::ByJournal,
        };
        let circumstances = Circumstances {
            deletion,
            known,
            network: self.network,
        };
        match remove::remove(&self.shared, &mut self.record, self.removal, circumstances).await {
            Ok(()) => {
                // ORDER: the row is gone; without this the next commit would bring it back.
                self.committed.clone_from(&self.record);
                self.shared.containers.remove(&self.record.id);
                self.happened("destroy", &[]);
                self.handle.publish_removed();
                for reply in self.askers.remove.drain(..).chain(self.askers.stop.drain(..)) {
                    answer(reply, Ok(()));
                }
                Input::Removed
            }
            Err(error) => {
                tracing::warn!(container = self.record.id.short(), "removal failed: {}", error.chain());
                self.record.state.error = error.message().to_owned();
                self.record.story.push(Happening::RemovalFailed {
                    message: error.message().to_owned(),
                });
                for reply in self.askers.remove.drain(..) {
                    answer(reply, Err(Error::new(error.kind(), error.message())));
                }
                Input::RemoveFailed
            }
        }
    }

    async fn send_signal(&mut self, signal: i32) {
        self.happened("kill", &[("signal", signal.to_string())]);
        self.record.story.push(Happening::Signalled { by: self.cause, signal });
        if signal == SIGKILL {
            self.give_up_at = Some(Instant::now() + KILL_PATIENCE);
        }
        let Some(shim) = self.shim.clone() else { return };
        let _waiting = operations::waiting("the shim, which sends the signal");
        match shim.kill(signal).await {
            Ok(()) => self.is_shim_silent = false,
            Err(CallError::Deadline { .. }) => self.signal_without_shim(signal).await,
            Err(error) => tracing::debug!(container = self.record.id.short(), "signal {signal}: {error}"),
        }
        operations::step("signalled");
    }

    async fn kill(&mut self, signal: i32, reply: Reply<()>) {
        let own = self.stop_signal();
        let input = Input::Kill {
            signal,
            // COMPAT: where no stop signal was chosen, any signal ends what the restart policy would do.
            ends_it: signal == SIGKILL || signal == own || self.record.config.stop_signal.is_empty(),
        };
        if signal == SIGKILL {
            // COMPAT: kill answers when the process is gone.
            return self.ask(input, reply, |a| &mut a.stop).await;
        }
        let done = self.feed_or_refuse(input).await;
        answer(reply, done);
    }

    fn stop_signal(&self) -> i32 {
        parse_signal(&self.record.config.stop_signal).unwrap_or(SIGTERM)
    }

    fn stop_input(&self, options: &StopOptions) -> Result<(i32, Option<Duration>)> {
        let signal = match options.signal.as_deref() {
            None | Some("") => self.stop_signal(),
            Some(text) => parse_signal(text)?,
        };
        Ok((signal, stop_timeout(options.timeout_s, self.record.config.stop_timeout)))
    }

    pub(super) fn set_policy(&mut self) {
        let input = Input::SetPolicy(policy_of(&self.record.host));
        if let Ok((machine, _)) = self.machine.step(input) {
            self.machine = machine;
        }
    }

    fn start_monitor(&mut self) {
        self.monitor = Monitor::start(&self.handle, &mut self.record, self.run);
    }

    fn stop_monitor(&mut self) {
        self.monitor = None;
    }
}

/// Lets the shim of an ended run go. What a killed one left must not be taken for a later run's.
async fn dismiss(shared: &Shared, record: &ContainerRecord, shim: Option<ShimClient>) {
    if let Some(shim) = shim {
        match shim.acknowledge_exit().await {
            Ok(()) => return,
            Err(error) => tracing::debug!(container = record.id.short(), "shim did not end: {error}"),
        }
    }
    let dir = Places::of(&shared.config, &record.id).shim;
    let cleared = blocking("removing a dead shim's directory", move || {
        if !is_kept(&dir) {
            remove::delete_tree(&dir);
        }
        Ok(())
    });
    if let Err(error) = cleared.await {
        tracing::warn!(container = record.id.short(), "{}", error.chain());
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T>) {
    reply.send(result);
}
