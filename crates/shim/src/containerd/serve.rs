//! The shim's process: the loop, and what ends.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, WaitStatus, wait};
use wharf_sys::signal::SignalSet;
use wharf_sys::timeout::in_milliseconds;

use super::console::Console;
use super::container::{Container, Exit, Process, Waiter, now_ns};
use super::publish::Publisher;
use crate::task_api::connection::Connection;
use crate::task_api::envelope::answer;
use crate::task_api::frame::REQUEST;
use crate::task_api::messages::{TaskExit, TaskOnly, Timestamp, WaitResponse};
use crate::task_api::proto::Message as _;

/// Hangup, interrupt, quit, user 1 and 2, pipe, termination; and the end of a child.
const SIGNALS: [i32; 8] = [1, 2, 3, 10, 12, 13, 15, 17];

/// How long the last events may take once the shim is asked to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Memory that the last answers needed is given back after this time without a call.
const TRIM: Duration = Duration::from_millis(500);

/// Who this shim is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) namespace: String,
    /// containerd's socket for events.
    pub(super) events: PathBuf,
    /// Where the shim itself listens.
    pub(super) socket: PathBuf,
}

/// Everything a shim knows.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) publisher: Publisher,
    signals: OwnedFd,
    listener: OwnedFd,
    connections: BTreeMap<u32, Connection>,
    next_number: u32,
    /// Asked to end; by then at the latest.
    ends_at: Option<Instant>,
    trims_at: Option<Instant>,
    /// Of processes that were deleted before their client had read everything.
    parting: Vec<Console>,
}

/// What a descriptor belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Publisher,
    Connection(u32),
    Console(String, String),
    Parting,
    OutOfMemory(String),
}

/// Serves until asked to end; the exit code.
pub(super) fn serve(identity: Identity, listener: OwnedFd, bundle: &Path) -> i32 {
    let socket = identity.socket.clone();
    let code = match settle_in(bundle, &listener).and_then(|signals| Server::new(identity, signals, listener).run()) {
        Ok(()) => 0,
        Err(errno) => {
            eprintln!("shim ends: {errno}");
            1
        }
    };
    let _ = std::fs::remove_file(socket);
    code
}

/// A session of its own, orphans of containers, no streams of containerd's but its log.
fn settle_in(bundle: &Path, listener: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    // Of what was inherited only the listener is ours; the lock of the start above all is not.
    wharf_sys::fd::close_from(3, &[listener.as_fd()])?;
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::thread::set_name(c"containerd-shim")?;
    let set = SignalSet::of(&SIGNALS);
    wharf_sys::signal::block(set)?;
    let signals = wharf_sys::signal::open_signalfd(set)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // A fifo that containerd reads; without a reader there is no log.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = rustix::fs::open(bundle.join("log"), flags, Mode::empty());
    // ORDER: the caller reads standard output to its end, which comes with the last copy of it.
    wharf_sys::fd::place(&null, 0)?;
    wharf_sys::fd::place(&null, 1)?;
    wharf_sys::fd::place(log.as_ref().unwrap_or(&null), 2)?;
    rustix::process::chdir("/")?;
    Ok(signals)
}

impl Server {
    fn new(identity: Identity, signals: OwnedFd, listener: OwnedFd) -> Self {
        Self {
            containers: BTreeMap::new(),
            publisher: Publisher::new(identity.events, identity.namespace),
            signals,
            listener,
            connections: BTreeMap::new(),
            next_number: 0,
            ends_at: None,
            trims_at: None,
            parting: Vec::new(),
        }
    }

    fn run(mut self) -> rustix::io::Result<()> {
        while !self.is_over() {
            for source in self.wait()? {
                self.dispatch(source);
            }
            self.publisher.advance();
            self.tidy();
        }
        Ok(())
    }

    /// The farewell is said, or nobody listens; and clients have what deleted processes wrote, or had their time.
    fn is_over(&self) -> bool {
        let is_said = |at| self.publisher.is_idle() || Instant::now() >= at;
        self.parting.is_empty() && self.ends_at.is_some_and(is_said)
    }

    /// Keeps what a client has not read yet of a process that is deleted: it reads on to the end.
    pub(super) fn part(&mut self, process: &mut Process) {
        if let Some(mut console) = process.console.take() {
            console.finish(); // at the latest now
            self.parting.push(console);
        }
    }

    /// Ends as soon as the events are out.
    pub(super) fn end(&mut self) {
        self.ends_at.get_or_insert(Instant::now() + FAREWELL);
    }

    fn wait(&mut self) -> rustix::io::Result<Vec<Source>> {
        let (sources, fds) = self.interests();
        let mut fds: Vec<PollFd<'_>> = fds
            .iter()
            .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let timeout = self
            .deadline()
            .map(|at| in_milliseconds(at.saturating_duration_since(Instant::now())));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut ready: Vec<Source> = sources
            .into_iter()
            .zip(is_ready)
            .filter_map(|(source, is_ready)| is_ready.then_some(source))
            .collect();
        ready.dedup();
        Ok(ready)
    }

    fn interests(&self) -> (Vec<Source>, Vec<(BorrowedFd<'_>, PollFlags)>) {
        let mut all = vec![
            (Source::Signals, (self.signals.as_fd(), PollFlags::IN)),
            (Source::Listener, (self.listener.as_fd(), PollFlags::IN)),
        ];
        if let Some(connection) = self.publisher.connection() {
            all.push((Source::Publisher, (connection.fd(), connection.interest())));
        }
        for (number, connection) in &self.connections {
            all.push((Source::Connection(*number), (connection.fd(), connection.interest())));
        }
        for container in self.containers.values() {
            if let Some(oom) = &container.oom {
                all.push((Source::OutOfMemory(container.id.clone()), (oom.as_fd(), PollFlags::IN)));
            }
            for process in container.execs.values().chain([&container.init]) {
                let source = || Source::Console(container.id.clone(), process.exec_id.clone());
                let interests = process.console.iter().flat_map(|console| console.interests());
                all.extend(interests.map(|interest| (source(), interest)));
            }
        }
        let parting = self.parting.iter().flat_map(Console::interests);
        all.extend(parting.map(|interest| (Source::Parting, interest)));
        all.into_iter().unzip()
    }

    fn deadline(&self) -> Option<Instant> {
        let consoles = self.containers.values().flat_map(|container| {
            let processes = container.execs.values().chain([&container.init]);
            processes.filter_map(|process| process.console.as_ref()?.ends_at())
        });
        let parting = self.parting.iter().filter_map(Console::ends_at);
        let own = [self.ends_at, self.trims_at, self.publisher.deadline()];
        consoles.chain(parting).chain(own.into_iter().flatten()).min()
    }

    fn dispatch(&mut self, source: Source) {
        match source {
            Source::Signals => self.on_signals(),
            Source::Listener => self.on_listener(),
            Source::Publisher => self.publisher.on_ready(),
            Source::Connection(number) => self.on_connection(number),
            Source::OutOfMemory(id) => self.on_out_of_memory(&id),
            Source::Parting => self.parting.iter_mut().for_each(Console::pump),
            Source::Console(id, exec_id) => {
                let process = self.containers.get_mut(&id).and_then(|c| c.process_mut(&exec_id).ok());
                if let Some(console) = process.and_then(|process| process.console.as_mut()) {
                    console.pump();
                }
            }
        }
    }

    fn on_listener(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            self.next_number += 1;
            self.connections.insert(self.next_number, Connection::new(socket));
        }
    }

    fn on_connection(&mut self, number: u32) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        connection.flush();
        for frame in connection.receive() {
            if frame.kind == REQUEST {
                self.on_request((number, frame.stream), &frame.data);
            }
        }
        self.trims_at = Some(Instant::now() + TRIM);
    }

    /// Sends the answer to a call.
    pub(super) fn answer(&mut self, (number, stream): Waiter, outcome: super::task::Outcome) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.send(&answer(stream, outcome));
        }
    }

    /// Whoever asks the shim to end means it: only containerd's requests end containers.
    fn on_signals(&mut self) {
        while let Ok(Some(_)) = wharf_sys::signal::read_signalfd(&self.signals) {}
        self.reap();
    }

    /// Collects every child that has ended, orphans of containers included; those that end a container last.
    pub(super) fn reap(&mut self) {
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            ended.push((pid.as_raw_nonzero().get(), exit_of(status)));
        }
        let mut last = Vec::new();
        for (pid, exit) in ended {
            match self.find(pid) {
                Some((id, exec_id)) if exec_id.is_empty() => last.push((id, exit)),
                Some((id, exec_id)) => self.on_exit(&id, &exec_id, exit),
                None => {}
            }
        }
        for (id, exit) in last {
            self.notice_oom(&id);
            if let Some(container) = self.containers.get(&id) {
                container.kill_rest();
            }
            self.on_exit(&id, "", exit);
        }
    }

    fn find(&self, pid: i32) -> Option<(String, String)> {
        self.containers.values().find_map(|container| {
            let mut processes = container.execs.values().chain([&container.init]);
            let found = processes.find(|process| process.pid == pid && process.exit.is_none())?;
            Some((container.id.clone(), found.exec_id.clone()))
        })
    }

    fn on_exit(&mut self, id: &str, exec_id: &str, exit: Exit) {
        let Some(process) = self.containers.get_mut(id).and_then(|c| c.process_mut(exec_id).ok()) else {
            return;
        };
        process.end(exit);
        let waiters = std::mem::take(&mut process.waiters);
        let exited_at = Some(Timestamp::from_ns(exit.at_ns));
        let event = TaskExit {
            container_id: id.to_owned(),
            // The first process is called by its container's name here.
            id: if exec_id.is_empty() { id } else { exec_id }.to_owned(),
            pid: process.pid.cast_unsigned(),
            exit_status: exit.status,
            exited_at: exited_at.clone(),
        };
        self.publisher.publish("/tasks/exit", "TaskExit", &event);
        let response = WaitResponse {
            exit_status: exit.status,
            exited_at,
        };
        for waiter in waiters {
            self.answer(waiter, Ok(response.encode()));
        }
    }

    fn on_out_of_memory(&mut self, id: &str) {
        if let Some(watch) = self.containers.get(id).and_then(|container| container.oom.as_ref()) {
            watch.drain();
        }
        self.notice_oom(id);
    }

    fn notice_oom(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let kills = container
            .cgroup()
            .ok()
            .and_then(|cgroup| cgroup.oom_kills().ok())
            .unwrap_or(0);
        if kills > container.oom_kills {
            container.oom_kills = kills;
            let event = TaskOnly {
                container_id: id.to_owned(),
            };
            self.publisher.publish("/tasks/oom", "TaskOOM", &event);
        }
    }

    /// Forgets what is over.
    fn tidy(&mut self) {
        self.connections.retain(|_, connection| !connection.is_gone);
        for process in self.containers.values_mut().flat_map(Container::processes_mut) {
            if process.console.as_ref().is_some_and(Console::is_over) {
                process.console = None;
            }
        }
        self.parting.retain(|console| !console.is_over());
        if self.trims_at.is_some_and(|at| Instant::now() >= at) {
            self.trims_at = None;
            wharf_sys::memory::trim();
            wharf_sys::memory::forget_program();
        }
    }
}

/// COMPAT: a process killed by a signal has exit status 128 + signal.
fn exit_of(status: WaitStatus) -> Exit {
    let code = match status.terminating_signal() {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or(255),
    };
    Exit {
        status: u32::try_from(code).unwrap_or(255),
        at_ns: now_ns(),
    }
}
