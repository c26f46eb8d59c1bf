//! The state of a shim and its loop.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use wharf_cgroup::OomWatch;

use super::client::{Client, ClientPhase};
use super::connection::Connection;
use super::container::Container;
use super::home::Home;
use super::logs::Logs;
use super::pace::Pace;
use super::process::Process;
use super::reactor::{Interest, Reactor, Ready, Token};
use super::view::View;
use crate::protocol::{Event, Phase};

/// Number of the container's first process among the processes.
pub(super) const FIRST: u32 = 0;

/// Everything a shim knows.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) id: String,
    pub(super) home: Home,
    pub(super) reactor: Reactor,
    pub(super) signals: OwnedFd,
    pub(super) listener: OwnedFd,
    pub(super) container: Container,
    pub(super) phase: Phase,
    pub(super) logs: Logs,
    pub(super) oom: Option<OomWatch>,
    pub(super) oom_killed: bool,
    pub(super) view: Option<View>,
    pub(super) connections: BTreeMap<u32, Connection>,
    pub(super) clients: BTreeMap<u32, Client>,
    pub(super) processes: BTreeMap<u32, Process>,
    pub(super) timers: Vec<(Instant, Timer)>,
    pub(super) next_number: u32,
    /// Of outputs that never end.
    pub(super) pace: Pace,
    /// Takes what is read from an output: empty before the first, then kept, as clearing it would take longer than a line.
    pub(super) chunk: Vec<u8>,
    /// The exit was taken: end as soon as the clients have got everything.
    pub(super) is_ending: bool,
}

/// Something to be done later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A client had time enough to end its side.
    Linger(u32),
    /// The outputs of an exec that has ended are not waited for any longer.
    Silence(u32),
    /// The engine had time enough to take the exit of an exec.
    Release(u32),
    /// Memory that was needed for the start or for an answer is given back.
    Trim,
    /// The last output of a container of another's shim was waited for.
    LastWords,
    /// Clients had time enough to take what an ended container owes them.
    End,
    /// The log's target had time enough to take what an ended container wrote.
    GiveUpLog,
}

impl Shim {
    /// A number for something new; never used again.
    pub(super) fn take_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// Runs until the exit was taken.
    pub(super) fn run(&mut self) -> Result<(), Errno> {
        self.trim_later();
        while !self.is_over() {
            let timers = self.timers.iter().map(|(at, _)| *at);
            let next = timers.chain(self.logs.deadline()).min();
            let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
            for ready in self.reactor.wait(timeout)? {
                self.dispatch(ready);
            }
            self.fire_timers();
            self.on_foreign_ends();
            self.logs.on_time();
            self.tidy();
            self.end_if_abandoned();
        }
        Ok(())
    }

    /// A container that was never started ends with the engine that made it: nobody was told of it, and the next
    /// engine takes its start back.
    fn end_if_abandoned(&mut self) {
        if self.phase == Phase::Created && self.connections.is_empty() && !self.is_ending {
            self.end();
        }
    }

    /// Over once acknowledged and nobody is owed anything.
    fn is_over(&self) -> bool {
        self.is_ending
            && self.clients.is_empty()
            && self.logs.is_done()
            && self.connections.values().all(|c| !c.wanted_interest().write)
    }

    fn dispatch(&mut self, ready: Ready) {
        match ready.token {
            Token::Signals => self.on_signals(),
            Token::Listener => self.on_listener(),
            Token::OutOfMemory => self.on_out_of_memory(),
            Token::Connection(number) => self.on_connection(number, ready),
            Token::Output(number, index) => self.on_output(number, usize::from(index)),
            Token::Input(number) => self.on_input(number),
            Token::Client(number) => self.on_client(number, ready),
            Token::View(index) => self.on_view(index),
            // Looked at in any case: a call may have read what came.
            Token::ForeignShim => {}
            Token::Target(number) => self.logs.on_ready(number, ready),
        }
    }

    /// Tells every engine.
    pub(super) fn announce(&mut self, event: &Event) {
        for connection in self.connections.values_mut() {
            connection.send(event);
        }
    }

    /// Does something later.
    pub(super) fn after(&mut self, delay: Duration, timer: Timer) {
        self.timers.push((Instant::now() + delay, timer));
    }

    /// Gives memory back once the engine has stopped asking for things: what an answer needs, code
    /// included, is not needed for waiting.
    pub(super) fn trim_later(&mut self) {
        self.timers.retain(|(_, timer)| *timer != Timer::Trim);
        self.after(Duration::from_millis(500), Timer::Trim);
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        let due: Vec<Timer> = self
            .timers
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, timer)| *timer)
            .collect();
        self.timers.retain(|(at, _)| *at > now);
        for timer in due {
            match timer {
                Timer::Linger(number) => {
                    if let Some(client) = self.clients.get_mut(&number) {
                        client.phase = ClientPhase::Gone;
                    }
                }
                Timer::Silence(number) => self.silence(number),
                Timer::Release(number) => self.release(number),
                Timer::LastWords => {}
                Timer::End => self.clients.clear(),
                Timer::GiveUpLog => self.logs.give_up(),
                Timer::Trim => {
                    wharf_sys::memory::trim();
                    wharf_sys::memory::forget_program();
                }
            }
        }
    }

    /// Removes what has ended and tells the reactor what the rest waits for.
    pub(super) fn tidy(&mut self) {
        self.tidy_clients();
        self.tidy_inputs();
        self.logs.tidy(&self.reactor);
        let gone: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, c)| c.is_gone)
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let Some(connection) = self.connections.remove(&number) {
                self.reactor.remove(connection.fd());
            }
        }
        for (number, connection) in &mut self.connections {
            let wanted = connection.wanted_interest();
            if connection.interest != wanted
                && self
                    .reactor
                    .change(connection.fd(), Token::Connection(*number), wanted)
                    .is_ok()
            {
                connection.interest = wanted;
            }
        }
    }

    fn on_listener(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            // A connection that cannot be watched is closed; the engine tries again.
            let _ = self.adopt_connection(socket);
        }
    }

    /// Listens to an engine.
    pub(super) fn adopt_connection(&mut self, socket: OwnedFd) -> Result<(), Errno> {
        let number = self.take_number();
        let connection = Connection::new(socket)?;
        self.reactor
            .add(connection.fd(), Token::Connection(number), Interest::READ)?;
        self.connections.insert(number, connection);
        Ok(())
    }

    /// Watches the container's memory, where the cgroup offers it.
    pub(super) fn watch_memory(&mut self) {
        let Some(watch) = self.container.cgroup().and_then(|cgroup| cgroup.watch_oom().ok()) else {
            return;
        };
        if self.reactor.add(&watch, Token::OutOfMemory, Interest::READ).is_ok() {
            self.oom = Some(watch);
        }
    }

    /// Somebody in the container reads a file of the host's view.
    fn on_view(&mut self, index: u8) {
        let Some(view) = &mut self.view else { return };
        if !view.serve(index, self.container.cgroup())
            && let Some((_, device)) = view.devices().nth(usize::from(index))
        {
            self.reactor.remove(device);
        }
    }

    fn on_out_of_memory(&mut self) {
        if let Some(watch) = &self.oom {
            watch.drain();
        }
        self.notice_oom_kills();
    }

    /// Looks whether the cgroup ran out of memory, and says so once.
    pub(super) fn notice_oom_kills(&mut self) {
        let kills = self
            .container
            .cgroup()
            .and_then(|cgroup| cgroup.oom_kills().ok())
            .unwrap_or(0);
        if kills > 0 && !self.oom_killed {
            self.oom_killed = true;
            self.announce(&Event::OutOfMemory);
        }
    }

    /// The file descriptor of signals, to be registered once.
    pub(super) fn register(&self) -> Result<(), Errno> {
        self.reactor.add(self.signals.as_fd(), Token::Signals, Interest::READ)?;
        self.reactor.add(self.listener.as_fd(), Token::Listener, Interest::READ)
    }
}
