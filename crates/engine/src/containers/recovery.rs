//! After a restart of the engine: what records, shims and kernel say, and what follows.
//!
//! On conflict the kernel wins, then the shim, then the database. [`decide`] is the pure
//! core; the rest looks and acts. Every row of the journal is completed or undone here and
//! nowhere else.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_cgroup::Cgroup;
use wharf_shim::client::{CallError, EventStream, ShimClient, connect, is_kept, read_exit, shim_pid};
use wharf_shim::protocol::{ExecState, ExitRecord, Phase, State};
use wharf_sys::failpoint;

use super::blocking::blocking;
use super::machine::SIGKILL;
use super::paths::{Places, cgroup_path, containers_dir};
use super::remove::{self, delete_tree};
use super::start::{self, Namespace};
use super::task::{self, Beginning};
use super::unfinished::{Unfinished, end_rows};
use crate::Shared;
use crate::db::{JournalEntry, JournalId};
use crate::error::Result;
use crate::model::requests::RemoveOptions;
use crate::model::{ContainerId, ContainerRecord, Happening, MountKind, NetworkMode, RestartKind, Status, Timestamp};
use crate::operations::OperationKind;
use crate::volumes::{self, Giving, VolumeService};

/// Exit code of a container whose end nobody saw.
const UNKNOWN_END: i32 = 255;

/// How long the engine's start waits for slow shims before it serves without them.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a shim is asked how things stand, each time for as long as an answer may take, before it counts as hung.
const TRIES: u32 = 6;

/// Longest time a cgroup of killed processes may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What a look at the run directory and the kernel shows of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A shim answers.
    Shim(Phase, Option<ExitRecord>),
    /// No shim answers, but it left how the container ended.
    ExitFile(ExitRecord),
    /// Neither.
    Nothing,
}

/// What is to be done about one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It runs: reconnect.
    Adopt,
    /// It ended while nobody watched.
    End(ExitRecord),
    /// Take back a half-done start, then as the inner verdict says.
    UndoStart(Box<Verdict>),
    /// Complete its removal.
    Remove,
    /// Start it again.
    Restart,
    /// Nothing runs and nothing is to be done.
    Rest,
}

/// What the decision needs to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) status: Status,
    pub(crate) restart: RestartKind,
    pub(crate) manually_stopped: bool,
    pub(crate) auto_remove: bool,
    /// The machine was booted since the engine last ran.
    pub(crate) rebooted: bool,
    /// It was stopped because the host went down.
    pub(crate) shut_down: bool,
}

/// Decides what becomes of a container.
pub(crate) fn decide(recorded: Recorded, journal: Option<OperationKind>, seen: &Seen, now: Timestamp) -> Verdict {
    let removing = matches!(recorded.status, Status::Removing | Status::Dead);
    if journal == Some(OperationKind::Remove) || removing {
        return Verdict::Remove;
    }
    if journal == Some(OperationKind::Start) {
        // Whoever asked for it was never told that it runs.
        return Verdict::UndoStart(Box::new(at_rest(recorded)));
    }
    let unseen = ExitRecord {
        code: UNKNOWN_END,
        exited_at_ns: now.as_nanos(),
        ..ExitRecord::default()
    };
    match (recorded.status, seen) {
        (_, Seen::Shim(Phase::Running | Phase::Paused, _)) => Verdict::Adopt,
        (Status::Running | Status::Paused, Seen::Shim(Phase::Exited, exit)) => {
            Verdict::End(exit.clone().unwrap_or(unseen))
        }
        (Status::Running | Status::Paused, Seen::ExitFile(exit)) => Verdict::End(exit.clone()),
        (Status::Running | Status::Paused, _) => Verdict::End(unseen),
        (_, Seen::Shim(..) | Seen::ExitFile(_)) => Verdict::UndoStart(Box::new(at_rest(recorded))),
        (_, Seen::Nothing) => at_rest(recorded),
    }
}

/// What becomes of a container that does not run.
fn at_rest(recorded: Recorded) -> Verdict {
    let always = recorded.restart == RestartKind::Always && recorded.status == Status::Exited;
    match recorded.status {
        Status::Restarting if !recorded.manually_stopped => Verdict::Restart,
        Status::Exited if recorded.auto_remove => Verdict::Remove,
        // COMPAT: with the machine, `always` containers come back even when a user stopped them.
        _ if recorded.rebooted && always => Verdict::Restart,
        Status::Exited if recorded.shut_down && !recorded.manually_stopped => match recorded.restart {
            RestartKind::Always | RestartKind::UnlessStopped => Verdict::Restart,
            RestartKind::No | RestartKind::OnFailure => Verdict::Rest,
        },
        _ => Verdict::Rest,
    }
}

/// Looks for the run of a container, for its task when the shim's connection broke.
pub(crate) async fn find_run(shared: &Arc<Shared>, record: &mut ContainerRecord) -> Beginning {
    let (seen, connection) = look(shared, record).await;
    let recorded = Recorded {
        status: Status::Running,
        ..recorded_of(record, false)
    };
    match (decide(recorded, None, &seen, Timestamp::now()), connection) {
        (Verdict::Adopt, Some(found)) => Beginning::Adopted(found),
        (Verdict::End(exit), connection) => ended(shared, record, &seen, exit, connection).await,
        _ => Beginning::Idle,
    }
}

/// Clears what a run that is over left. COMPAT: a container that outlived its shim is killed, and has that as its end.
async fn ended(
    shared: &Arc<Shared>,
    record: &mut ContainerRecord,
    seen: &Seen,
    mut exit: ExitRecord,
    connection: Option<Found>,
) -> Beginning {
    let killed = clear_kernel(shared, record).await;
    failpoint::reach("recover/cleared");
    if *seen == Seen::Nothing {
        let at = Timestamp::from_nanos(exit.exited_at_ns);
        record.story.push_at(at, Happening::KeeperLost { killed });
    }
    if killed && *seen == Seen::Nothing {
        exit.code = 128 + SIGKILL;
        exit.signal = Some(SIGKILL);
    }
    Beginning::Ended(exit, connection.map(|found| found.shim))
}

fn recorded_of(record: &ContainerRecord, rebooted: bool) -> Recorded {
    Recorded {
        status: record.state.status,
        restart: record.host.restart(),
        manually_stopped: record.manually_stopped,
        auto_remove: record.host.auto_remove,
        rebooted,
        shut_down: record.shut_down,
    }
}

/// A shim that answers.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shim: ShimClient,
    pub(crate) events: EventStream,
    /// Further processes that it keeps.
    pub(crate) execs: Vec<ExecState>,
}

async fn look(shared: &Arc<Shared>, record: &mut ContainerRecord) -> (Seen, Option<Found>) {
    let dir = Places::of(&shared.config, &record.id).shim;
    if let Ok((shim, events)) = connect(&dir).await {
        match ask(&shim).await {
            Ok(state) => {
                let found = Found {
                    shim,
                    events,
                    execs: state.execs,
                };
                return (Seen::Shim(state.phase, state.exit), Some(found));
            }
            Err(CallError::Deadline { .. }) => return (end_unheard(shared, record, &dir).await, None),
            Err(_) => {} // it has just ended
        }
    }
    match read_exit(&dir) {
        Some(exit) => (Seen::ExitFile(exit), None),
        None => (Seen::Nothing, None),
    }
}

/// Has a shim say how things stand, with patience.
async fn ask(shim: &ShimClient) -> std::result::Result<State, CallError> {
    let mut tries = 1;
    loop {
        match shim.state().await {
            Err(CallError::Deadline { .. }) if tries < TRIES => tries += 1,
            answer => return answer,
        }
    }
}

/// A shim that says nothing may be stopped or hung for good: nobody could stop its container, or learn of its end.
async fn end_unheard(shared: &Arc<Shared>, record: &mut ContainerRecord, dir: &Path) -> Seen {
    let doing = super::patience::keeper_does(dir);
    tracing::warn!(
        container = record.id.short(),
        "its shim does not answer and is killed with it: {doing}"
    );
    record.story.push(Happening::KeeperSilent { message: doing });
    match end_silent(shared, record).await {
        Ok(exit) => Seen::ExitFile(exit),
        Err(error) => {
            tracing::warn!(container = record.id.short(), "{}", error.chain());
            Seen::Nothing
        }
    }
}

/// Brings the tasks of all recorded containers into being, in parallel, and clears what no
/// record names. Returns when each container's state is known.
pub(crate) async fn recover(shared: &Arc<Shared>, records: Vec<ContainerRecord>, rebooted: bool) -> Result<()> {
    let journal = shared.db.call(|db| db.journal()).await?;
    let known: BTreeSet<String> = records.iter().map(|r| r.id.to_string()).collect();
    let mut rows: BTreeMap<String, Vec<JournalEntry>> = BTreeMap::new();
    for row in journal {
        rows.entry(row.target.clone()).or_default().push(row);
    }
    for row in rows.values().flatten().filter(|r| !known.contains(&r.target)) {
        forget_or_undo(shared, row).await;
        failpoint::reach("recover/stray-row");
    }
    let mut waits = Vec::with_capacity(records.len());
    for mut record in joining_first(records) {
        let rows = rows.remove(record.id.as_str()).unwrap_or_default();
        record.state.reconnecting = record.state.shows_as_running();
        let beginning = Beginning::Recover(Unfinished { rows, rebooted });
        waits.push(task::spawn(shared, record, beginning));
    }
    let all_known = futures_util::future::join_all(waits);
    if tokio::time::timeout(PATIENCE, all_known).await.is_err() {
        tracing::warn!("some containers do not answer yet; they are shown as reconnecting");
    }
    failpoint::reach("recover/known");
    volumes::release_strangers(shared, |owner| known.contains(owner));
    let shared = Arc::clone(shared);
    blocking("clearing leftovers", move || {
        clear_strangers(&shared, &known);
        failpoint::reach("recover/strangers");
        if let Err(error) = shared.volumes.unmount_unused() {
            tracing::warn!("a volume stays mounted: {error}");
        }
        Ok(())
    })
    .await
}

/// ORDER: containers in the network namespaces of others are known before the tasks of those begin, which keep a
/// namespace that somebody is in.
fn joining_first(mut records: Vec<ContainerRecord>) -> Vec<ContainerRecord> {
    records.sort_by_key(|record| !matches!(record.host.network(), NetworkMode::Container(_)));
    records
}

/// Finds out how a container stands, undoes what was half done and says how its task goes on.
pub(super) async fn examine(shared: &Arc<Shared>, record: &mut ContainerRecord, left: &Unfinished) -> Beginning {
    let (seen, connection) = look(shared, record).await;
    let now = Timestamp::now();
    let mut verdict = decide(recorded_of(record, left.rebooted), left.decisive(), &seen, now);
    if verdict == Verdict::Restart {
        // The engine before may have been killed after it had written down the end and before it had taken back the run.
        verdict = Verdict::UndoStart(Box::new(verdict));
    }
    if let Verdict::UndoStart(then) = verdict {
        let namespace = match *then == Verdict::Restart || remove::is_joined(shared, record) {
            true => Namespace::Keep,
            false => Namespace::Remove,
        };
        undo_start(shared, record, connection.as_ref().map(|found| &found.shim), namespace).await;
        failpoint::reach("recover/undone");
        verdict = *then;
    }
    match (verdict, connection) {
        (Verdict::Adopt, Some(found)) => {
            record.state.status = match seen {
                Seen::Shim(Phase::Paused, _) => Status::Paused,
                _ => Status::Running,
            };
            attach_volumes(shared, record).await;
            failpoint::reach("recover/adopted");
            Beginning::Adopted(found)
        }
        (Verdict::End(exit), connection) => ended(shared, record, &seen, exit, connection).await,
        (Verdict::Remove, connection) => {
            let shim = connection.as_ref().map(|found| &found.shim);
            undo_start(shared, record, shim, Namespace::Remove).await;
            failpoint::reach("recover/remove");
            Beginning::Remove(RemoveOptions {
                force: true,
                volumes: left.takes_volumes() || record.host.auto_remove,
                link: false,
            })
        }
        (Verdict::Restart, _) => {
            record.state.status = Status::Restarting;
            Beginning::Restart
        }
        _ => {
            // What the engine before could not give back.
            volumes::release_behind(shared, record.id.as_str());
            Beginning::Idle
        }
    }
}

/// Ends the rows that are settled by what was found; those of requests that go on stay until they are done.
pub(super) async fn end_settled(shared: &Arc<Shared>, left: &Unfinished, kept: &[JournalId]) {
    let rows: Vec<JournalId> = left
        .rows
        .iter()
        .map(|row| row.id)
        .filter(|id| !kept.contains(id))
        .collect();
    if rows.is_empty() {
        return;
    }
    if let Err(error) = shared.db.call(move |db| end_rows(db, &rows)).await {
        tracing::warn!("the journal keeps a row too long: {}", error.chain());
    }
}

/// Counts a running container among the users of its volumes, so that none is unmounted under it.
async fn attach_volumes(shared: &Arc<Shared>, record: &ContainerRecord) {
    let names: Vec<String> = record
        .mounts
        .iter()
        .filter(|m| m.kind == MountKind::Volume && m.plugin().is_none())
        .map(|m| m.name.clone())
        .collect();
    let (held, id) = (Arc::clone(shared), record.id.clone());
    let done = blocking("attaching the volumes of a running container", move || {
        for name in names {
            if let Err(error) = held.volumes.attach(&name) {
                tracing::warn!(container = id.short(), volume = name, "not attached: {error}");
            }
        }
        Ok(())
    })
    .await;
    if let Err(error) = done {
        tracing::warn!("{}", error.chain());
    }
}

/// Deals with a row whose container has no record: only a create leaves something then.
async fn forget_or_undo(shared: &Arc<Shared>, row: &JournalEntry) {
    if row.kind == OperationKind::Create {
        return undo_create(shared, row).await;
    }
    let id = row.id;
    if let Err(error) = shared.db.call(move |db| db.journal_end(id)).await {
        tracing::warn!("the journal keeps a row too long: {}", error.chain());
    }
}

/// Takes back a create of which there is no record.
async fn undo_create(shared: &Arc<Shared>, row: &JournalEntry) {
    let names: Vec<String> = row
        .args
        .get("anonymous")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    let dir = Places::of(&shared.config, &ContainerId::new(row.target.clone())).dir;
    let (held, id) = (Arc::clone(shared), row.id);
    let done = blocking("undoing a create", move || {
        for name in names {
            match held.volumes.inspect(&name) {
                Ok(volume) if !volume.is_local() => discard_behind(&held, volume),
                Ok(_) => {
                    if let Err(error) = held.volumes.remove(&name) {
                        tracing::warn!(volume = name, "left over: {error}");
                    }
                }
                Err(wharf_volume::VolumeError::NotFound(_)) => {}
                Err(error) => tracing::warn!(volume = name, "left over: {error}"),
            }
        }
        failpoint::reach("recover/create-volumes");
        delete_tree(&dir);
        failpoint::reach("recover/create-directory");
        held.db.journal_end(id)
    })
    .await;
    if let Err(error) = done {
        tracing::warn!("undoing a create: {}", error.chain());
    }
}

/// Has a plugin remove a volume that was made for a container which does not exist. The engine's start does not wait
/// for plugins; what this one does not remove now stays in the list of volumes.
fn discard_behind(shared: &Arc<Shared>, volume: wharf_volume::Volume) {
    let service = VolumeService::new(Arc::clone(shared));
    tokio::spawn(async move {
        if let Err(error) = service.discard(&volume.name, &volume.driver).await {
            tracing::warn!(volume = volume.name, "left over: {}", error.chain());
        }
    });
}

/// Ends whatever a half-done start left: shim, processes, endpoints, mounts, and the namespace unless it is kept.
async fn undo_start(
    shared: &Arc<Shared>,
    record: &mut ContainerRecord,
    shim: Option<&ShimClient>,
    namespace: Namespace,
) {
    if let Some(shim) = shim
        && let Err(error) = shim.destroy().await
    {
        tracing::debug!(container = record.id.short(), "shim did not end: {error}");
    }
    clear_kernel(shared, record).await;
    failpoint::reach("recover/killed");
    for error in [
        start::release_network(shared, record, namespace).await.err(),
        start::release_mounts(shared, record, Giving::Unawaited).await.err(),
    ]
    .into_iter()
    .flatten()
    {
        tracing::warn!(container = record.id.short(), "undoing a start: {}", error.chain());
    }
}

/// Kills a shim that does not answer, and whatever it still keeps. The end that is to be told: the one that the shim
/// has written down, that of the first process if it had ended already, or SIGKILL.
pub(super) async fn end_silent(shared: &Arc<Shared>, record: &ContainerRecord) -> Result<ExitRecord> {
    let held = Arc::clone(shared);
    let dir = Places::of(&shared.config, &record.id).shim;
    let cgroup = cgroup_path(&shared.config, record);
    let first = record.state.pid;
    blocking("ending a shim that does not answer", move || {
        let before = shim_pid(&dir).and_then(|keeper| end_of_zombie(first, keeper));
        let at_ns = Timestamp::now().as_nanos();
        end_shim(&held, &dir, &cgroup);
        let (code, signal) = before.unwrap_or((128 + SIGKILL, Some(SIGKILL)));
        Ok(read_exit(&dir).unwrap_or(ExitRecord {
            code,
            signal,
            exited_at_ns: at_ns,
            ..ExitRecord::default()
        }))
    })
    .await
}

/// Exit code and signal of a process that has ended and that its parent has not asked for (field 52 of
/// proc_pid_stat(5)).
fn end_of_zombie(pid: i32, parent: u32) -> Option<(i32, Option<i32>)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_end(&stat, parent)
}

fn parse_end(stat: &str, parent: u32) -> Option<(i32, Option<i32>)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    if *fields.first()? != "Z" || fields.get(1)?.parse() != Ok(parent) {
        return None;
    }
    let status: i32 = fields.get(49)?.parse().ok()?;
    match status & 0x7f {
        0 => Some((status >> 8 & 0xff, None)),
        signal => Some((128 + signal, Some(signal))),
    }
}

/// Kills shim and processes of a container that nobody can talk to any more; tells whether any lived.
pub(super) async fn clear_kernel(shared: &Arc<Shared>, record: &ContainerRecord) -> bool {
    let shared = Arc::clone(shared);
    let dir = Places::of(&shared.config, &record.id).shim;
    let cgroup = cgroup_path(&shared.config, record);
    let done = blocking("clearing a dead container", move || {
        if connectable(&dir) {
            return Ok(false); // it is asked to end by its protocol
        }
        let lived = Cgroup::open(&shared.hierarchy, &cgroup)
            .and_then(|group| group.pids())
            .is_ok_and(|pids| !pids.is_empty());
        end_shim(&shared, &dir, &cgroup);
        Ok(lived)
    })
    .await;
    done.unwrap_or_else(|error| {
        tracing::warn!(container = record.id.short(), "{}", error.chain());
        false
    })
}

fn connectable(dir: &Path) -> bool {
    shim_pid(dir).is_some() && std::os::unix::net::UnixStream::connect(dir.join("sock")).is_ok()
}

/// Kills a shim with all it keeps. One that an engine had started just before it died may not have written its id yet:
/// its lock on the directory tells that it is there.
fn end_shim(shared: &Shared, dir: &Path, cgroup: &str) {
    let end = Instant::now() + KILL_DEADLINE;
    loop {
        kill_shim(dir);
        if !is_kept(dir) {
            break;
        }
        if let Ok(cgroup) = Cgroup::open(&shared.hierarchy, cgroup) {
            let _ = cgroup.kill(); // what cannot be killed shows in the deletion below
        }
        if Instant::now() > end {
            tracing::warn!("the shim of {} does not end", dir.display());
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    delete_cgroup(shared, cgroup);
}

/// With another's shim that it drives, if it does.
fn kill_shim(dir: &Path) {
    kill(shim_pid(dir));
    kill(wharf_shim::identity::foreign_pid(dir));
}

fn kill(pid: Option<u32>) {
    let pid = pid
        .and_then(|p| i32::try_from(p).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL); // gone is fine
    }
}

fn delete_cgroup(shared: &Shared, path: &str) {
    if let Ok(cgroup) = Cgroup::open(&shared.hierarchy, path) {
        let _ = cgroup.kill(); // what cannot be killed shows in the deletion below
    }
    if let Err(error) = Cgroup::delete_tree(&shared.hierarchy, path, KILL_DEADLINE) {
        tracing::warn!("cgroup {path}: {error}");
    }
}

/// Ends what is left of a build step. Blocking.
pub(super) fn clear_step(shared: &Shared, record: &ContainerRecord) {
    let dir = Places::of(&shared.config, &record.id).shim;
    end_shim(shared, &dir, &cgroup_path(&shared.config, record));
    delete_tree(&dir);
}

/// Removes shims, directories and cgroups that no record names.
fn clear_strangers(shared: &Shared, known: &BTreeSet<String>) {
    let is_stranger = |name: &str| is_id(name) && !known.contains(name);
    for name in names_in(&shared.config.run.join("shims"))
        .into_iter()
        .filter(|n| is_stranger(n))
    {
        let dir = shared.config.run.join("shims").join(&name);
        end_shim(shared, &dir, &format!("/{}/{name}", shared.config.instance));
        delete_tree(&dir);
    }
    for name in cgroups_of(shared).into_iter().filter(|n| is_stranger(n)) {
        delete_cgroup(shared, &format!("/{}/{name}", shared.config.instance));
    }
    let containers = containers_dir(&shared.config);
    for name in names_in(&containers) {
        if name.starts_with(".gone-") || is_stranger(&name) {
            delete_tree(&containers.join(name));
        }
    }
    for name in names_in(&shared.config.run.join("shm"))
        .into_iter()
        .filter(|n| is_stranger(n))
    {
        start::unmount_shm(&shared.config.run.join("shm").join(name));
    }
    forget_strangers(shared, is_stranger);
}

/// What configured runtimes still keep of containers that no record names.
fn forget_strangers(shared: &Shared, is_stranger: impl Fn(&str) -> bool) {
    let states = crate::runtimes::states_dir(&shared.config.run);
    for runtime in names_in(&states) {
        for name in names_in(&states.join(&runtime)).into_iter().filter(|n| is_stranger(n)) {
            crate::runtimes::forget(&shared.config, &runtime, &name);
        }
    }
}

fn cgroups_of(shared: &Shared) -> BTreeSet<String> {
    let own = Cgroup::open(&shared.hierarchy, &format!("/{}", shared.config.instance));
    let Ok(own) = own else { return BTreeSet::new() };
    own.directories().values().flat_map(|dir| names_in(dir)).collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_process_that_nobody_has_asked_for_is_read() {
        let stat = |state: &str, status: &str| {
            let rest = vec!["0"; 47].join(" ");
            parse_end(&format!("7 (a) b) {state} 5 {rest} {status} \n"), 5)
        };
        assert_eq!(stat("Z", "768"), Some((3, None)));
        assert_eq!(stat("Z", "9"), Some((137, Some(9))));
        assert_eq!(stat("Z", "139"), Some((139, Some(11))), "with a core");
        assert_eq!(stat("S", "768"), None);
        assert_eq!(parse_end("7 (a) Z 6", 5), None);
    }

    fn statuses() -> impl Strategy<Value = Status> {
        prop_oneof![
            Just(Status::Created),
            Just(Status::Running),
            Just(Status::Paused),
            Just(Status::Restarting),
            Just(Status::Removing),
            Just(Status::Exited),
            Just(Status::Dead),
        ]
    }

    fn sights() -> impl Strategy<Value = Seen> {
        let exit = ExitRecord {
            code: 7,
            exited_at_ns: 5,
            ..ExitRecord::default()
        };
        prop_oneof![
            Just(Seen::Shim(Phase::Created, None)),
            Just(Seen::Shim(Phase::Running, None)),
            Just(Seen::Shim(Phase::Paused, None)),
            Just(Seen::Shim(Phase::Exited, Some(exit.clone()))),
            Just(Seen::ExitFile(exit)),
            Just(Seen::Nothing),
        ]
    }

    fn rows() -> impl Strategy<Value = Option<OperationKind>> {
        prop_oneof![
            Just(None),
            Just(Some(OperationKind::Create)),
            Just(Some(OperationKind::Start)),
            Just(Some(OperationKind::Remove)),
        ]
    }

    fn recorded() -> impl Strategy<Value = Recorded> {
        let restarts = prop_oneof![
            Just(RestartKind::No),
            Just(RestartKind::Always),
            Just(RestartKind::OnFailure)
        ];
        (statuses(), restarts, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(status, restart, manually_stopped, auto_remove, rebooted)| Recorded {
                status,
                restart,
                manually_stopped,
                auto_remove,
                rebooted,
                shut_down: false,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn verdicts_follow_the_kernel(recorded in recorded(), row in rows(), seen in sights()) {
            let verdict = decide(recorded, row, &seen, Timestamp::from_nanos(9));
            let runs = matches!(seen, Seen::Shim(Phase::Running | Phase::Paused, _));
            let was_running = matches!(recorded.status, Status::Running | Status::Paused);
            match &verdict {
                Verdict::Adopt => prop_assert!(runs && row != Some(OperationKind::Start)),
                Verdict::End(exit) => {
                    prop_assert!(was_running && !runs);
                    if matches!(seen, Seen::ExitFile(_) | Seen::Shim(Phase::Exited, _)) {
                        prop_assert_eq!(exit.code, 7);
                    } else {
                        prop_assert_eq!(exit.code, UNKNOWN_END);
                    }
                }
                Verdict::UndoStart(then) => prop_assert!(!matches!(**then, Verdict::Adopt | Verdict::UndoStart(_))),
                Verdict::Remove => {}
                Verdict::Restart => prop_assert!(!runs && !matches!(recorded.status, Status::Created)),
                Verdict::Rest => prop_assert!(!runs && !was_running),
            }
            if row == Some(OperationKind::Remove) {
                prop_assert_eq!(verdict, Verdict::Remove);
            }
        }
    }

    #[test]
    fn what_a_shutdown_stopped_comes_back_as_its_policy_says() {
        let check = |restart, manually_stopped, expected| {
            let recorded = Recorded {
                status: Status::Exited,
                restart,
                manually_stopped,
                auto_remove: false,
                rebooted: false,
                shut_down: true,
            };
            assert_eq!(
                decide(recorded, None, &Seen::Nothing, Timestamp::from_nanos(3)),
                expected
            );
        };
        check(RestartKind::Always, false, Verdict::Restart);
        check(RestartKind::UnlessStopped, false, Verdict::Restart);
        check(RestartKind::UnlessStopped, true, Verdict::Rest);
        check(RestartKind::OnFailure, false, Verdict::Rest);
        check(RestartKind::No, false, Verdict::Rest);
    }

    #[test]
    fn an_end_nobody_saw_has_code_255() {
        let recorded = Recorded {
            status: Status::Running,
            restart: RestartKind::No,
            manually_stopped: false,
            auto_remove: false,
            rebooted: false,
            shut_down: false,
        };
        let Verdict::End(exit) = decide(recorded, None, &Seen::Nothing, Timestamp::from_nanos(3)) else {
            panic!("it ended")
        };
        assert_eq!((exit.code, exit.exited_at_ns), (255, 3));
    }
}
