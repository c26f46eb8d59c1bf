//! One engine per root: a lock on a file that names its holder.
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use wharf_shim::identity;

use crate::LOCK_FILE;
use crate::error::{Context, Error, Result};

/// Longest time a process started by a killed engine may take to its exec.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Longest time an engine that was killed may take to give its files back, while it still counts as a process.
const ENDING_PATIENCE: Duration = Duration::from_secs(1);

/// Takes the root for this process, for as long as the descriptor is open.
///
/// # Errors
/// Conflict while another engine holds it, Unavailable when it was removed meanwhile.
pub(crate) fn take(root: &Path) -> Result<OwnedFd> {
    let path = root.join(LOCK_FILE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let fd =
        rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).internal(|| format!("open {}", path.display()))?;
    wait_for_lock(&fd, &path, root)?;
    if !is_still_there(&fd, &path) {
        return Err(Error::unavailable(format!(
            "{} was removed while it was waited for",
            root.display()
        )));
    }
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::from(fd.try_clone()?);
        file.set_len(0)?;
        let pid = std::process::id();
        // With its start time: `system reset` signals no process that merely has the same id.
        writeln!(file, "{pid} {}", identity::start_ticks(pid).unwrap_or_default())
    };
    write().internal(|| format!("write {}", path.display()))?;
    Ok(fd)
}

/// Whether the path still leads to the open file: `system reset` removes it with all the rest.
fn is_still_there(fd: &OwnedFd, path: &Path) -> bool {
    let (open, named) = (rustix::fs::fstat(fd), rustix::fs::stat(path));
    matches!((open, named), (Ok(open), Ok(named)) if (open.st_dev, open.st_ino) == (named.st_dev, named.st_ino))
}

/// A process that a killed engine was about to start holds the engine's descriptors, the lock among them, until its
/// exec: the lock of a dead engine is waited for, that of a living one is not.
fn wait_for_lock(fd: &OwnedFd, path: &Path, root: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => {}
            Err(e) => return Err(e).internal(|| format!("lock {}", path.display())),
        }
        let patience = match holder(path) {
            Some(_) => ENDING_PATIENCE,
            None => LOCK_PATIENCE,
        };
        if start.elapsed() > patience {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let owner = text.split_whitespace().next().unwrap_or("unknown");
            return Err(Error::conflict(format!(
                "another engine (process {owner}) uses the root {}",
                root.display()
            ))
            .with_hint("stop it first, or choose another --root"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The engine that a lock file names, if that very process lives.
///
/// SECURITY: a process id alone may be another program's, by now or in this PID namespace.
pub(crate) fn holder(path: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(path).ok()?;
    let (pid, ticks) = text.trim().split_once(' ')?;
    let (pid, ticks): (u32, u64) = (pid.parse().ok()?, ticks.parse().ok()?);
    let is_same = identity::start_ticks(pid)? == ticks;
    is_same.then(|| Pid::from_raw(i32::try_from(pid).ok()?)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_a_process_only_with_its_start_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let own = std::process::id();
        let ticks = identity::start_ticks(own).expect("this process lives");
        let check = |text: String, expected: Option<u32>| {
            std::fs::write(&path, &text).expect("write");
            let found = holder(&path).map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
            assert_eq!(found, expected, "{text:?}");
        };
        check(format!("{own} {ticks}\n"), Some(own));
        check(format!("{own} {}\n", ticks + 1), None);
        check(format!("{own}\n"), None);
        check("1 0\n".into(), None);
        check(String::new(), None);
    }
}
