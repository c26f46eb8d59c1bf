//! Clients: how they come, what they send, how they go.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

use super::client::{AttachFacts, Client, ClientPhase, Typed};
use super::reactor::{Interest, Ready, Token};
use super::shim::{FIRST, Shim, Timer};
use crate::plan::AttachSpec;
use crate::protocol::{Event, Phase};

/// How long a client that was told the end may take to end its side.
const LINGER: Duration = Duration::from_secs(2);

impl Shim {
    /// Joins a client to a process.
    pub(super) fn attach(&mut self, process: u32, spec: &AttachSpec, fd: OwnedFd) -> Result<(), Errno> {
        let Some(target) = self.processes.get(&process) else {
            return Err(Errno::SRCH);
        };
        let facts = AttachFacts {
            is_terminal: target.plan.terminal,
            is_before_start: process != FIRST || self.phase == Phase::Created,
        };
        let number = self.take_number();
        let mut client = Client::new(fd, process, spec, facts);
        client.flush();
        match self
            .reactor
            .add(client.fd(), Token::Client(number), Interest::default())
        {
            Ok(()) => client.interest = Some(Interest::default()),
            // A regular file is always ready.
            Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        self.clients.insert(number, client);
        if !spec.early_stdin.is_empty() && spec.stdin {
            self.feed(process, &spec.early_stdin);
        }
        Ok(())
    }

    pub(super) fn on_client(&mut self, number: u32, ready: Ready) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        if ready.writable {
            client.flush();
        }
        let phase = client.phase;
        match phase {
            ClientPhase::Open if ready.readable && !client.input_ended => {
                let typed = client.read();
                self.on_typed(number, typed);
            }
            ClientPhase::Lingering if ready.hung_up || (ready.readable && client.discard()) => {
                client.phase = ClientPhase::Gone;
            }
            _ if ready.hung_up && !ready.readable => self.on_hang_up(number),
            _ => {}
        }
    }

    /// Passes typed bytes on, and acts on the end of typing.
    fn on_typed(&mut self, number: u32, typed: Typed) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let (process, has_ended) = (client.process, client.input_ended);
        if !typed.bytes.is_empty() {
            self.feed(process, &typed.bytes);
        }
        if typed.detached {
            self.detach(number);
        } else if has_ended {
            self.on_input_ended(number);
        }
    }

    /// COMPAT: the end of a client's input closes the process's where that was asked for; in all
    /// other cases it ends the attachment (moby, container/stream/attach.go).
    fn on_input_ended(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let number_of_process = client.process;
        let Some(process) = self.processes.get(&number_of_process) else {
            return;
        };
        let closes = !process.is_container() || process.plan.stdin_once;
        if closes && !process.plan.terminal {
            self.close_input(number_of_process);
        } else {
            client.finish();
        }
    }

    /// The client has gone altogether. What it had typed before still reaches the process.
    fn on_hang_up(&mut self, number: u32) {
        while let Some(client) = self.clients.get_mut(&number).filter(|client| !client.input_ended) {
            let process = client.process;
            let typed = client.read();
            let has_more = !typed.bytes.is_empty() && !typed.detached;
            self.feed(process, &typed.bytes);
            if !has_more {
                self.end_input_of(number);
                break;
            }
        }
        if let Some(client) = self.clients.get_mut(&number) {
            client.phase = ClientPhase::Gone;
        }
    }

    /// Ends the input of the process of a client that will not type any more, where that is asked for.
    fn end_input_of(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        client.input_ended = true;
        let process = client.process;
        if self
            .processes
            .get(&process)
            .is_some_and(|p| !p.is_container() || p.plan.stdin_once)
        {
            self.close_input(process);
        }
    }

    fn detach(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        client.finish();
        let exec = self
            .processes
            .get(&client.process)
            .and_then(|process| process.exec.clone());
        self.announce(&Event::Detached { exec });
    }

    /// Ends every client of a process: they get what they are owed and then the end.
    pub(super) fn finish_clients(&mut self, process: u32) {
        for client in self.clients.values_mut().filter(|client| client.process == process) {
            client.finish();
        }
    }

    /// Removes clients that have gone, lets their processes go on, and waits for the others.
    pub(super) fn tidy_clients(&mut self) {
        let numbers: Vec<u32> = self.clients.keys().copied().collect();
        for number in numbers {
            self.tidy_client(number);
        }
        let held_up: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, p)| p.is_held_up)
            .map(|(number, _)| *number)
            .collect();
        for process in held_up {
            let is_slow = |client: &Client| client.process == process && client.holds_up(true);
            let waits_for_log = process == FIRST && self.logs.hold_up(true);
            if !waits_for_log && !self.clients.values().any(is_slow) {
                self.hold_up(process, false);
            }
        }
    }

    fn tidy_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        if client.interest.is_none() {
            client.flush();
        }
        if client.phase == ClientPhase::Gone {
            self.reactor.remove(client.fd());
            self.clients.remove(&number);
            return;
        }
        let takes_input = self
            .processes
            .get(&client.process)
            .is_some_and(|process| process.input.has_room());
        let wanted = client.wanted_interest(takes_input);
        let Some(present) = client.interest else { return };
        if present != wanted && self.reactor.change(client.fd(), Token::Client(number), wanted).is_ok() {
            client.interest = Some(wanted);
        }
        let is_lingering = client.phase == ClientPhase::Lingering;
        if is_lingering && !self.timers.iter().any(|(_, timer)| *timer == Timer::Linger(number)) {
            self.after(LINGER, Timer::Linger(number));
        }
    }
}
