//! The container's log as the loop sees it: files, their compression, a target.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, WaitStatus};

use super::reactor::{Interest, Reactor, Ready, Token};
use crate::log::{LogWriter, PackJob, Stream};
use crate::plan::LogPlan;
use crate::target::Remote;

/// Where the output of the container's first process goes.
#[derive(Debug, Default)]
pub(super) struct Logs {
    file: Option<LogWriter>,
    remote: Option<Remote>,
    /// The descriptor of the target that the reactor knows, and for what.
    watched: Option<(u32, Interest)>,
    /// The process that compresses a rotated file.
    packing: Option<(Pid, PackJob)>,
    is_given_up: bool,
}

impl Logs {
    /// Opens what a plan asks for; nothing without one.
    pub(super) fn new(plan: Option<&LogPlan>) -> Self {
        let Some(plan) = plan else { return Self::default() };
        let mut logs = Self {
            file: (!plan.no_file).then(|| LogWriter::new(plan.clone())),
            remote: plan.target.clone().map(Remote::new),
            ..Self::default()
        };
        logs.pack();
        logs
    }

    /// Whether there are any.
    pub(super) fn are_kept(&self) -> bool {
        self.file.is_some() || self.remote.is_some()
    }

    /// ORDER: the file first; it never waits for a target.
    pub(super) fn append(&mut self, stream: Stream, bytes: &[u8], time_ns: i64) {
        if let Some(file) = &mut self.file {
            file.append(stream, bytes, time_ns);
        }
        if let Some(remote) = &mut self.remote {
            remote.append(stream, bytes, time_ns);
        }
        self.pack();
    }

    /// The streams have ended.
    pub(super) fn finish(&mut self) {
        self.file.iter_mut().for_each(LogWriter::flush);
        self.remote.iter_mut().for_each(Remote::finish);
    }

    /// Starts a new file now.
    pub(super) fn rotate(&mut self) {
        self.file.iter_mut().for_each(LogWriter::rotate);
        self.pack();
    }

    /// Whether the container has to wait for the target, given whether it waits already.
    pub(super) fn hold_up(&self, is_waiting: bool) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.holds_up(is_waiting))
    }

    /// Lines that the files or the target did not get.
    pub(super) fn dropped(&self) -> u64 {
        let file = self.file.as_ref().map_or(0, LogWriter::dropped);
        file + self.remote.as_ref().map_or(0, Remote::dropped)
    }

    /// Why the target takes nothing at present.
    pub(super) fn error(&self) -> Option<String> {
        self.remote.as_ref().and_then(Remote::error).map(str::to_owned)
    }

    /// When [`Logs::on_time`] is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.remote.as_ref().and_then(Remote::deadline)
    }

    pub(super) fn on_time(&mut self) {
        self.remote.iter_mut().for_each(Remote::on_time);
    }

    /// A notice about an earlier descriptor of the target means nothing.
    pub(super) fn on_ready(&mut self, generation: u32, ready: Ready) {
        if self.watched.is_some_and(|(watched, _)| watched == generation)
            && let Some(remote) = &mut self.remote
        {
            remote.on_ready(ready.readable, ready.hung_up);
        }
    }

    /// Tells the reactor what is waited for. A descriptor that was closed has left it by itself.
    pub(super) fn tidy(&mut self, reactor: &Reactor) {
        let Some((fd, generation, wish)) = self.remote.as_ref().and_then(Remote::watched) else {
            self.watched = None;
            return;
        };
        let interest = Interest {
            read: wish.read,
            write: wish.write,
        };
        if self.watched == Some((generation, interest)) {
            return;
        }
        let token = Token::Target(generation);
        let is_known = self.watched.is_some_and(|(watched, _)| watched == generation);
        let told = if is_known {
            reactor.change(fd, token, interest)
        } else {
            reactor.add(fd, token, interest)
        };
        if told.is_ok() {
            self.watched = Some((generation, interest));
        }
    }

    /// Whether the target has everything, or will not get it.
    pub(super) fn is_done(&self) -> bool {
        self.is_given_up || self.remote.as_ref().is_none_or(Remote::is_done)
    }

    /// The target is not waited for any longer.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// Compresses a rotated file in a process of its own, one at a time.
    fn pack(&mut self) {
        if self.packing.is_some() {
            return;
        }
        let Some(job) = self.file.as_mut().and_then(LogWriter::next_to_pack) else {
            return;
        };
        match spawn_packer(&job) {
            Ok(pid) => self.packing = Some((pid, job)),
            // The file stays as it is, and is looked at again after the next rotation.
            Err(error) => eprintln!("cannot compress {}: {error}", job.source().display()),
        }
    }

    /// A child that is no process of the container has ended.
    pub(super) fn on_child(&mut self, pid: Pid, status: WaitStatus) {
        if let Some((_, job)) = self.packing.take_if(|(packer, _)| *packer == pid)
            && let Some(file) = &mut self.file
        {
            file.packed(&job, status.exit_status() == Some(0));
            if status.exit_status() == Some(0) {
                self.pack();
            }
        }
    }
}

/// Starts this very binary in its compressing role.
fn spawn_packer(job: &PackJob) -> std::io::Result<Pid> {
    let source = File::open(job.source())?;
    let packed = File::create(job.packed())?;
    let child = Command::new("/proc/self/exe")
        .arg0("wharf-shim")
        .args(["pack-log", job.origin().as_str()])
        .stdin(Stdio::from(source))
        .stdout(Stdio::from(packed))
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Pid::from_child(&child))
}
