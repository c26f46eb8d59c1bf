//! Who was killed by the OOM killer, and at whose limit: the kernel's log tells.
//!
//! KERNEL(4.19): one line says it all, `oom-kill:constraint=..,oom_memcg=..,task_memcg=..,task=..,pid=..`.
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::blocking::blocking;
use crate::model::{ContainerId, OomReport, Victim};

/// Longest time the kernel's log may take to be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// Records that are looked at; the kernel keeps fewer.
const MAX_RECORDS: usize = 1 << 17;

/// The newest kill among the container's processes that the kernel's log has.
pub(super) async fn report(id: &ContainerId) -> OomReport {
    let id = id.to_string();
    let look = blocking("reading the kernel's log", move || Ok(newest(&id)));
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(Some(report))) => report,
        _ => OomReport::default(), // not allowed to read it, or gone from it
    }
}

fn newest(id: &str) -> Option<OomReport> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open("/dev/kmsg")
        .ok()?;
    let mut record = [0u8; 8192];
    let mut found = None;
    for _ in 0..MAX_RECORDS {
        match log.read(&mut record) {
            Ok(length) if length > 0 => {
                let text = String::from_utf8_lossy(&record[..length]);
                found = parse(&text, id).or(found);
            }
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {} // overtaken: go on
            _ => break,
        }
    }
    found
}

/// Reads the kernel's summary of a kill in the container's cgroup.
fn parse(text: &str, id: &str) -> Option<OomReport> {
    let (_, facts) = text.split_once("oom-kill:")?;
    let facts = facts.lines().next()?;
    let value = |key: &str| {
        facts
            .split(',')
            .find_map(|fact| fact.strip_prefix(key)?.strip_prefix('='))
    };
    if !value("task_memcg")?.split('/').any(|part| part == id) {
        return None;
    }
    let limit_of = value("oom_memcg").unwrap_or_default().to_owned();
    Some(OomReport {
        own_limit: limit_of.split('/').any(|part| part == id),
        limit_of: Some(limit_of),
        victim: Some(Victim {
            pid: value("pid")?.parse().ok()?,
            name: value("task")?.to_owned(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_summary_tells_limit_and_victim() {
        let line = |oom: &str| {
            format!(
                "6,1242,5131,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c1,mems_allowed=0,{oom}task_memcg=/wharf/c1,task=tail,pid=77,uid=0\n SUBSYSTEM=x\n"
            )
        };
        let own = parse(&line("oom_memcg=/wharf/c1,"), "c1").expect("it is of the container");
        assert!(own.own_limit);
        assert_eq!(own.victim.expect("a victim").name, "tail");
        let parent = parse(&line("oom_memcg=/wharf,"), "c1").expect("it is of the container");
        assert_eq!((parent.own_limit, parent.limit_of.as_deref()), (false, Some("/wharf")));
        let host = parse(&line("global_oom,"), "c1").expect("it is of the container");
        assert_eq!(host.limit_of.as_deref(), Some(""));
        assert!(parse(&line("oom_memcg=/wharf,"), "c2").is_none());
        assert!(parse("6,1,2,-;Out of memory: Killed process 1", "c1").is_none());
    }
}
