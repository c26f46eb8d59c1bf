//! Ends: of processes, of the container, of the shim.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use wharf_sys::failpoint;

use super::foreign_shim::{Ended, LAST_WORDS};
use super::process::Process;
use super::process::now_ns;
use super::shim::{FIRST, Shim, Timer};
use crate::protocol::{Event, ExitRecord, Phase};

/// How long the clients of an ended exec are held for the engine to take its exit code: a client
/// asks for the code as soon as its stream ends, and must not come too early.
const RELEASE: Duration = Duration::from_secs(1);

const SIGTERM: i32 = 15;

impl Shim {
    pub(super) fn on_signals(&mut self) {
        while let Ok(Some(signal)) = wharf_sys::signal::read_signalfd(&self.signals) {
            // A host that shuts down ends the container first; its end then ends the shim's work.
            if signal == SIGTERM {
                let _ = self.signal_first(SIGTERM);
            }
        }
        self.reap();
    }

    /// Collects every child that has ended, orphans of the container included. Execs are reported
    /// before the container, although the kernel may tell of it first.
    pub(super) fn reap(&mut self) {
        let mut container = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let number = self.number_of(pid);
            match number {
                Some(FIRST) => container = Some(status),
                Some(number) => self.on_exec_ended(number, ended_of(status)),
                None => self.logs.on_child(pid, status),
            }
        }
        if let Some(status) = container {
            self.on_container_ended(ended_of(status));
        }
    }

    /// Ends that another's shim has told of: those of execs at once, that of the container when its output has ended.
    pub(super) fn on_foreign_ends(&mut self) {
        for (exec, ended) in self.container.take_ended_execs() {
            if let Ok(number) = self.find(Some(&exec)) {
                self.on_exec_ended(number, ended);
            }
        }
        let is_silent = self.processes.get(&FIRST).is_none_or(Process::is_silent);
        let is_exited = self.phase == Phase::Exited;
        let Some(shim) = self.container.shim().filter(|_| !is_exited) else {
            return;
        };
        let is_waiting = shim.has_ended();
        if let Some(ended) = shim.end(is_silent) {
            self.on_container_ended(ended);
        } else if is_waiting && !self.timers.iter().any(|(_, timer)| *timer == Timer::LastWords) {
            self.after(LAST_WORDS, Timer::LastWords);
        }
    }

    fn signal_first(&mut self, signal: i32) -> Result<(), rustix::io::Errno> {
        if let Some(shim) = self.container.shim() {
            return shim.kill(None, signal, false).map_err(|_| rustix::io::Errno::SRCH);
        }
        match self.processes.get(&FIRST) {
            Some(first) => wharf_sys::signal::send(&first.pidfd, signal),
            None => Err(rustix::io::Errno::SRCH),
        }
    }

    fn number_of(&self, pid: Pid) -> Option<u32> {
        let pid = pid.as_raw_nonzero().get();
        let found = self
            .processes
            .iter()
            .find(|(_, process)| process.pid == pid && process.exit.is_none());
        found.map(|(number, _)| *number)
    }

    pub(super) fn on_exec_ended(&mut self, number: u32, ended: Ended) {
        self.drain(number);
        let Some(process) = self.processes.get_mut(&number) else {
            return;
        };
        let record = exit_record(ended, process.started_at_ns);
        process.exit = Some(record.clone());
        let Some(exec) = process.exec.clone() else { return };
        failpoint::reach("shim/exec/ended");
        // Kept in memory alone: the next engine asks for it, and a shim that was killed took its execs along.
        self.announce(&Event::ExecExited { exec, exit: record });
        if self.connections.is_empty() {
            self.release(number);
        } else {
            self.after(RELEASE, Timer::Release(number));
        }
        self.await_silence(number);
        self.settle(number);
    }

    /// The exit of an exec was taken, or nobody is there to take it: its clients may hear the end.
    pub(super) fn release(&mut self, number: u32) {
        if let Some(process) = self.processes.get_mut(&number) {
            process.is_released = true;
            self.timers.retain(|(_, timer)| *timer != Timer::Release(number));
            self.settle(number);
        }
    }

    /// Ends the clients of an exec once it has ended, is silent and released, and forgets it once
    /// its exit was taken.
    pub(super) fn settle(&mut self, number: u32) {
        if number == FIRST {
            return;
        }
        let Some(process) = self.processes.get(&number) else {
            return;
        };
        let is_over = process.exit.is_some() && process.is_silent() && process.is_released;
        let is_acknowledged = process.is_acknowledged;
        if is_over {
            let exec = process.exec.clone().unwrap_or_default();
            if let Some(shim) = self.container.shim() {
                shim.forget_exec(&exec);
            }
            self.finish_clients(number);
            self.close_streams(number);
            if is_acknowledged {
                self.processes.remove(&number);
            }
        }
    }

    /// ORDER: what the container wrote is in the log before its end is known to anyone; its end is
    /// on disk before anything of it is removed; the cgroup is gone before the engine hears of the
    /// end, as it may start the container again at once.
    pub(super) fn on_container_ended(&mut self, ended: Ended) {
        failpoint::reach("shim/end/noticed");
        self.notice_oom_kills();
        self.container.kill_rest();
        self.drain(FIRST);
        self.close_streams(FIRST);
        self.logs.finish();
        let Some(first) = self.processes.get_mut(&FIRST) else {
            return;
        };
        let record = ExitRecord {
            oom_killed: self.oom_killed,
            ..exit_record(ended, first.started_at_ns)
        };
        first.exit = Some(record.clone());
        self.phase = Phase::Exited;
        if let Err(errno) = self.home.write_exit(&record) {
            eprintln!("cannot record the exit: {errno}");
        }
        failpoint::reach("shim/end/recorded");
        self.remove_container();
        self.finish_clients(FIRST);
        self.announce(&Event::Exited(record));
    }

    /// Removes the container's cgroup and stops watching it.
    fn remove_container(&mut self) {
        if let Some(watch) = self.oom.take() {
            self.reactor.remove(&watch);
        }
        if let Err(error) = self.container.remove() {
            eprintln!("{error}");
        }
    }

    /// Kills the container, started or not, and waits for its end.
    pub(super) fn destroy(&mut self) {
        if self.phase == Phase::Exited {
            return;
        }
        const SIGKILL: i32 = 9;
        if let Some(shim) = self.container.shim() {
            let ended = shim.destroy();
            return self.on_container_ended(ended);
        }
        let _ = self.signal_first(SIGKILL);
        self.container.kill_rest();
        let pid = self.processes.get(&FIRST).and_then(|first| Pid::from_raw(first.pid));
        if let Ok(Some((_, status))) = rustix::process::waitpid(pid, WaitOptions::empty()) {
            self.reap();
            self.on_container_ended(ended_of(status));
        }
    }
}

/// COMPAT: a process killed by a signal has exit code 128 + signal.
fn ended_of(status: WaitStatus) -> Ended {
    let signal = status.terminating_signal();
    let code = match signal {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or(255),
    };
    Ended { code, signal }
}

fn exit_record(ended: Ended, started_at_ns: i64) -> ExitRecord {
    ExitRecord {
        code: ended.code,
        signal: ended.signal,
        oom_killed: false,
        started_at_ns,
        exited_at_ns: now_ns(),
    }
}
