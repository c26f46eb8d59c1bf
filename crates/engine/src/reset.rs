//! Removing everything an instance owns, in the kernel and on disk, with or without its engine running, and also
//! after everything was killed.
//!
//! ```text
//! engine ends -> shims and containers end (pid files, cgroup) -> networks, names -> mounts -> files
//! ```
//! What is removed is found by the instance's name and directories, never by the records: those may be damaged.
//! Each step goes on past failures; all of them are reported together.
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use wharf_cgroup::{Cgroup, Hierarchy};
use wharf_shim::identity;
use wharf_sys::handle;

use crate::error::{Context, Error, Result};
use crate::{LOCK_FILE, root_lock};

/// How long a running engine may take to end by itself before it is killed.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);
/// How long killed processes and their cgroups may take to be gone.
const KERNEL_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a lock that nobody alive seems to hold.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Removes the instance. Blocking; afterwards `root` and `run` are empty or gone.
///
/// # Errors
/// Internal: the engine that holds the root cannot be ended, and nothing was touched; or everything that could not be
/// removed, by name.
pub fn reset(root: &Path, run: &Path, instance: &str) -> Result<()> {
    crate::Config::new(root, run, instance, "").validate()?;
    // ORDER: the engine first, or it would restart what is ended here. The lock is held to the end, so that no
    // other engine starts meanwhile.
    let _lock = take_over(root)?;
    let mut failures = Failures::default();
    kill_shims(run, &mut failures);
    kill_group(instance, &mut failures);
    failures.note("networks", wharf_net::reset(instance, run));
    unmount_below(&[root, run], &mut failures);
    // ORDER: the run directory before the root: while it is there, an engine could adopt what it names.
    for dir in [run, root] {
        failures.note(&dir.display().to_string(), remove_tree(dir));
    }
    failures.into_result(instance)
}

/// What went wrong so far.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note<E: std::fmt::Display>(&mut self, what: &str, result: std::result::Result<(), E>) {
        if let Err(error) = result {
            self.0.push(format!("{what}: {error}"));
        }
    }

    fn into_result(self, instance: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::internal(format!(
            "instance {instance} is not wholly removed: {}",
            self.0.join("; ")
        )))
    }
}

/// Ends the engine that holds the root, if any, and takes its lock; `None` where there never was one.
fn take_over(root: &Path) -> Result<Option<OwnedFd>> {
    let path = root.join(LOCK_FILE);
    let lock = match rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(lock) => lock,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).internal(|| format!("open {}", path.display())),
    };
    let mut end = Instant::now() + ENGINE_PATIENCE;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).internal(|| format!("lock {}", path.display())),
        }
        match root_lock::holder(&path) {
            Some(pid) => {
                end_process(pid, Signal::TERM, ENGINE_PATIENCE)
                    .or_else(|_| end_process(pid, Signal::KILL, KERNEL_PATIENCE))
                    .map_err(|e| Error::internal(format!("the engine does not end, nothing was removed: {e}")))?;
                end = Instant::now() + ENGINE_PATIENCE;
            }
            None if Instant::now() > end => {
                let unknown =
                    "is held by a process that is not the engine it names, or by one in another PID namespace";
                return Err(Error::internal(format!(
                    "{} {unknown}; nothing was removed",
                    path.display()
                )));
            }
            // A child of a killed engine, on its way to its exec.
            None => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

/// Signals a process and waits for its end.
fn end_process(pid: Pid, signal: Signal, patience: Duration) -> std::result::Result<(), String> {
    let said = |doing: &str, e: rustix::io::Errno| format!("{doing} process {}: {e}", pid.as_raw_nonzero());
    let process = match handle::open(pid) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(said("opening", error)),
    };
    match handle::send(&process, signal.as_raw()) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(said("signalling", error)),
    }
    match handle::wait_ended(&process, patience) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("process {} does not end", pid.as_raw_nonzero())),
        Err(error) => Err(said("awaiting", error)),
    }
}

/// Kills every shim that left its pid file, if the process is still the one that wrote it.
fn kill_shims(run: &Path, failures: &mut Failures) {
    for entry in std::fs::read_dir(run.join("shims")).into_iter().flatten().flatten() {
        let shim = identity::shim_pid(&entry.path()).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = shim {
            failures.note("a shim", end_process(pid, Signal::KILL, KERNEL_PATIENCE));
        }
    }
}

/// Kills whatever is in the instance's cgroup and removes the group with all below it.
fn kill_group(instance: &str, failures: &mut Failures) {
    let path = format!("/{instance}");
    let hierarchy = match Hierarchy::probe() {
        Ok(hierarchy) => hierarchy,
        Err(error) => return failures.note("cgroups", Err(error)),
    };
    let end = Instant::now() + KERNEL_PATIENCE;
    // A process may fork between a look and its kill: look again until the group is empty.
    while let Ok(group) = Cgroup::open(&hierarchy, &path) {
        match group.pids() {
            Ok(pids) if !pids.is_empty() && Instant::now() < end => {
                failures.note("containers", group.kill());
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => break,
        }
    }
    failures.note("cgroups", Cgroup::delete_tree(&hierarchy, &path, KERNEL_PATIENCE));
}

/// Unmounts everything below the directories, deepest first, without waiting for who still uses it.
fn unmount_below(dirs: &[&Path], failures: &mut Failures) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = text.lines().filter_map(|l| l.split(' ').nth(4)).map(unescape).collect();
    points.retain(|p| dirs.iter().any(|d| p.starts_with(d) && p != d));
    points.reverse();
    for point in points {
        let done = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
        failures.note(&point.display().to_string(), done);
    }
}

/// mountinfo writes space, tab, newline and backslash as octal (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = text
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&plain).into_owned()))
}

/// Removes a directory and all below it, but nothing on another file system.
fn remove_tree(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_odd_names_are_read_back() {
        assert_eq!(unescape(r"/a\040b/c\134d"), PathBuf::from(r"/a b/c\d"));
        assert_eq!(unescape(r"/plain\"), PathBuf::from(r"/plain\"));
    }

    #[test]
    fn resetting_nothing_is_no_failure() {
        let dir = std::env::temp_dir().join(format!("wharf-reset-{}", std::process::id()));
        let instance = format!("wr{}", std::process::id());
        reset(&dir.join("root"), &dir.join("run"), &instance).expect("nothing to do");
    }

    #[test]
    fn a_root_held_by_an_unknown_process_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        std::fs::create_dir_all(&root).expect("create");
        std::fs::create_dir_all(run.join("x")).expect("create");
        let lock = std::fs::File::create(root.join(LOCK_FILE)).expect("create");
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("lock");
        let error = reset(&root, &run, &format!("wu{}", std::process::id())).expect_err("somebody holds it");
        assert!(error.message().contains("nothing was removed"), "{error}");
        assert!(run.join("x").exists());
    }
}
