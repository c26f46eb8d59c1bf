//! Descriptors of low numbers, through which children get theirs: all above are left out when a child's table is made.

use super::{Plan, Program, Spawn, Target};
use crate::{Errno, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::{DupFlags, dup3};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many places there are: for the standard streams, a few more, the program and a directory.
const PLACES: usize = 12;
/// Places from here on would save too little.
const HIGHEST: RawFd = 64;

/// None before [`lower`].
static LOW: Mutex<Option<Low>> = Mutex::new(None);

/// Descriptors that lead to /dev/null while no child is made.
#[derive(Debug)]
struct Low {
    places: Vec<OwnedFd>,
    nothing: OwnedFd,
}

/// Sets low descriptors aside for [`Spawn::spawn`], which stay open (thirteen, to /dev/null). To be called before the
/// process opens many; later, and a second time, it does nothing.
///
/// # Errors
/// When /dev/null cannot be opened or descriptors have run out.
pub fn lower() -> Result<()> {
    let mut low = LOW.lock().unwrap_or_else(PoisonError::into_inner);
    if low.is_none() {
        let nothing = || rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let places: Vec<OwnedFd> = (0..PLACES).map(|_| nothing()).collect::<Result<_>>()?;
        if places.iter().all(|place| place.as_raw_fd() < HIGHEST) {
            let nothing = nothing()?;
            *low = Some(Low { places, nothing });
        }
    }
    Ok(())
}

/// Whether the places are there.
#[cfg(test)]
pub(super) fn is_lowered() -> bool {
    LOW.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// The places, with what one child needs; they lead to nothing again when this is dropped.
pub(super) struct Block {
    low: MutexGuard<'static, Option<Low>>,
    used: usize,
}

impl Block {
    /// Puts the descriptors of a child into the places. `None`: there are no places, another thread has them now, or
    /// they do not suffice; then the child is made the other way.
    pub(super) fn take(spawn: &Spawn<'_>) -> Option<Block> {
        let low = LOW.try_lock().ok().filter(|low| low.is_some())?;
        let mut block = Block { low, used: 0 };
        let program = match &spawn.program {
            Program::Fd(fd) => Some(*fd),
            Program::Path(_) => None,
        };
        let sources = spawn.fds.iter().map(|(source, _)| *source);
        sources
            .chain(program)
            .chain(spawn.directory)
            .try_for_each(|source| block.hold(source))
            .ok()?;
        Some(block)
    }

    fn hold(&mut self, source: BorrowedFd<'_>) -> Result<()> {
        let places = self.low.as_mut().map(|low| &mut low.places);
        let place = places
            .and_then(|places| places.get_mut(self.used))
            .ok_or(Errno::MFILE)?;
        dup3(source, place, DupFlags::CLOEXEC)?;
        self.used += 1;
        Ok(())
    }

    /// The plan of the spawn this was taken for, with the places instead of its descriptors.
    pub(super) fn plan(&self, spawn: &Spawn<'_>) -> Plan {
        let mut plan = spawn.plan();
        let numbers = self
            .low
            .iter()
            .flat_map(|low| &low.places)
            .map(|place| place.as_raw_fd());
        plan.keep_below = numbers.clone().max().map(|highest| highest + 1);
        let mut numbers = numbers.take(self.used);
        let mut next = || numbers.next().expect("invariant: each descriptor has its place");
        plan.fds.iter_mut().for_each(|(source, _, _)| *source = next());
        if let Target::Fd(program) = &mut plan.program {
            *program = next();
        }
        plan.directory = plan.directory.map(|_| next());
        plan
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(Low { places, nothing }) = self.low.as_mut() else {
            return;
        };
        for place in places.iter_mut().take(self.used) {
            // ORDER: before another child is made: the peer of a socket that stayed here would never see its end.
            // It cannot fail: both numbers are open.
            let _ = dup3(&*nothing, place, DupFlags::CLOEXEC);
        }
    }
}
