//! `events`: measurements and out-of-memory notices, one JSON document per line.

mod document;
mod interval;
mod kills;

use super::store::{Entry, Record, Status};
use super::{Call, argument, required_id, system, text, usage};
use crate::resctrl::{self, Resctrl};
use crate::spec::{NamespaceKind, Spec};
use crate::{Cgroup, ErrorKind, ResctrlGroup, RuntimeError};
use kills::Kills;
use lexopt::Arg::{Long, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_cgroup::{OomWatch, Version};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// `events [--interval DURATION] [--stats] ID`.
pub(super) fn events(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut interval, mut once, mut id) = (DEFAULT_INTERVAL, false, None);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("stats") => once = true,
            Long("interval") => {
                let value = text(call.parser.value().map_err(argument)?)?;
                interval = interval::parse_interval(&value)
                    .ok_or_else(|| usage(format!("--interval: {value:?} is not a duration above zero such as 5s")))?;
            }
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(argument(other.unexpected())),
        }
    }
    let id = required_id(id)?;
    let entry = Entry::open(&call.global, &id)?;
    let record = entry.load()?;
    if entry.status(&record) == Status::Stopped {
        let text = format!("container with id {id} is not running");
        return Err(RuntimeError::new(ErrorKind::Conflict, "events", text));
    }
    let source = Source {
        own_network: has_own_network(&entry.load_spec()?),
        group: record.require_cgroup()?,
        record,
    };
    if once {
        source.print_stats()?;
        return Ok(0);
    }
    source.follow(interval)
}

/// Without a network of its own the figures would be the host's.
fn has_own_network(spec: &Spec) -> bool {
    let mut namespaces = spec.linux().namespaces.iter();
    namespaces.any(|namespace| namespace.kind == NamespaceKind::Network)
}

/// What is measured.
struct Source {
    record: Record,
    group: Cgroup,
    own_network: bool,
}

impl Source {
    fn print_stats(&self) -> Result<(), RuntimeError> {
        let failed = |error| crate::cgroups::failed("events", &error);
        let measured = document::Measured {
            stats: self.group.stats().map_err(failed)?,
            details: self.group.details().map_err(failed)?,
            interfaces: self.interfaces(),
            resctrl: self.record.resctrl.as_ref().and_then(read_class),
        };
        print("stats", &self.record.id, Some(document::document(&measured)))
    }

    fn interfaces(&self) -> Vec<document::NetworkInterface> {
        if !self.own_network {
            return Vec::new();
        }
        // A container that ends meanwhile has no network any more.
        let table = std::fs::read_to_string(format!("/proc/{}/net/dev", self.record.pid)).unwrap_or_default();
        document::parse_interfaces(&table)
    }

    /// Until the container ends.
    fn follow(&self, interval: Duration) -> Result<i32, RuntimeError> {
        let Some(init) = self.record.open_pidfd()? else {
            return Ok(0);
        };
        let mut oom = Notices::watch(&self.group)?;
        let mut due = Instant::now() + interval;
        loop {
            let (ended, noticed) = wait(&init, oom.watch.as_ref(), oom.kills.next_look(due, Instant::now()))?;
            for _ in 0..oom.take(&self.group, noticed && !ended) {
                print("oom", &self.record.id, None)?;
            }
            if ended {
                return Ok(0);
            }
            if Instant::now() >= due {
                due += interval;
                match self.print_stats() {
                    // Removed under our hands: its end is seen next.
                    Err(_) if !self.record.is_alive() => {}
                    other => other?,
                }
            }
        }
    }
}

/// Out-of-memory notices; none without a memory controller.
struct Notices {
    watch: Option<OomWatch>,
    kills: Kills,
}

impl Notices {
    fn watch(group: &Cgroup) -> Result<Self, RuntimeError> {
        let failed = |error| crate::cgroups::failed("events", &error);
        // ORDER: counted before it is watched, so that none falls between.
        let kills = Kills::new(group.oom_kills().map_err(failed)?);
        let watch = match group.watch_oom() {
            Ok(watch) => Some(watch),
            Err(wharf_cgroup::CgroupError::MissingController { .. }) => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { watch, kills })
    }

    /// How many there are to tell. On version 1 a notice also means that tasks wait because killing is switched
    /// off, and comes with the removal of the group; on version 2 the file also changes for lesser reasons.
    fn take(&mut self, group: &Cgroup, noticed: bool) -> u64 {
        let Some(watch) = &self.watch else { return 0 };
        if noticed {
            watch.drain();
        }
        let Ok(kills) = group.oom_kills() else { return 0 };
        let is_first = noticed && group.version() == Version::V1;
        let new = self.kills.observe(kills, is_first, Instant::now());
        let waits = is_first && group.is_out_of_memory().unwrap_or(false);
        if new == 0 && waits { 1 } else { new }
    }
}

/// Waits for an end or a notice, but not beyond `due`.
fn wait(init: &OwnedFd, oom: Option<&OomWatch>, due: Instant) -> Result<(bool, bool), RuntimeError> {
    let left = due.saturating_duration_since(Instant::now());
    let left = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    let mut ready = vec![PollFd::from_borrowed_fd(init.as_fd(), PollFlags::IN)];
    ready.extend(oom.map(|oom| PollFd::from_borrowed_fd(oom.as_fd(), PollFlags::IN)));
    match poll(&mut ready, Some(&left)) {
        Err(Errno::INTR) => return Ok((false, false)),
        other => other.map_err(|errno| system("wait for events", errno))?,
    };
    let is_ready = |index: usize| ready.get(index).is_some_and(|fd| !fd.revents().is_empty());
    Ok((is_ready(0), is_ready(1)))
}

fn read_class(class: &ResctrlGroup) -> Option<serde_json::Value> {
    let resctrl = Resctrl::probe().ok().flatten()?;
    Some(resctrl::read_figures(resctrl.root(), class))
}

fn print(kind: &str, id: &str, data: Option<serde_json::Value>) -> Result<(), RuntimeError> {
    let mut event = serde_json::json!({ "type": kind, "id": id });
    if let Some(data) = data {
        event["data"] = data;
    }
    let mut out = std::io::stdout();
    writeln!(out, "{event}")
        .and_then(|()| out.flush())
        .map_err(|error| super::failed("print an event".to_owned(), &error))
}
