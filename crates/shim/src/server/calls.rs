//! What engines ask for.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use wharf_sys::failpoint;

use super::container::{Made, fault, system};
use super::process::{Process, now_ns, start_ticks};
use super::reactor::Ready;
use super::shim::{FIRST, Shim, Timer};
use crate::identity::is_exec_id;
use crate::plan::{AttachSpec, ConsoleSize, ExecPlan, StdioPlan};
use crate::protocol::{
    Call, Envelope, ExecState, Fault, FaultKind, Outcome, PROTOCOL_VERSION, Phase, Reply, Request, Response, State,
};
use crate::wire;

const SIGKILL: i32 = 9;

/// How long a shim that is done outlives its container for a client that does not read.
const END: Duration = Duration::from_secs(60);

/// How long it does so for a log target that has not got everything.
const LAST_WORDS: Duration = Duration::from_secs(3);

impl Shim {
    pub(super) fn on_connection(&mut self, number: u32, ready: Ready) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if ready.writable {
            connection.flush();
        }
        if ready.readable || ready.hung_up {
            connection.receive();
        }
        while let Some(message) = self.next_message(number) {
            self.on_message(number, &message);
        }
    }

    fn next_message(&mut self, number: u32) -> Option<Vec<u8>> {
        let connection = self.connections.get_mut(&number)?;
        connection.next_message().unwrap_or_else(|_| {
            connection.is_gone = true;
            None
        })
    }

    /// Answers one request. What is no request at all ends the connection.
    fn on_message(&mut self, number: u32, message: &[u8]) {
        self.trim_later();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let envelope = wire::decode::<Envelope>(message);
        let fds = envelope
            .as_ref()
            .ok()
            .and_then(|envelope| connection.take_fds(usize::try_from(envelope.fds).ok()?));
        let (Ok(envelope), Some(fds)) = (envelope, fds) else {
            connection.is_gone = true;
            return;
        };
        let outcome = match wire::decode::<Request>(message) {
            Ok(request) => self.answer(request.call, fds),
            Err(error) => Err(unsupported(&error)),
        };
        let outcome = outcome.map_or_else(Outcome::Err, Outcome::Ok);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.send(&Response {
                id: envelope.id,
                outcome,
            });
        }
    }

    fn answer(&mut self, call: Call, fds: Vec<OwnedFd>) -> Result<Reply, Fault> {
        match call {
            Call::Launch { .. } => Err(conflict("this shim has a container already")),
            Call::State => Ok(Reply::State(Box::new(self.state()))),
            Call::Start => self.start(),
            Call::Kill { exec, signal, all } => self.kill(exec.as_deref(), signal, all),
            Call::Attach { exec, spec } => self.attach_call(exec.as_deref(), &spec, fds),
            Call::Resize { exec, size } => self.resize(exec.as_deref(), size),
            Call::CloseStdin { exec } => {
                let number = self.find(exec.as_deref())?;
                self.close_input(number);
                Ok(Reply::Done)
            }
            Call::Exec { plan, attaches } => self.exec(&plan, &attaches, fds),
            Call::Pause => self.pause(),
            Call::Resume => self.resume(),
            Call::Update { resources } => self.container.update(&resources).map(|()| Reply::Done),
            Call::RotateLog => {
                self.logs.rotate();
                Ok(Reply::Done)
            }
            Call::AcknowledgeExec { exec } => self.acknowledge_exec(&exec),
            Call::Shutdown { force } => self.shutdown(force),
        }
    }

    /// How things stand.
    pub(super) fn state(&self) -> State {
        let first = self.processes.get(&FIRST);
        let exit = first.and_then(|first| first.exit.clone());
        let exec_state = |process: &Process| {
            let (id, exit) = (process.exec.clone()?, process.exit.clone());
            Some(ExecState {
                id,
                pid: process.pid.cast_unsigned(),
                exit,
                note: process.note.clone(),
            })
        };
        State {
            protocol: PROTOCOL_VERSION,
            id: self.id.clone(),
            phase: self.phase,
            pid: first
                .filter(|_| exit.is_none())
                .map_or(0, |first| first.pid.cast_unsigned()),
            start_ticks: first.map_or(0, |first| first.start_ticks),
            started_at_ns: first.map_or(0, |first| first.started_at_ns),
            shim_pid: rustix::process::getpid().as_raw_nonzero().get().cast_unsigned(),
            exit,
            oom_killed: self.oom_killed,
            execs: self.processes.values().filter_map(exec_state).collect(),
            attached: u32::try_from(self.clients.len()).unwrap_or(u32::MAX),
            log_dropped: self.logs.dropped(),
            log_error: self.logs.error(),
        }
    }

    /// After a failure init has ended, which is reported like any other end.
    fn start(&mut self) -> Result<Reply, Fault> {
        if self.phase != Phase::Created {
            return Err(conflict("container was started already"));
        }
        let at_ns = now_ns();
        if let Some(first) = self.processes.get_mut(&FIRST) {
            first.started_at_ns = at_ns;
        }
        self.container.start()?;
        failpoint::reach("shim/started");
        self.phase = Phase::Running;
        self.watch_memory();
        Ok(self.started(FIRST))
    }

    fn started(&self, number: u32) -> Reply {
        self.processes
            .get(&number)
            .map_or(Reply::Done, |process| Reply::Started {
                pid: process.pid.cast_unsigned(),
                start_ticks: process.start_ticks,
                at_ns: process.started_at_ns,
            })
    }

    /// The number of an exec, or of the container.
    pub(super) fn find(&self, exec: Option<&str>) -> Result<u32, Fault> {
        let Some(exec) = exec else { return Ok(FIRST) };
        let found = self
            .processes
            .iter()
            .find(|(_, process)| process.exec.as_deref() == Some(exec));
        found.map(|(number, _)| *number).ok_or_else(|| Fault {
            kind: FaultKind::NotFound,
            message: format!("no such exec: {exec}"),
            ..Fault::default()
        })
    }

    /// The process behind a number, if it has not ended.
    fn living(&self, number: u32) -> Result<&Process, Fault> {
        let living = self.processes.get(&number).filter(|process| process.exit.is_none());
        living.ok_or_else(|| conflict("process has ended"))
    }

    fn kill(&mut self, exec: Option<&str>, signal: i32, all: bool) -> Result<Reply, Fault> {
        let number = self.find(exec)?;
        self.living(number)?;
        if let Some(shim) = self.container.shim() {
            shim.kill(exec, signal, all)?;
            return self.thaw_killed(signal);
        }
        let process = self.living(number)?;
        let sent = wharf_sys::signal::send(&process.pidfd, signal);
        match sent {
            Ok(()) => {}
            Err(Errno::SRCH) => return Err(conflict("process has ended")),
            Err(errno) => return Err(system(&format!("send signal {signal}"), errno)),
        }
        if all && exec.is_none() {
            self.container.signal_all(signal)?;
        }
        self.thaw_killed(signal)
    }

    /// COMPAT: a frozen process does not even die; Docker thaws a container it kills.
    fn thaw_killed(&mut self, signal: i32) -> Result<Reply, Fault> {
        if signal == SIGKILL && self.phase == Phase::Paused {
            self.resume()?;
        }
        Ok(Reply::Done)
    }

    fn attach_call(&mut self, exec: Option<&str>, spec: &AttachSpec, fds: Vec<OwnedFd>) -> Result<Reply, Fault> {
        let number = self.find(exec)?;
        self.living(number)?;
        let [fd] = one_of(fds)?;
        self.attach(number, spec, fd)
            .map_err(|errno| system("attach the client", errno))?;
        Ok(Reply::Done)
    }

    fn resize(&mut self, exec: Option<&str>, size: ConsoleSize) -> Result<Reply, Fault> {
        let number = self.find(exec)?;
        let process = self.living(number)?;
        if process.plan.terminal
            && let Some(shim) = self.container.shim()
        {
            return shim.resize(exec, size).map(|()| Reply::Done);
        }
        let process = self.living(number)?;
        process.resize(size).map_err(|errno| match errno {
            Errno::NOTTY => conflict("process has no terminal"),
            errno => system("resize the terminal", errno),
        })?;
        Ok(Reply::Done)
    }

    fn exec(&mut self, plan: &ExecPlan, attaches: &[AttachSpec], fds: Vec<OwnedFd>) -> Result<Reply, Fault> {
        if self.phase != Phase::Running {
            return Err(conflict("container is not running"));
        }
        if !is_exec_id(&plan.id) || self.find(Some(&plan.id)).is_ok() {
            return Err(conflict(&format!("exec id {:?} is invalid or in use", plan.id)));
        }
        if attaches.len() != fds.len() {
            return Err(invalid("as many descriptors as clients are needed"));
        }
        self.living(FIRST)?;
        let started_at_ns = now_ns();
        let Some(first) = self.processes.get(&FIRST) else {
            return Err(conflict("process has ended"));
        };
        let made = self.container.exec(plan, (first.pid, &first.pidfd))?;
        failpoint::reach("shim/exec/started");
        let number = self.take_number();
        let process = Process {
            note: plan.note.clone(),
            ..process_of(made, Some(plan.id.clone()), plan.stdio, started_at_ns)
        };
        self.watch_process(number, process)
            .map_err(|errno| system("watch the exec", errno))?;
        for (spec, fd) in attaches.iter().zip(fds) {
            self.attach(number, spec, fd)
                .map_err(|errno| system("attach the client", errno))?;
        }
        let reply = self.started(number);
        self.reap();
        Ok(reply)
    }

    fn pause(&mut self) -> Result<Reply, Fault> {
        if self.phase != Phase::Running {
            return Err(conflict("container is not running"));
        }
        self.container.pause()?;
        self.phase = Phase::Paused;
        Ok(Reply::Done)
    }

    fn resume(&mut self) -> Result<Reply, Fault> {
        if self.phase != Phase::Paused {
            return Err(conflict("container is not paused"));
        }
        self.container.resume()?;
        self.phase = Phase::Running;
        Ok(Reply::Done)
    }

    fn acknowledge_exec(&mut self, exec: &str) -> Result<Reply, Fault> {
        let number = self.find(Some(exec))?;
        let process = self.processes.get_mut(&number).filter(|process| process.exit.is_some());
        let Some(process) = process else {
            return Err(conflict("exec has not ended"));
        };
        process.is_acknowledged = true;
        self.release(number);
        Ok(Reply::Done)
    }

    fn shutdown(&mut self, force: bool) -> Result<Reply, Fault> {
        if self.phase != Phase::Exited && !force {
            return Err(conflict("container has not ended"));
        }
        self.end();
        Ok(Reply::Done)
    }

    /// Ends the container and, once its clients have what is theirs, the shim.
    pub(super) fn end(&mut self) {
        self.destroy();
        self.home.remove_all();
        self.is_ending = true;
        self.after(END, Timer::End);
        self.after(LAST_WORDS, Timer::GiveUpLog);
    }
}

/// A new process and our ends of its streams.
pub(super) fn process_of(made: Made, exec: Option<String>, plan: StdioPlan, started_at_ns: i64) -> Process {
    Process {
        exec,
        pid: made.pid,
        pidfd: made.pidfd,
        start_ticks: start_ticks(made.pid),
        started_at_ns,
        plan,
        outputs: made.ends.outputs,
        input: made.ends.input,
        terminal: made.ends.terminal,
        note: None,
        exit: None,
        is_released: false,
        is_acknowledged: false,
        is_held_up: false,
    }
}

fn one_of(fds: Vec<OwnedFd>) -> Result<[OwnedFd; 1], Fault> {
    <[OwnedFd; 1]>::try_from(fds).map_err(|_| invalid("exactly one descriptor is needed"))
}

fn conflict(message: &str) -> Fault {
    Fault {
        kind: FaultKind::Conflict,
        message: message.to_owned(),
        ..Fault::default()
    }
}

fn invalid(message: &str) -> Fault {
    Fault {
        kind: FaultKind::Invalid,
        message: message.to_owned(),
        ..Fault::default()
    }
}

fn unsupported(error: &wire::WireError) -> Fault {
    let source = std::error::Error::source(error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    let fault = fault(
        "understand the request",
        &std::io::Error::other(format!("{error}{source}")),
    );
    Fault {
        kind: FaultKind::Unsupported,
        ..fault
    }
}
