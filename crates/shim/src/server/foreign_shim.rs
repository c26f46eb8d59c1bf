//! Containers made by another's shim, driven over containerd's protocol.
//!
//! ```text
//! engine -- our protocol --> this keeper -- task service (ttrpc) --> containerd-shim-X-v2 --> container
//!                            log, exit record, attach <--- fifos ---------------'
//! ```
//! This keeper stays what the engine knows: streams, log and exit status are here, and the shim answers only to it.
//! Processes are not its children: their ends are the answers to waits, and signals are calls.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use serde_json::{Map, Value, json};

use super::container::{Made, fault, system};
use super::foreign_bundle::{self, Prepared};
use super::home::Home;
use super::process::{Input, Output};
use super::stdio::OurEnds;
use super::task_client::{TaskClient, unusable};
use crate::log::Stream;
use crate::plan::{ConsoleSize, ExecPlan, LaunchPlan, StdioPlan};
use crate::protocol::Fault;
use crate::task_api::messages::*;
use crate::task_api::proto::Message;

/// How long making a container may take: one in a virtual machine needs a while.
const MAKING: Duration = Duration::from_secs(60);
/// How long any other call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long the last output of an ended container is waited for.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

const SIGKILL: u32 = 9;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
}

impl Ended {
    /// A shim tells only a number; above 128 it was a signal.
    fn of_status(status: u32) -> Self {
        let code = i32::try_from(status).unwrap_or(255);
        let signal = (129..=192).contains(&code).then_some(code - 128);
        Self { code, signal }
    }

    const KILLED: Self = Self {
        code: 137,
        signal: Some(9),
    };
}

/// An executable with its options: see [`crate::plan::RuntimePlan::Shim`].
pub(super) type ShimPlan<'a> = (&'a Path, &'a str, &'a Map<String, Value>);

/// A container of another's shim.
#[derive(Debug)]
pub(super) struct ForeignShim {
    client: TaskClient,
    binary: PathBuf,
    namespace: String,
    id: String,
    /// Our own directory: bundle and fifos are in it.
    place: PathBuf,
    rootfs: PathBuf,
    /// Which wait is whose: an exec's, or the container's.
    waits: BTreeMap<u32, Option<String>>,
    /// Execs that the shim still knows.
    execs: BTreeSet<String>,
    /// Writing ends of outputs that the shim may not have opened yet.
    holders: Vec<OwnedFd>,
    /// The container's end, and until when its last output is waited for.
    end: Option<(Ended, Instant)>,
    is_lost: bool,
}

impl ForeignShim {
    /// Prepares a bundle, starts the shim and has it create the container.
    pub(super) fn create(plan: &LaunchPlan, shim: ShimPlan<'_>, home: &Home) -> Result<(Self, Made), Fault> {
        let place = std::fs::read_link(wharf_sys::fd::proc_path(home.fd()))
            .map_err(|error| fault("find the shim's directory", &error))?;
        let Prepared { bundle, rootfs } = foreign_bundle::prepare(plan, &place)?;
        // Its log: what counts is in the answers.
        let _ = std::os::unix::fs::symlink("/dev/null", bundle.join("log"));
        let client = start_shim(shim, &plan.id, &bundle).inspect_err(|_| remove_bundle(&place))?;
        let mut foreign = Self {
            client,
            binary: shim.0.to_path_buf(),
            namespace: shim.1.to_owned(),
            id: plan.id.clone(),
            place,
            rootfs,
            waits: BTreeMap::new(),
            execs: BTreeSet::new(),
            holders: Vec::new(),
            end: None,
            is_lost: false,
        };
        match foreign.create_task(plan, shim, &bundle) {
            Ok(made) => Ok((foreign, made)),
            Err(error) => {
                foreign.remove();
                Err(error)
            }
        }
    }

    fn create_task(&mut self, plan: &LaunchPlan, shim: ShimPlan<'_>, bundle: &Path) -> Result<Made, Fault> {
        self.note_shim()?;
        let (ends, [stdin, stdout, stderr]) = self.make_streams("io", plan.stdio)?;
        let request = CreateTaskRequest {
            id: self.id.clone(),
            bundle: bundle.to_string_lossy().into_owned(),
            terminal: plan.stdio.terminal,
            stdin,
            stdout,
            stderr,
            options: options_of(shim, &self.place)?,
            ..CreateTaskRequest::default()
        };
        let created: PidResponse = self.client.call("Create", &request, MAKING)?;
        self.await_end(None);
        made(created.pid, ends)
    }

    /// Records the shim's process, so that whoever finds us killed can end it.
    fn note_shim(&mut self) -> Result<(), Fault> {
        let answer: ConnectResponse = self.client.call("Connect", &self.named(""), CALL)?;
        let ticks = crate::identity::start_ticks(answer.shim_pid).unwrap_or(0);
        let file = self.place.join(crate::identity::FOREIGN);
        std::fs::write(&file, format!("{} {ticks}\n", answer.shim_pid)).map_err(|error| fault("note the shim", &error))
    }

    fn named(&self, exec: &str) -> ProcessRequest {
        ProcessRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
        }
    }

    fn await_end(&mut self, exec: Option<&str>) {
        let request = self.named(exec.unwrap_or_default());
        let stream = self.client.wait(&request);
        self.waits.insert(stream, exec.map(str::to_owned));
    }

    pub(super) fn start(&mut self, size: Option<ConsoleSize>) -> Result<(), Fault> {
        let _: PidResponse = self.client.call("Start", &self.named(""), MAKING)?;
        self.holders.clear();
        if let Some(size) = size {
            self.resize(None, size)?;
        }
        Ok(())
    }

    /// Runs a further process.
    pub(super) fn exec(&mut self, plan: &ExecPlan) -> Result<Made, Fault> {
        let mut process = plan.process.clone();
        process["terminal"] = plan.stdio.terminal.into();
        foreign_bundle::complete_process(&mut process, plan, &self.place)?;
        foreign_bundle::set_user(&mut process, &self.rootfs, plan.user.as_deref(), &plan.group_add)?;
        let (ends, [stdin, stdout, stderr]) = self.make_streams(&format!("io-{}", plan.id), plan.stdio)?;
        let request = ExecProcessRequest {
            id: self.id.clone(),
            exec_id: plan.id.clone(),
            terminal: plan.stdio.terminal,
            stdin,
            stdout,
            stderr,
            spec: Some(as_any("Process", &process)),
        };
        let _: Nothing = self.client.call("Exec", &request, CALL)?;
        self.execs.insert(plan.id.clone());
        let started = self.client.call::<PidResponse>("Start", &self.named(&plan.id), MAKING);
        self.holders.clear();
        self.remove_streams(&format!("io-{}", plan.id));
        let started = started.inspect_err(|_| self.forget_exec(&plan.id))?;
        self.await_end(Some(&plan.id));
        if let Some(size) = plan.stdio.console_size.filter(|_| plan.stdio.terminal) {
            // It may have ended already.
            let _ = self.resize(Some(&plan.id), size);
        }
        made(started.pid, ends)
    }

    /// Has the shim forget an exec that has ended.
    pub(super) fn forget_exec(&mut self, exec: &str) {
        if self.execs.remove(exec) {
            let _ = self.client.call::<DeleteResponse>("Delete", &self.named(exec), CALL);
        }
    }

    pub(super) fn kill(&mut self, exec: Option<&str>, signal: i32, all: bool) -> Result<(), Fault> {
        let request = KillRequest {
            id: self.id.clone(),
            exec_id: exec.unwrap_or_default().to_owned(),
            signal: signal.cast_unsigned(),
            all,
        };
        self.client.call::<Nothing>("Kill", &request, CALL).map(drop)
    }

    pub(super) fn pause(&mut self) -> Result<(), Fault> {
        self.client.call::<Nothing>("Pause", &self.named(""), CALL).map(drop)
    }

    pub(super) fn resume(&mut self) -> Result<(), Fault> {
        self.client.call::<Nothing>("Resume", &self.named(""), CALL).map(drop)
    }

    pub(super) fn update(&mut self, resources: &wharf_cgroup::Resources) -> Result<(), Fault> {
        let request = UpdateTaskRequest {
            id: self.id.clone(),
            resources: Some(as_any("LinuxResources", &spell(resources))),
            ..UpdateTaskRequest::default()
        };
        self.client.call::<Nothing>("Update", &request, CALL).map(drop)
    }

    pub(super) fn resize(&mut self, exec: Option<&str>, size: ConsoleSize) -> Result<(), Fault> {
        let request = ResizePtyRequest {
            id: self.id.clone(),
            exec_id: exec.unwrap_or_default().to_owned(),
            width: size.cols.into(),
            height: size.rows.into(),
        };
        self.client.call::<Nothing>("ResizePty", &request, CALL).map(drop)
    }

    /// No more input comes for a process: the shim holds its input open, too.
    pub(super) fn close_input(&mut self, exec: Option<&str>) {
        let request = CloseIoRequest {
            id: self.id.clone(),
            exec_id: exec.unwrap_or_default().to_owned(),
            stdin: true,
        };
        // One that has ended has no input to close.
        let _ = self.client.call::<Nothing>("CloseIO", &request, CALL);
    }

    /// What to wait for.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.client.connection.fd()
    }

    /// The execs that ended since the last call. A shim that is gone takes all with it.
    pub(super) fn take_ended_execs(&mut self) -> Vec<(String, Ended)> {
        let mut ended = Vec::new();
        for (stream, outcome) in self.client.answers() {
            let Some(whose) = self.waits.remove(&stream) else {
                continue;
            };
            let status = outcome.ok().and_then(|payload| WaitResponse::decode(&payload).ok());
            let end = status.map_or(Ended::KILLED, |status| Ended::of_status(status.exit_status));
            match whose {
                Some(exec) => ended.push((exec, end)),
                None => self.end = Some((end, Instant::now() + LAST_WORDS)),
            }
        }
        if self.client.connection.is_gone && !self.is_lost {
            self.is_lost = true;
            let waits = std::mem::take(&mut self.waits);
            ended.extend(waits.into_values().flatten().map(|exec| (exec, Ended::KILLED)));
            self.end.get_or_insert((Ended::KILLED, Instant::now()));
        }
        ended
    }

    /// Whether the shim has gone before its container.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The container's end, once its output has ended too, or was waited for long enough.
    pub(super) fn end(&self, is_silent: bool) -> Option<Ended> {
        let (end, at) = self.end?;
        (is_silent || Instant::now() >= at).then_some(end)
    }

    /// Whether the container has ended, be there output to come or not.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Kills the container and waits for its end.
    pub(super) fn destroy(&mut self) -> Ended {
        let _ = self.kill(None, SIGKILL.cast_signed(), true);
        let limit = Instant::now() + CALL;
        while self.end.is_none() && Instant::now() < limit {
            let _ = self.client.await_ready(Duration::from_millis(100));
            let _ = self.take_ended_execs();
        }
        self.end.map_or(Ended::KILLED, |(end, _)| end)
    }

    /// Has the shim forget the container and end, and removes what was made for it.
    pub(super) fn remove(&mut self) {
        let request = self.named("");
        let deleted = self.client.call::<DeleteResponse>("Delete", &request, CALL);
        let request = ShutdownRequest {
            id: self.id.clone(),
            now: true,
        };
        let _ = self.client.call::<Nothing>("Shutdown", &request, CALL);
        let limit = Instant::now() + Duration::from_secs(2);
        // One that has taken its socket away has nothing left to do but to tell events to a containerd that is not there.
        let is_serving = || crate::identity::foreign_pid(&self.place).is_some() && self.client.socket.exists();
        while is_serving() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(pid) = crate::identity::foreign_pid(&self.place) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        if deleted.is_err() {
            // What a shim leaves that was killed, its own program removes.
            let bundle = self.place.join("bundle");
            let mut command = command((&self.binary, &self.namespace), &self.id, &bundle);
            let _ = command.arg("-bundle").arg(&bundle).arg("delete").output();
        }
        // One that was killed leaves it.
        let _ = std::fs::remove_file(&self.client.socket);
        self.remove_streams("io");
        remove_bundle(&self.place);
    }

    /// Fifos for a process's streams: our ends, and their names.
    fn make_streams(&mut self, name: &str, plan: StdioPlan) -> Result<(OurEnds, [String; 3]), Fault> {
        let mut ends = OurEnds::default();
        let mut names = [const { String::new() }; 3];
        let outputs = [(0, "out", Stream::Stdout), (1, "err", Stream::Stderr)];
        // A terminal has one output.
        for (index, suffix, stream) in outputs.into_iter().take(if plan.terminal { 1 } else { 2 }) {
            let path = self.fifo(name, suffix)?;
            let fd = open(&path, OFlags::RDONLY)?;
            self.holders.push(open(&path, OFlags::WRONLY)?);
            ends.outputs[index] = Some(Output { fd, stream });
            names[index + 1] = path.to_string_lossy().into_owned();
        }
        if plan.open_stdin {
            let path = self.fifo(name, "in")?;
            // Open for both, so that it can be written before the shim has opened it.
            ends.input = Input::new(Some(open(&path, OFlags::RDWR)?));
            names[0] = path.to_string_lossy().into_owned();
        }
        Ok((ends, names))
    }

    fn fifo(&self, name: &str, suffix: &str) -> Result<PathBuf, Fault> {
        let path = self.place.join(format!("{name}-{suffix}"));
        let _ = std::fs::remove_file(&path);
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        );
        made.map_err(|errno| system(&format!("make {}", path.display()), errno))?;
        Ok(path)
    }

    fn remove_streams(&self, name: &str) {
        for suffix in ["in", "out", "err"] {
            let _ = std::fs::remove_file(self.place.join(format!("{name}-{suffix}")));
        }
    }
}

crate::task_api::proto::message! {
    /// An answer that says nothing.
    Nothing {}
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| system(&format!("open {}", path.display()), errno))
}

/// The process may have ended, and its number with it, before we look: its end comes as an answer in any case, and its
/// signals go by calls.
fn made(pid: u32, ends: OurEnds) -> Result<Made, Fault> {
    let number = i32::try_from(pid).unwrap_or(0);
    let pidfd = match Pid::from_raw(number).map(wharf_sys::handle::open) {
        Some(Ok(pidfd)) => pidfd,
        _ => open(Path::new("/dev/null"), OFlags::RDONLY)?,
    };
    Ok(Made {
        pid: number,
        pidfd,
        ends,
    })
}

fn command((binary, namespace): (&Path, &str), id: &str, bundle: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // There is no containerd: events lead nowhere, the answers to waits say the same.
    // Shims may put their sockets beside that address, so it is a short one: below the engine's run directory.
    let nowhere = bundle.ancestors().nth(3).unwrap_or(bundle).join("no-containerd");
    command.env("TTRPC_ADDRESS", nowhere.with_extension("ttrpc"));
    command.args([
        "-namespace",
        namespace,
        "-id",
        id,
        "-publish-binary",
        "/bin/true",
        "-address",
    ]);
    command
        .arg(nowhere)
        .current_dir(bundle)
        .stdin(std::process::Stdio::null());
    command
}

fn start_shim(shim: ShimPlan<'_>, id: &str, bundle: &Path) -> Result<TaskClient, Fault> {
    // Our own descriptors, the lock that says that we live among them, are not the shim's.
    wharf_sys::fd::set_cloexec_from(3).map_err(|errno| system("keep descriptors", errno))?;
    let output = command((shim.0, shim.1), id, bundle).arg("start").output();
    let output = output.map_err(|error| fault(&format!("run {}", shim.0.display()), &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
        return Err(unusable(format!(
            "{} start: {}: {said}",
            shim.0.display(),
            output.status
        )));
    }
    TaskClient::connect(&String::from_utf8_lossy(&output.stdout))
}

/// The options' message: runc's shim has one of its own, all others share one.
fn options_of((binary, _, options): ShimPlan<'_>, place: &Path) -> Result<Option<Any>, Fault> {
    let text = |key: &str| options.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |key: &str| options.get(key).and_then(Value::as_bool).unwrap_or(false);
    let is_runc = binary.file_name().is_some_and(|name| name == "containerd-shim-runc-v2");
    if is_runc {
        let root = Some(text("Root")).filter(|root| !root.is_empty());
        let message = RuncOptions {
            binary_name: text("BinaryName"),
            // Its states go with our directory.
            root: root.unwrap_or_else(|| place.join("states").to_string_lossy().into_owned()),
            systemd_cgroup: flag("SystemdCgroup"),
            no_pivot_root: flag("NoPivotRoot"),
            no_new_keyring: flag("NoNewKeyring"),
            shim_cgroup: text("ShimCgroup"),
            ..RuncOptions::default()
        };
        return Ok(Some(Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: message.encode(),
        }));
    }
    if options.is_empty() {
        return Ok(None);
    }
    let message = GenericOptions {
        type_url: text("TypeUrl"),
        config_path: text("ConfigPath"),
        config_body: text("ConfigBody").into_bytes(),
    };
    Ok(Some(Any {
        type_url: "runtimeoptions.v1.Options".to_owned(),
        value: message.encode(),
    }))
}

/// A value of the runtime specification, as JSON under its Go name.
fn as_any(name: &str, value: &Value) -> Any {
    Any {
        type_url: format!("types.containerd.io/opencontainers/runtime-spec/1/{name}"),
        value: value.to_string().into_bytes(),
    }
}

/// Limits as the runtime specification spells them; what is not asked for is left out.
fn spell(limits: &wharf_cgroup::Resources) -> Value {
    let mut all = json!({
        "memory": {
            "limit": limits.memory.limit,
            "reservation": limits.memory.reservation,
            "swap": limits.memory.swap,
        },
        "cpu": {
            "shares": limits.cpu.shares,
            "quota": limits.cpu.quota_us,
            "period": limits.cpu.period_us,
            "cpus": limits.cpuset.cpus,
            "mems": limits.cpuset.mems,
        },
        "blockIO": { "weight": limits.io.weight },
        "pids": { "limit": limits.pids_limit },
    });
    for group in all.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(group) = group.as_object_mut() {
            group.retain(|_, value| !value.is_null());
        }
    }
    if let Some(all) = all.as_object_mut() {
        all.retain(|_, group| group.as_object().is_some_and(|group| !group.is_empty()));
    }
    all
}

/// The root first: nothing is deleted below one that is still mounted.
fn remove_bundle(place: &Path) {
    foreign_bundle::remove(place);
    let bundle = place.join("bundle");
    if !bundle.join("rootfs").exists() {
        let _ = std::fs::remove_dir_all(&bundle);
        let _ = std::fs::remove_dir_all(place.join("states"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_that_are_asked_for_are_spelt() {
        let mut limits = wharf_cgroup::Resources::default();
        assert_eq!(spell(&limits), json!({}));
        limits.memory.limit = Some(64);
        limits.pids_limit = Some(-1);
        assert_eq!(spell(&limits), json!({"memory": {"limit": 64}, "pids": {"limit": -1}}));
    }

    #[test]
    fn a_status_above_128_is_a_signal() {
        assert_eq!(Ended::of_status(137), Ended::KILLED);
        assert_eq!(Ended::of_status(3), Ended { code: 3, signal: None });
        assert_eq!(Ended::of_status(255).signal, None);
    }
}
