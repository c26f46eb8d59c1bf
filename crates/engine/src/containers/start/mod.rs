//! Starting a container: named steps, each undone when a later one fails.
//!
//! ```text
//! journal -> prepare (namespace, files, volumes, config.json), in parallel the shim is spawned -> shim creates
//!            in parallel, once there is a namespace: networks are connected
//! -> shim starts -> record, journal ended, events
//! ```
mod bare;
mod files;
mod host_facts;
mod network;
mod prepare;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use wharf_shim::client::{
    EventStream, LaunchError, Launched, ShimClient, ShimLauncher, Spawned, Started, connect, is_kept,
};
use wharf_shim::plan::{AttachSpec, LaunchPlan};
use wharf_shim::protocol::{Fault, FaultKind};

pub(crate) use bare::BareMounts;
pub(crate) use files::rewrite_hosts;
pub(crate) use host_facts::{capabilities_known, host_limits};
pub(crate) use network::{Namespace, connect_one, disconnect_one, has_own_namespace, release_network, show_namespace};
pub(crate) use prepare::{release_mounts, unmount_shm, user_or_root};

use super::handle::Handle;
use super::happened;
use super::paths::Places;
use super::patience;
use super::recovery::clear_kernel;
use crate::Shared;
use crate::db::JournalId;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContainerRecord, Timestamp};
use crate::operations::{self, OperationKind};
use crate::trace::Trace;
use crate::volumes::Giving;

/// Longest time the shim may take to create a container.
const CREATE_DEADLINE: Duration = Duration::from_secs(20);

/// As [`CREATE_DEADLINE`], where a runtime of somebody else does it, which may boot a virtual machine.
const FOREIGN_CREATE_DEADLINE: Duration = Duration::from_secs(60);

/// A running container, as its task gets it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) shim: ShimClient,
    pub(crate) events: EventStream,
    /// The journal's row, to be ended with the record's commit.
    pub(crate) journal: JournalId,
}

/// A start that failed; everything it had done is undone.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) error: Error,
    /// The exit code that `inspect` and `wait` show.
    pub(crate) exit_code: i32,
}

impl From<Error> for StartFailure {
    fn from(error: Error) -> Self {
        Self { error, exit_code: 128 }
    }
}

/// Starts the container of `record`, which is updated to running on success.
pub(crate) async fn start(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    record: &mut ContainerRecord,
) -> Result<Running, StartFailure> {
    let mut trace = Trace::begin("start", record.id.short());
    let none = serde_json::Value::Null;
    let journal = operations::journal(shared, OperationKind::Start, record.id.as_str(), none).await?;
    operations::step("journalled");
    trace.step("journal");
    let result = run_steps(shared, handle, record, journal, &mut trace).await;
    let result = result.map_err(|failure| name_suspects(record, failure));
    if let Err(failure) = &result {
        // A shim that was killed meanwhile leaves its container behind.
        clear_kernel(shared, record).await;
        undo(shared, record).await;
        end_journal(shared, journal).await;
        tracing::info!(container = record.id.short(), "start failed: {}", failure.error.chain());
    }
    trace.end();
    result
}

/// A start that ran out of time is told with the mounts that may have held it up.
fn name_suspects(record: &ContainerRecord, failure: StartFailure) -> StartFailure {
    let source = std::error::Error::source(&failure.error);
    let late = source.is_some_and(|e| matches!(e.downcast_ref(), Some(LaunchError::Deadline { .. })));
    let sources = record.mounts.iter().map(|mount| mount.source.as_str());
    match patience::suspects(sources) {
        Some(suspects) if late || failure.error.kind() == ErrorKind::Unavailable => {
            let message = format!("{}; it may be stuck on {suspects}", failure.error.message());
            StartFailure {
                error: Error::new(ErrorKind::Unavailable, message).with_source(failure.error),
                ..failure
            }
        }
        _ => failure,
    }
}

async fn run_steps(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    record: &mut ContainerRecord,
    journal: JournalId,
    trace: &mut Trace,
) -> Result<Running, StartFailure> {
    let networks = network::resolve_networks(shared, record)?;
    let wanted = network::Wanted::of(record, &networks)?;
    let (standing, stands) = oneshot::channel();
    let failed = Notify::new();
    // ORDER: as soon as there is a namespace. Links take the kernel a while, and the shim has its part to do later.
    let connected = async {
        let has_namespace = tokio::select! {
            biased;
            () = failed.notified() => false, // a thread that is stuck never tells
            told = stands => told.is_ok(),
        };
        if !has_namespace {
            return Ok(network::Connected::default());
        }
        let connected = network::connect_all(shared, wanted).await;
        operations::step("connected");
        connected
    };
    let made = async {
        let made = make(shared, handle, record, (&networks, standing), trace).await;
        if made.is_err() {
            failed.notify_one();
        }
        made
    };
    let (launched, connected) = tokio::join!(made, connected);
    trace.step("networks: done with");
    operations::step("joined");
    let launched = match (launched, connected) {
        (Ok(launched), Ok(connected)) => {
            network::note_connected(record, connected);
            launched
        }
        (Ok(launched), Err(error)) => {
            discard(&launched.client).await;
            return Err(error.into());
        }
        (Err(failure), connected) => {
            network::note_connected(record, connected.unwrap_or_default());
            return Err(failure);
        }
    };
    if record.endpoints.values().any(|endpoint| endpoint.live.is_some()) {
        files::rewrite_hosts(shared, record).await?; // the first one knew no address
    }
    operations::step("hosts");
    publish_connected(shared, record, &networks);
    for client in handle.shim_is(Some(launched.client.clone())) {
        attach_late(&launched.client, client).await;
    }
    let waiting = operations::waiting("the shim, which starts the process");
    let started = launched.client.start().await;
    drop(waiting);
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            handle.shim_is(None);
            discard(&launched.client).await;
            return Err(call_failure(error));
        }
    };
    trace.step("shim: started");
    operations::step("started");
    note_started(record, started);
    network::show_namespace(shared, record).await;
    Ok(Running {
        shim: launched.client,
        events: launched.events,
        journal,
    })
}

/// Has a shim make the container, up to where it waits for its start; tells `standing` when its network namespace stands.
async fn make(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    record: &mut ContainerRecord,
    (networks, standing): (&network::Networks, oneshot::Sender<()>),
    trace: &mut Trace,
) -> Result<Launched, StartFailure> {
    let (prepared, clients, shim) = tokio::join!(
        prepare::prepare(shared, record, networks, standing),
        handle.take_waiting_clients(),
        spawn_shim(shared, record),
    );
    // A shim that gets no order ends by itself.
    let (prepared, shim) = (prepared?, shim?);
    operations::step("prepared");
    record.upstream = prepared.upstream;
    record.mounts = prepared.mounts;
    trace.step("prepare: namespace, files, mounts, config.json | shim: spawned");
    let _waiting = operations::waiting("the shim, which makes the container");
    let launched = shim.launch(&prepared.plan, clients).await;
    operations::step("made");
    trace.step("shim: created");
    launched.map_err(launch_failure)
}

async fn end_journal(shared: &Arc<Shared>, journal: JournalId) {
    if let Err(error) = shared.db.call(move |db| db.journal_end(journal)).await {
        tracing::warn!("the journal keeps a row too long: {}", error.chain());
    }
}

async fn spawn_shim(shared: &Arc<Shared>, record: &ContainerRecord) -> Result<Spawned, StartFailure> {
    let launcher = ShimLauncher {
        binary: shared.config.shim_binary.clone(),
        deadline: match shared
            .config
            .live
            .now()
            .runtimes
            .configured()
            .contains_key(&record.host.runtime)
        {
            true => FOREIGN_CREATE_DEADLINE,
            false => CREATE_DEADLINE,
        },
    };
    let dir = Places::of(&shared.config, &record.id).shim;
    if is_kept(&dir) {
        dismiss_earlier(&dir).await;
    }
    let _waiting = operations::waiting("the spawn of the shim");
    let spawned = launcher.spawn(&dir, record.id.as_str()).await.map_err(launch_failure);
    operations::step("spawned");
    spawned
}

/// The shim of the run before stays when its end could not be recorded (disk full), which it is by now.
async fn dismiss_earlier(dir: &Path) {
    if let Ok((shim, _)) = connect(dir).await
        && let Err(error) = shim.acknowledge_exit().await
    {
        tracing::warn!("the shim in {} does not end: {error}", dir.display());
    }
}

async fn attach_late(shim: &ShimClient, (spec, client): (AttachSpec, OwnedFd)) {
    if let Err(error) = shim.attach(spec, client).await {
        tracing::debug!("a client could not be attached: {error}");
    }
}

/// Ends a shim whose container shall not run.
async fn discard(shim: &ShimClient) {
    if let Err(error) = shim.destroy().await {
        tracing::warn!("a shim could not be ended: {error}");
    }
}

fn note_started(record: &mut ContainerRecord, started: Started) {
    record.state.pid = i32::try_from(started.pid).unwrap_or(0);
    record.state.started_at = Some(Timestamp::from_nanos(started.at_ns));
    record.state.exit_code = 0;
    record.state.error.clear();
    record.state.oom_killed = false;
    record.state.health = None;
}

fn publish_connected(shared: &Arc<Shared>, record: &ContainerRecord, networks: &network::Networks) {
    for network in networks.values() {
        happened::publish_network(&shared.events, record, network, "connect");
    }
    for mount in record.mounts.iter().filter(|m| !m.driver.is_empty()) {
        happened::publish_volume(&shared.events, record, mount, "mount");
    }
}

/// Takes back what a failed start did in the kernel. Goes on past failures.
async fn undo(shared: &Arc<Shared>, record: &mut ContainerRecord) {
    for error in [
        network::release_network(shared, record, network::Namespace::Remove)
            .await
            .err(),
        prepare::release_mounts(shared, record, Giving::Behind).await.err(),
    ]
    .into_iter()
    .flatten()
    {
        tracing::warn!(container = record.id.short(), "undoing a start: {}", error.chain());
    }
}

pub(crate) fn launch_failure(error: LaunchError) -> StartFailure {
    match error {
        LaunchError::Create(fault) => fault_failure(fault),
        other => StartFailure {
            error: Error::internal(other.to_string()).with_source(other),
            exit_code: 128,
        },
    }
}

pub(crate) fn call_failure(error: wharf_shim::client::CallError) -> StartFailure {
    match error {
        wharf_shim::client::CallError::Fault(fault) => fault_failure(fault),
        other => StartFailure {
            error: Error::internal(other.to_string()).with_source(other),
            exit_code: 128,
        },
    }
}

/// COMPAT: clients derive their exit code from the words of this text.
fn fault_failure(fault: Fault) -> StartFailure {
    let (kind, exit_code) = match fault.kind {
        FaultKind::CommandNotFound => (ErrorKind::InvalidArgument, 127),
        FaultKind::CommandNotExecutable => (ErrorKind::InvalidArgument, 126),
        FaultKind::Invalid | FaultKind::NotFound => (ErrorKind::InvalidArgument, 128),
        FaultKind::Conflict => (ErrorKind::Conflict, 128),
        FaultKind::Unsupported => (ErrorKind::Unimplemented, 128),
        FaultKind::System => (ErrorKind::Internal, 128),
    };
    let message = format!("failed to start the container: {}", fault.message);
    StartFailure {
        error: Error::new(kind, message).with_source(fault),
        exit_code,
    }
}

/// A build step that can be launched.
pub(crate) struct PreparedStep {
    pub(crate) networks: network::Networks,
    pub(crate) plan: LaunchPlan,
    /// Keeps what the plan refers to.
    pub(crate) _netns: Option<wharf_net::NamespaceHold>,
    pub(crate) _sysfs: Option<prepare::Sysfs>,
}

/// Prepares a build step like a container; its network is not connected yet.
pub(crate) async fn prepare_step(shared: &Arc<Shared>, record: &mut ContainerRecord) -> Result<PreparedStep> {
    let networks = network::resolve_networks(shared, record)?;
    let (standing, _) = oneshot::channel(); // connected when it is run
    let prepared = prepare::prepare(shared, record, &networks, standing).await?;
    record.upstream = prepared.upstream;
    Ok(PreparedStep {
        networks,
        plan: prepared.plan,
        _netns: prepared.netns,
        _sysfs: prepared._sysfs,
    })
}

/// Connects a prepared build step.
pub(crate) async fn connect_step(
    shared: &Arc<Shared>,
    record: &mut ContainerRecord,
    networks: &network::Networks,
) -> Result<()> {
    let wanted = network::Wanted::of(record, networks)?;
    let connected = network::connect_all(shared, wanted).await?;
    network::note_connected(record, connected);
    files::rewrite_hosts(shared, record).await
}

/// Takes back everything a start or a run has in the kernel. Goes on past failures.
pub(crate) async fn clean_up(shared: &Arc<Shared>, record: &mut ContainerRecord) {
    undo(shared, record).await;
}
