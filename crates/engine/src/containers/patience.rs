//! What a container that does not end although it was killed is stuck on, as the kernel tells it.
//!
//! Nothing here touches a path of the container: a stuck file system would make it wait too. Only `/proc` is read, and
//! of that only files that the kernel fills without asking a file system.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wharf_cgroup::Cgroup;

use super::blocking::blocking;
use super::paths::cgroup_path;
use crate::Shared;
use crate::model::ContainerRecord;

/// How long processes may take to end after SIGKILL before those who wait are told that they do not.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Longest time the look itself may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// A task in uninterruptible sleep.
#[derive(Debug, PartialEq, Eq)]
struct Sleeper {
    pid: u32,
    name: String,
    /// The kernel's function that it waits in.
    waits_in: String,
    /// The file its system call works on, and the mount that is on.
    file: Option<(String, Option<Mount>)>,
    /// Where that is not known: the mounts that can hang.
    served: Vec<Mount>,
}

/// One line of a mount table.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    target: String,
    kind: String,
    source: String,
}

/// Says what the container's processes wait for.
pub(super) async fn stuck_on(shared: &Arc<Shared>, record: &ContainerRecord) -> String {
    let (held, path) = (Arc::clone(shared), cgroup_path(&shared.config, record));
    let first = record.state.pid;
    let look = blocking("looking at stuck processes", move || {
        let mut pids = Cgroup::open(&held.hierarchy, &path)
            .and_then(|group| group.pids())
            .unwrap_or_default();
        pids.extend(u32::try_from(first).ok().filter(|pid| *pid > 0 && !pids.contains(pid)));
        Ok(describe(&pids))
    });
    match tokio::time::timeout(LOOK_PATIENCE, look).await {
        Ok(Ok(text)) => text,
        _ => "what its processes wait for cannot be found out".to_owned(),
    }
}

/// What the shim of a directory does instead of answering, as the kernel tells it.
pub(super) fn keeper_does(dir: &Path) -> String {
    let Some(pid) = wharf_shim::client::shim_pid(dir) else {
        return "it is gone".to_owned();
    };
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    let doing = match state {
        Some('T' | 't') => "is stopped",
        Some('D') => "is in uninterruptible sleep",
        Some('S') => "sleeps",
        Some('R') => "runs",
        _ => "ends",
    };
    let waits_in = read("wchan");
    match waits_in.trim().trim_matches('0') {
        "" => format!("process {pid} {doing}"),
        place => format!("process {pid} {doing} in {place}"),
    }
}

/// The file systems of a dead or slow server that these host paths are on, without asking any of them.
pub(super) fn suspects<'a>(paths: impl Iterator<Item = &'a str>) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let served = served_mounts(&table);
    let texts: Vec<String> = paths
        .filter(|path| !path.is_empty())
        .filter_map(|path| Some((path, mount_of(&table, path)?)))
        .filter(|(_, mount)| served.contains(mount))
        .map(|(path, mount)| format!("{path} of {}", mount.to_text()))
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn describe(pids: &[u32]) -> String {
    let sleepers: Vec<String> = pids
        .iter()
        .filter_map(|pid| sleeper(*pid))
        .take(3)
        .map(|s| s.to_text())
        .collect();
    match sleepers.is_empty() {
        true => format!("{} of its processes have not ended", pids.len()),
        false => sleepers.join("; "),
    }
}

/// A process with a thread that no signal reaches.
fn sleeper(pid: u32) -> Option<Sleeper> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let dir = task.path();
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        let stat = read("stat");
        let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        rest.starts_with('D').then(|| {
            let table = read("mountinfo");
            Sleeper {
                pid,
                name: name.to_owned(),
                waits_in: read("wchan").trim().trim_matches('0').to_owned(),
                file: file_of(&dir, &read("syscall"), &table),
                served: served_mounts(&table),
            }
        })
    })
}

/// The file of a system call whose first argument is a descriptor.
fn file_of(task: &Path, syscall: &str, table: &str) -> Option<(String, Option<Mount>)> {
    let mut words = syscall.split(' ');
    let number: u32 = words.next()?.parse().ok()?;
    let descriptor = words.nth(descriptor_argument(number)?)?;
    let descriptor = u32::from_str_radix(descriptor.trim_start_matches("0x"), 16).ok()?;
    let file = std::fs::read_link(task.join("fd").join(descriptor.to_string())).ok()?;
    let file = file.to_string_lossy().into_owned();
    let mount = mount_of(table, &file);
    Some((file, mount))
}

/// Which argument of a system call is the descriptor of the file it waits for: of read, write, fstat, lseek, pread,
/// pwrite, readv, writev, fsync, fdatasync, getdents, getdents64, openat, newfstatat the first, of sendfile the second.
#[cfg(target_arch = "x86_64")]
fn descriptor_argument(number: u32) -> Option<usize> {
    match number {
        0 | 1 | 5 | 8 | 17..=20 | 74 | 75 | 78 | 217 | 257 | 262 => Some(0),
        40 => Some(1),
        _ => None,
    }
}

/// The same calls by the numbers that all newer architectures share.
#[cfg(not(target_arch = "x86_64"))]
fn descriptor_argument(number: u32) -> Option<usize> {
    match number {
        56 | 61..=70 | 79 | 80 | 82 | 83 => Some(0),
        71 => Some(1),
        _ => None,
    }
}

/// Mounts whose server is a program or another machine.
fn served_mounts(table: &str) -> Vec<Mount> {
    let served = |kind: &str| {
        let family = kind.split('.').next().unwrap_or(kind);
        matches!(
            family,
            "fuse" | "fuseblk" | "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs"
        )
    };
    table
        .lines()
        .filter_map(parse_mount)
        .filter(|mount| served(&mount.kind))
        .collect()
}

/// The mount of a mount table that a path is on.
fn mount_of(table: &str, path: &str) -> Option<Mount> {
    let covering = table
        .lines()
        .filter_map(parse_mount)
        .filter(|m| Path::new(path).starts_with(&m.target));
    covering.max_by_key(|mount| mount.target.len())
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    Some(Mount {
        target: front.split(' ').nth(4)?.to_owned(),
        kind: back.next()?.to_owned(),
        source: back.next()?.to_owned(),
    })
}

impl Mount {
    fn to_text(&self) -> String {
        format!(
            "the {} file system {} mounted at {}",
            self.kind, self.source, self.target
        )
    }
}

impl Sleeper {
    fn to_text(&self) -> String {
        let mut text = format!("process {} ({}) is in uninterruptible sleep", self.pid, self.name);
        if !self.waits_in.is_empty() {
            text.push_str(&format!(" in {}", self.waits_in));
        }
        match &self.file {
            Some((file, mount)) => {
                text.push_str(&format!(", on {file}"));
                text.extend(mount.iter().map(|mount| format!(" of {}", mount.to_text())));
            }
            None => text.extend(
                self.served
                    .iter()
                    .map(|mount| format!(", perhaps on {}", mount.to_text())),
            ),
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
20 1 0:18 / / rw - overlay overlay rw
21 20 0:30 / /mnt rw shared:3 - fuse server rw,user_id=0
22 20 0:31 / /mnt2 rw - tmpfs tmpfs rw
";

    #[test]
    fn the_mount_of_a_path_is_the_deepest_that_covers_it() {
        let target = |path: &str| mount_of(TABLE, path).expect("covered").target;
        assert_eq!(target("/mnt/a"), "/mnt");
        assert_eq!(target("/mnt2/a"), "/mnt2");
        assert_eq!(target("/mnt22"), "/");
        assert_eq!(mount_of(TABLE, "/mnt/a").expect("covered").kind, "fuse");
        let served = served_mounts(TABLE);
        assert_eq!((served.len(), served[0].target.as_str()), (1, "/mnt"));
    }

    #[test]
    fn a_stuck_process_is_told_with_its_file_and_mount() {
        let sleeper = Sleeper {
            pid: 7,
            name: "cat".into(),
            waits_in: "request_wait_answer".into(),
            file: Some(("/mnt/a".into(), mount_of(TABLE, "/mnt/a"))),
            served: Vec::new(),
        };
        assert_eq!(
            sleeper.to_text(),
            "process 7 (cat) is in uninterruptible sleep in request_wait_answer, on /mnt/a of the fuse file system \
             server mounted at /mnt"
        );
    }

    #[test]
    fn processes_that_only_sleep_are_counted() {
        use std::io::{Read, Write};
        use std::process::{Command, Stdio};
        // One that has nothing more to load: any process is in uninterruptible sleep for a moment at times.
        let mut command = Command::new("cat");
        let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = cat.stdin.take().unwrap();
        input.write_all(b"a").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let stat = format!("/proc/{}/stat", cat.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        assert_eq!(describe(&[cat.id()]), "1 of its processes have not ended");
        drop(input);
        cat.wait().unwrap();
    }
}
