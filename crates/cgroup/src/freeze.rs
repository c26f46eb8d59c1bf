//! Stopping every task of a group, and being sure of it.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::dir::Dir;
use crate::error::CgroupError;
use crate::parse;

/// Longest time that a container's processes are given to stand still.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A group that has not frozen by then is let go for a moment.
const STRIDE: Duration = Duration::from_millis(50);

/// How long it is let go.
const RESPITE: Duration = Duration::from_millis(1);

/// A task in the kernel freezes on its way out, so the state is asked for until it is reached. The
/// kernel only moves on from FREEZING when asked, and a task forked at the wrong moment is missed
/// unless the freeze is requested again.
///
/// KERNEL: one that waits for another that stands still already (a parent for the child of its vfork, the first
/// process of a dying pid namespace for all others) never freezes by itself, so all are let go now and then.
pub(crate) fn freeze_v1(freezer: &Dir, deadline: Duration) -> Result<(), CgroupError> {
    let begin = Instant::now();
    let mut respite_at = begin + STRIDE;
    let mut pause = Duration::ZERO;
    loop {
        freezer.write("freezer.state", "FROZEN")?;
        let state = freezer.read("freezer.state")?.unwrap_or_default();
        if state.trim() == "FROZEN" {
            return Ok(());
        }
        if begin.elapsed() > deadline {
            freezer.write("freezer.state", "THAWED")?;
            return Err(late(freezer, begin));
        }
        if Instant::now() > respite_at {
            freezer.write("freezer.state", "THAWED")?;
            std::thread::sleep(RESPITE);
            respite_at = Instant::now() + STRIDE;
            pause = Duration::ZERO;
            continue;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).clamp(Duration::from_micros(20), Duration::from_millis(10));
    }
}

/// The kernel announces the end of freezing by an event on `cgroup.events`.
pub(crate) fn freeze_v2(dir: &Dir, deadline: Duration) -> Result<(), CgroupError> {
    let begin = Instant::now();
    let events = dir.open_file("cgroup.events")?;
    dir.write("cgroup.freeze", "1")?;
    loop {
        let text = dir.read("cgroup.events")?.unwrap_or_default();
        if parse::parse_keyed(&text, "frozen") == Some(1) {
            return Ok(());
        }
        let Some(left) = deadline.checked_sub(begin.elapsed()) else {
            dir.write("cgroup.freeze", "0")?;
            return Err(late(dir, begin));
        };
        // ORDER: the descriptor must have been read once for its next change to count.
        let mut scratch = [0u8; 512];
        let _ = rustix::io::pread(&events, &mut scratch, 0);
        let step = left.min(Duration::from_millis(100));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: step.subsec_nanos().into(),
        };
        let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
    }
}

fn late(dir: &Dir, begin: Instant) -> CgroupError {
    let waited_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    CgroupError::Deadline {
        path: dir.path().to_path_buf(),
        state: "frozen",
        waited_ms,
    }
}
