//! Exec sessions: processes that run in a container beside its first one.
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use wharf_runtime::spec::Process;
use wharf_shim::client::{CallError, ShimClient};
use wharf_shim::plan::{AttachSpec, ConsoleSize, ExecPlan, StdioPlan};
use wharf_shim::protocol::{ExecState, ExitRecord, FaultKind};

use super::attach::{AttachTicket, parse_detach_keys};
use super::handle::{Handle, lock};
use super::happened;
use crate::Shared;
use crate::error::{Context, Error, Result};
use crate::model::requests::{ClientStream, CreateExec, ExecInfo, StartExec};
use crate::model::{ContainerRecord, ExecId, Status};
use crate::operations::{self, OperationKind};
use crate::spec::{environment, merge_environment};

/// How long an ended session can still be inspected.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Sessions one container may have at a time, those included that can still be inspected.
const MAX_SESSIONS: usize = 1024;

/// Each so many sessions those that ended are looked through.
const SWEEP: usize = 64;

/// How long an ended session stays whatever the number: its client is about to ask for the exit code.
const GRACE: Duration = Duration::from_secs(1);

/// One exec session.
#[derive(Debug)]
pub(crate) struct ExecSession {
    pub(crate) id: ExecId,
    pub(crate) request: CreateExec,
    /// A health probe: not listed, no events.
    hidden: bool,
    state: Mutex<Phase>,
    /// Kept after the end, as clients expect; 0 before the start.
    pid: AtomicI32,
    ended: watch::Sender<Option<i32>>,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Created,
    Starting,
    Running,
    Ended(i32, Instant),
}

impl ExecSession {
    fn new(request: CreateExec, hidden: bool) -> Arc<Self> {
        Arc::new(Self {
            id: ExecId::random(),
            request,
            hidden,
            state: Mutex::new(Phase::Created),
            pid: AtomicI32::new(0),
            ended: watch::Sender::new(None),
        })
    }

    fn phase(&self) -> Phase {
        *lock(&self.state)
    }

    /// False when it has ended before: an end may be told twice, by event and by the state of a shim whose connection
    /// was lost between.
    fn end(&self, code: i32) -> bool {
        {
            let mut state = lock(&self.state);
            if matches!(*state, Phase::Ended(..)) {
                return false;
            }
            *state = Phase::Ended(code, Instant::now());
        }
        self.ended.send_replace(Some(code));
        true
    }

    /// Claims the one start a session has.
    fn begin(&self) -> Result<()> {
        let mut state = lock(&self.state);
        match *state {
            Phase::Created => {
                *state = Phase::Starting;
                Ok(())
            }
            Phase::Starting | Phase::Running => Err(Error::conflict(format!(
                "Error: Exec command {} is already running",
                self.id
            ))),
            Phase::Ended(..) => Err(Error::conflict(format!(
                "Error: Exec command {} has already run",
                self.id
            ))),
        }
    }

    fn note_started(&self, pid: u32) {
        self.pid.store(i32::try_from(pid).unwrap_or(0), Ordering::Relaxed);
        let mut state = lock(&self.state);
        // Its end may have been heard of first.
        if matches!(*state, Phase::Starting) {
            *state = Phase::Running;
        }
    }

    /// Waits for its end.
    async fn wait(&self) -> i32 {
        let mut receiver = self.ended.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(-1),
            Err(_) => -1, // the sender lives as long as the session
        }
    }
}

/// Prepares a session in a running container.
pub(super) fn create(shared: &Arc<Shared>, handle: &Arc<Handle>, request: CreateExec) -> Result<ExecId> {
    let record = handle.record();
    if request.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    for entry in &request.env {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {entry}")));
        }
    }
    parse_detach_keys(&request.detach_keys)?;
    check_execable(&record)?;
    let action = format!("exec_create: {}", command_words(&request));
    let session = ExecSession::new(request, false);
    let id = session.id.clone();
    insert(shared, handle, session)?;
    publish(shared, &record, &action, &id, None);
    Ok(id)
}

/// COMPAT: the program, a space, its arguments; the space is there without arguments too.
fn command_words(request: &CreateExec) -> String {
    match request.cmd.split_first() {
        Some((program, args)) => format!("{program} {}", args.join(" ")),
        None => String::new(),
    }
}

fn check_execable(record: &ContainerRecord) -> Result<()> {
    match record.state.status {
        Status::Running => Ok(()),
        Status::Paused => Err(Error::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            record.name
        ))),
        Status::Restarting => Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            record.name
        ))),
        _ => Err(Error::conflict(format!("container {} is not running", record.id))),
    }
}

fn insert(shared: &Shared, handle: &Handle, session: Arc<ExecSession>) -> Result<()> {
    let mut execs = lock(&handle.execs);
    let is_due = execs.len().is_multiple_of(SWEEP) || execs.len() >= MAX_SESSIONS;
    let forgotten = if is_due { take_ended(&mut execs) } else { Vec::new() };
    if execs.len() >= MAX_SESSIONS {
        return Err(Error::unavailable(format!(
            "container {} has {MAX_SESSIONS} exec sessions",
            handle.id
        )));
    }
    let id = session.id.clone();
    execs.insert(id.clone(), session);
    drop(execs);
    for old in forgotten {
        shared.containers.forget_exec(&old);
    }
    shared.containers.add_exec(id, handle.id.clone());
    Ok(())
}

/// Takes out the sessions that ended long ago, and where there are as many as there may be, those that ended first but for
/// the last second's.
fn take_ended(execs: &mut HashMap<ExecId, Arc<ExecSession>>) -> Vec<ExecId> {
    let mut ended: Vec<(Instant, ExecId)> = execs
        .iter()
        .filter_map(|(id, session)| match session.phase() {
            Phase::Ended(_, at) => Some((at, id.clone())),
            Phase::Created | Phase::Starting | Phase::Running => None,
        })
        .collect();
    ended.sort_unstable();
    let older_than = |age| ended.partition_point(|(at, _)| at.elapsed() > age);
    let (stale, settled) = (older_than(REMEMBERED), older_than(GRACE));
    let surplus = (execs.len() + SWEEP).saturating_sub(MAX_SESSIONS);
    ended.truncate(stale.max(surplus.min(settled)));
    let ids: Vec<ExecId> = ended.into_iter().map(|(_, id)| id).collect();
    for id in &ids {
        execs.remove(id);
    }
    ids
}

/// Finds a session and its container.
pub(super) fn find(shared: &Shared, id: &str) -> Result<(Arc<Handle>, Arc<ExecSession>)> {
    let handle = shared.containers.find_exec(id)?;
    let session = lock(&handle.execs).get(id).cloned();
    match session {
        Some(session) => Ok((handle, session)),
        None => Err(Error::not_found(format!("No such exec instance: {id}"))),
    }
}

/// Starts a session without a client.
pub(super) async fn start_detached(shared: &Arc<Shared>, id: &str, request: StartExec) -> Result<()> {
    let (handle, session) = find(shared, id)?;
    check_execable(&handle.record())?;
    session.begin()?;
    let operation = shared.operations.begin(OperationKind::Exec, handle.id.as_str());
    let run = run(shared, &handle, &session, request.console_size, Vec::new());
    operations::within(operation, run).await
}

/// Accepts a start with a client; the process starts when the connection is handed over.
pub(super) fn accept(shared: &Arc<Shared>, id: &str, request: StartExec) -> Result<AttachTicket> {
    let (handle, session) = find(shared, id)?;
    check_execable(&handle.record())?;
    Ok(AttachTicket::for_exec(Arc::clone(shared), handle, session, request))
}

/// Starts a session for a client, who reads in the stream why it failed.
pub(super) async fn start_attached(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    session: &Arc<ExecSession>,
    request: &StartExec,
    stream: ClientStream,
) -> Result<()> {
    let copy = stream
        .socket
        .try_clone()
        .internal(|| "keep the client's connection".into())?;
    let framed = stream.framed;
    let asked = &session.request;
    let spec = AttachSpec {
        stdin: asked.attach_stdin,
        stdout: asked.attach_stdout,
        stderr: asked.attach_stderr && !asked.tty,
        framed,
        detach_keys: parse_detach_keys(&asked.detach_keys)?,
        early_stdin: stream.early_input,
        ..AttachSpec::default()
    };
    let started = match session.begin() {
        Ok(()) => {
            let operation = shared.operations.begin(OperationKind::Exec, handle.id.as_str());
            let clients = vec![(spec, stream.socket)];
            let run = run(shared, handle, session, request.console_size, clients);
            operations::within(operation, run).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &started {
        tell(copy, framed, error.message()).await;
    }
    started
}

/// Writes an error into a client's stream, as Docker does, and ends it.
async fn tell(client: OwnedFd, framed: bool, message: &str) {
    let text = format!("{message}\r\n");
    let mut bytes = Vec::with_capacity(text.len() + 8);
    if framed {
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend(text.as_bytes());
    let write = super::attach::write_all(client, bytes);
    let _ = tokio::time::timeout(Duration::from_secs(5), write).await; // a client that does not read loses it
}

async fn run(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    session: &Arc<ExecSession>,
    console_size: Option<[u32; 2]>,
    clients: Vec<(AttachSpec, OwnedFd)>,
) -> Result<()> {
    let record = handle.record();
    let action = format!("exec_start: {}", command_words(&session.request));
    publish(shared, &record, &action, &session.id, None);
    let shim = handle.running_shim();
    let result = match shim {
        Ok(shim) => call(&shim, &record, session, console_size, clients).await,
        Err(error) => Err((error, 126)),
    };
    result.map_err(|(error, code)| {
        session.end(code);
        publish(shared, &record, "exec_die", &session.id, Some(code));
        error
    })
}

async fn call(
    shim: &ShimClient,
    record: &ContainerRecord,
    session: &ExecSession,
    console_size: Option<[u32; 2]>,
    clients: Vec<(AttachSpec, OwnedFd)>,
) -> Result<(), (Error, i32)> {
    let request = &session.request;
    let size = console_size.or(request.console_size).and_then(size_of);
    let plan = ExecPlan {
        id: session.id.to_string(),
        process: process_of(record, request, size).map_err(|e| (e, 126))?,
        user: Some(user_of(record, request)),
        group_add: record.host.group_add.clone().unwrap_or_default(),
        stdio: StdioPlan {
            terminal: request.tty,
            open_stdin: request.attach_stdin,
            stdin_once: true,
            console_size: size,
        },
        privileged: request.privileged,
        note: serde_json::to_value(Note {
            request: request.clone(),
            hidden: session.hidden,
        })
        .ok(),
    };
    operations::step("planned");
    let _waiting = operations::waiting("the shim, which starts the process");
    let started = shim.exec(plan, clients).await;
    operations::step("started");
    match started {
        Ok(started) => {
            session.note_started(started.pid);
            Ok(())
        }
        Err(CallError::Fault(fault)) => {
            let code = if fault.kind == FaultKind::CommandNotFound {
                127
            } else {
                126
            };
            // COMPAT: clients look for the words of the runtime in this text.
            let text = format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {}",
                fault.message
            );
            Err((Error::invalid(text).with_source(fault), code))
        }
        Err(other) => Err((Error::from(other), 126)),
    }
}

fn user_of(record: &ContainerRecord, request: &CreateExec) -> String {
    let user = if request.user.is_empty() {
        &record.config.user
    } else {
        &request.user
    };
    super::start::user_or_root(user)
}

fn size_of([rows, cols]: [u32; 2]) -> Option<ConsoleSize> {
    let clamp = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    (rows > 0 && cols > 0).then(|| ConsoleSize {
        rows: clamp(rows),
        cols: clamp(cols),
    })
}

/// The specification's process object of an exec session.
fn process_of(record: &ContainerRecord, request: &CreateExec, size: Option<ConsoleSize>) -> Result<serde_json::Value> {
    let mut env = environment(record);
    if request.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    let cwd = match (request.working_dir.as_str(), record.config.working_dir.as_str()) {
        ("", "") => "/",
        ("", own) => own,
        (asked, _) => asked,
    };
    let process = Process {
        terminal: request.tty,
        console_size: size.map(|s| wharf_runtime::spec::ConsoleSize {
            height: s.rows,
            width: s.cols,
        }),
        args: request.cmd.clone(),
        env: merge_environment(env, &request.env),
        cwd: PathBuf::from("/").join(cwd),
        no_new_privileges: crate::spec::SecurityOptions::parse(&record.host)?.no_new_privileges,
        ..Process::default()
    };
    serde_json::to_value(process).internal(|| "describe the process".into())
}

/// What the shim keeps of a session for the next engine.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    request: CreateExec,
    hidden: bool,
}

/// Takes over the sessions of a container that runs since before this engine. A shim of an older version knows
/// no more of them than their ids.
pub(super) fn adopt(shared: &Arc<Shared>, handle: &Arc<Handle>, shim: &ShimClient, execs: Vec<ExecState>) {
    for exec in execs {
        let note: Note = exec
            .note
            .and_then(|note| serde_json::from_value(note).ok())
            .unwrap_or_default();
        if lock(&handle.execs).contains_key(exec.id.as_str()) {
            // Known: only the connection to the shim was lost, and with it perhaps the word of the end.
            if let Some(exit) = exec.exit {
                on_exit(shared, handle, Some(shim.clone()), &exec.id, &exit);
            }
            continue;
        }
        let mut session = ExecSession::new(note.request, note.hidden);
        if let Some(session) = Arc::get_mut(&mut session) {
            session.id = ExecId::new(exec.id.as_str());
        }
        *lock(&session.state) = Phase::Starting;
        session.note_started(exec.pid);
        if let Err(error) = insert(shared, handle, session) {
            tracing::warn!(
                container = handle.id.short(),
                "an exec is not taken over: {}",
                error.chain()
            );
            continue;
        }
        if let Some(exit) = exec.exit {
            on_exit(shared, handle, Some(shim.clone()), &exec.id, &exit);
        }
    }
}

/// Runs a hidden session to its end: a health probe. The exit code, or why there is none.
pub(super) async fn run_hidden(
    shared_record: &ContainerRecord,
    handle: &Arc<Handle>,
    shim: &ShimClient,
    request: CreateExec,
    client: (AttachSpec, OwnedFd),
) -> Result<HiddenRun> {
    let session = ExecSession::new(request, true);
    lock(&handle.execs).insert(session.id.clone(), Arc::clone(&session));
    let run = HiddenRun {
        handle: Arc::clone(handle),
        session,
        shim: shim.clone(),
    };
    call(shim, shared_record, &run.session, None, vec![client])
        .await
        .map_err(|(error, _)| error)?;
    Ok(run)
}

/// A probe under way; dropping it forgets the session.
#[derive(Debug)]
pub(super) struct HiddenRun {
    handle: Arc<Handle>,
    session: Arc<ExecSession>,
    shim: ShimClient,
}

impl HiddenRun {
    pub(super) async fn exit_code(&self) -> i32 {
        self.session.wait().await
    }

    pub(super) async fn kill(&self) {
        let done = self
            .shim
            .exec_kill(self.session.id.as_str(), super::machine::SIGKILL)
            .await;
        if let Err(error) = done {
            tracing::debug!("a probe could not be killed: {error}");
        }
    }
}

impl Drop for HiddenRun {
    fn drop(&mut self) {
        lock(&self.handle.execs).remove(&self.session.id);
    }
}

/// A session ended, says the shim.
pub(super) fn on_exit(
    shared: &Arc<Shared>,
    handle: &Arc<Handle>,
    shim: Option<ShimClient>,
    exec: &str,
    exit: &ExitRecord,
) {
    let session = lock(&handle.execs).get(exec).cloned();
    if let Some(session) = session
        && session.end(exit.code)
        && !session.hidden
    {
        publish(shared, &handle.record(), "exec_die", &session.id, Some(exit.code));
    }
    let exec = exec.to_owned();
    if let Some(shim) = shim {
        tokio::spawn(async move {
            if let Err(error) = shim.acknowledge_exec(&exec).await {
                tracing::debug!("exec {exec} not acknowledged: {error}");
            }
        });
    }
}

/// The container ended: so did all its sessions, and their ids are gone.
pub(super) fn forget_all(shared: &Arc<Shared>, handle: &Arc<Handle>) {
    let sessions: Vec<_> = lock(&handle.execs).drain().map(|(_, s)| s).collect();
    for session in sessions {
        shared.containers.forget_exec(&session.id);
        let is_under_way = matches!(session.phase(), Phase::Starting | Phase::Running);
        if is_under_way && session.end(137) && !session.hidden {
            publish(shared, &handle.record(), "exec_die", &session.id, Some(137));
        }
    }
}

/// A session as `inspect` shows it.
pub(super) fn inspect(shared: &Shared, id: &str) -> Result<ExecInfo> {
    let (handle, session) = find(shared, id)?;
    let (running, exit_code, ended) = match session.phase() {
        Phase::Created => (false, None, false),
        Phase::Starting | Phase::Running => (true, None, false),
        Phase::Ended(code, _) => (false, Some(code), true),
    };
    Ok(ExecInfo {
        id: session.id.clone(),
        container: handle.id.clone(),
        request: session.request.clone(),
        running,
        exit_code,
        pid: session.pid.load(Ordering::Relaxed),
        can_remove: ended,
    })
}

/// Sets the size of a session's terminal.
pub(super) async fn resize(shared: &Shared, id: &str, height: u32, width: u32) -> Result<()> {
    let (handle, session) = find(shared, id)?;
    if !matches!(session.phase(), Phase::Running) {
        return Err(Error::conflict(format!("exec {id} is not running")));
    }
    let Some(size) = size_of([height, width]) else {
        return Ok(());
    };
    Ok(handle.running_shim()?.exec_resize(session.id.as_str(), size).await?)
}

/// Ids of the sessions that `inspect` of their container lists.
pub(super) fn ids(handle: &Handle) -> Vec<String> {
    let execs = lock(&handle.execs);
    let live = execs
        .values()
        .filter(|s| !s.hidden && !matches!(s.phase(), Phase::Ended(..)));
    let mut ids: Vec<String> = live.map(|s| s.id.to_string()).collect();
    ids.sort();
    ids
}

fn publish(shared: &Shared, record: &ContainerRecord, action: &str, id: &ExecId, code: Option<i32>) {
    let mut more: BTreeMap<&str, String> = BTreeMap::from([("execID", id.to_string())]);
    if let Some(code) = code {
        more.insert("exitCode", code.to_string());
    }
    let more: Vec<(&str, String)> = more.into_iter().collect();
    happened::publish(&shared.events, record, action, &more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_ended_make_room_for_others_the_first_ones_first() {
        let mut execs = HashMap::new();
        let mut ended = Vec::new();
        for n in 0..MAX_SESSIONS {
            let session = ExecSession::new(CreateExec::default(), false);
            if n % 2 == 1 {
                // The last ones just now.
                let age = if n < 100 { GRACE * 2 } else { Duration::ZERO };
                *lock(&session.state) = Phase::Ended(0, Instant::now().checked_sub(age).unwrap());
                ended.push(session.id.clone());
            }
            execs.insert(session.id.clone(), session);
        }
        assert_eq!(take_ended(&mut execs), ended[..50]);
        assert_eq!(execs.len(), MAX_SESSIONS - 50);
        // There is room: nothing else is stale.
        assert_eq!(take_ended(&mut execs), []);
    }

    #[test]
    fn a_session_ends_once() {
        let session = ExecSession::new(CreateExec::default(), false);
        assert!(session.end(3));
        assert!(!session.end(137));
        assert!(matches!(session.phase(), Phase::Ended(3, _)));
        assert_eq!(*session.ended.borrow(), Some(3));
    }

    #[test]
    fn sessions_that_run_are_not_forgotten() {
        let sessions = (0..MAX_SESSIONS).map(|_| ExecSession::new(CreateExec::default(), false));
        let mut execs = sessions.map(|session| (session.id.clone(), session)).collect();
        assert_eq!(take_ended(&mut execs), []);
    }
}
