//! Where the controllers are mounted.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::error::CgroupError;

/// Which interface the controllers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy per controller or group of controllers (also "hybrid").
    V1,
    /// One hierarchy for all.
    V2,
}

/// A controller of version 1; version 2 shows most of them under other names in one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Controller {
    /// Processor weight and bandwidth.
    Cpu,
    /// Processor accounting.
    Cpuacct,
    /// Which processors and nodes.
    Cpuset,
    /// Memory.
    Memory,
    /// Device access.
    Devices,
    /// Freezing.
    Freezer,
    /// Block devices.
    Blkio,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Packet class.
    NetCls,
    /// Packet priority.
    NetPrio,
    /// Performance counters.
    PerfEvent,
    /// Remote direct memory access.
    Rdma,
    /// Scalar resources without a home.
    Misc,
}

impl Controller {
    /// Every controller, in the order in which they are set up.
    pub const ALL: [Self; 14] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Devices,
        Self::Freezer,
        Self::Blkio,
        Self::Pids,
        Self::Hugetlb,
        Self::NetCls,
        Self::NetPrio,
        Self::PerfEvent,
        Self::Rdma,
        Self::Misc,
    ];

    /// The kernel's name on version 1.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Blkio => "blkio",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::PerfEvent => "perf_event",
            Self::Rdma => "rdma",
            Self::Misc => "misc",
        }
    }
}

/// See [`Hierarchy::assume`].
static KNOWN: OnceLock<Hierarchy> = OnceLock::new();

/// The mounted hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    version: Version,
    /// v1: each mount with the controllers on it.
    mounts: Vec<Mount>,
    /// v2: the one mount (on hybrid hosts it exists beside `mounts` and is not used for limits).
    unified: Option<PathBuf>,
    /// v1: hierarchies without controllers, by name (`systemd`).
    named: Vec<(String, PathBuf)>,
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    pub(crate) controllers: Vec<Controller>,
}

impl Hierarchy {
    /// Makes [`Hierarchy::probe`] answer this one for the rest of the process: what another process in the same mount
    /// namespace has found. Only the first one counts.
    pub fn assume(self) {
        // An error means that there is one already.
        let _ = KNOWN.set(self);
    }

    /// Reads this process's mount table. Version 1 wins when any controller is mounted there.
    ///
    /// Stops reading when every hierarchy that the kernel has was found: on a host of a thousand containers the table
    /// is long, and hierarchies are mounted early.
    ///
    /// # Errors
    /// [`CgroupError::Probe`] if the table cannot be read, [`CgroupError::NoHierarchy`] if there is none.
    pub fn probe() -> Result<Self, CgroupError> {
        if let Some(known) = KNOWN.get() {
            return Ok(known.clone());
        }
        let failed = |path: &'static str| {
            move |source| CgroupError::Probe {
                path: PathBuf::from(path),
                source,
            }
        };
        let wanted = std::fs::read_to_string("/proc/self/cgroup").map_err(failed("/proc/self/cgroup"))?;
        let path = "/proc/self/mountinfo";
        let table = std::fs::File::open(path).map_err(failed(path))?;
        let found = Found::read(BufReader::new(table), wanted.lines().count()).map_err(failed(path))?;
        found.hierarchy().ok_or(CgroupError::NoHierarchy)
    }

    /// A version 2 hierarchy rooted at a directory; also how tests build a fake one.
    pub fn v2_at(root: impl Into<PathBuf>) -> Self {
        Self {
            version: Version::V2,
            mounts: Vec::new(),
            unified: Some(root.into()),
            named: Vec::new(),
        }
    }

    /// Version 1 hierarchies rooted at directories; also how tests build fake ones.
    pub fn v1_at(mounts: impl IntoIterator<Item = (PathBuf, Vec<Controller>)>) -> Self {
        let mounts = mounts
            .into_iter()
            .map(|(path, controllers)| Mount { path, controllers })
            .collect();
        Self {
            version: Version::V1,
            mounts,
            unified: None,
            named: Vec::new(),
        }
    }

    /// The interface in use.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Directory of a v1 controller's hierarchy, or of the one v2 hierarchy.
    pub fn mount_of(&self, controller: Controller) -> Option<&Path> {
        match self.version {
            Version::V2 => self.unified.as_deref(),
            Version::V1 => self
                .mounts
                .iter()
                .find(|mount| mount.controllers.contains(&controller))
                .map(|m| m.path.as_path()),
        }
    }

    /// The v2 mount: the hierarchy itself on version 2, the controller-less one on hybrid hosts.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Whether a controller can be used, for `/info` style reports.
    pub fn has(&self, controller: Controller) -> bool {
        match self.version {
            Version::V1 => self.mount_of(controller).is_some(),
            Version::V2 => self.v2_has(controller),
        }
    }

    /// Whether memory plus swap can be limited; kernels may be built or booted without.
    pub fn can_limit_swap(&self) -> bool {
        match self.version {
            Version::V1 => self
                .mount_of(Controller::Memory)
                .is_some_and(|m| m.join("memory.memsw.limit_in_bytes").exists()),
            Version::V2 => self.unified.iter().any(|root| can_limit_swap_below(root)),
        }
    }

    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// v1: the hierarchies that only keep track of processes, as a service supervisor needs them:
    /// those with a name (`name=systemd`) and the unified one (the empty text), with their mounts.
    pub(crate) fn tracking(&self) -> Vec<(String, &Path)> {
        if self.version == Version::V2 {
            return Vec::new();
        }
        let named = self
            .named
            .iter()
            .map(|(name, path)| (format!("name={name}"), path.as_path()));
        let unified = self.unified.iter().map(|path| (String::new(), path.as_path()));
        named.chain(unified).collect()
    }

    fn v2_has(&self, controller: Controller) -> bool {
        let name = match controller {
            Controller::Blkio => "io",
            Controller::Cpuacct | Controller::Freezer | Controller::Devices => return true,
            Controller::NetCls | Controller::NetPrio => return false,
            other => other.name(),
        };
        let Some(root) = &self.unified else { return false };
        let listed = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        listed.split_whitespace().any(|each| each == name)
    }
}

/// What a mount table holds, as far as it was read.
#[derive(Debug, Default)]
struct Found {
    mounts: Vec<Mount>,
    unified: Option<PathBuf>,
    named: Vec<(String, PathBuf)>,
}

impl Found {
    /// Reads lines of mountinfo (proc(5)) until as many hierarchies were found as are wanted. What is mounted twice
    /// counts where it is mounted first.
    fn read(mut table: impl BufRead, wanted: usize) -> std::io::Result<Self> {
        let mut found = Self::default();
        let mut line = Vec::new();
        while found.count() < wanted {
            line.clear();
            if table.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            found.take(String::from_utf8_lossy(&line).trim_end());
        }
        Ok(found)
    }

    fn count(&self) -> usize {
        self.mounts.len() + self.named.len() + usize::from(self.unified.is_some())
    }

    fn take(&mut self, line: &str) {
        let Some((path, fstype, options)) = split_mount(line) else {
            return;
        };
        match fstype {
            "cgroup2" if self.unified.is_none() => self.unified = Some(path),
            "cgroup" => {
                let controllers = controllers_of(options);
                let known = |mount: &Mount| mount.controllers.iter().any(|each| controllers.contains(each));
                if let Some(name) = name_of(options).filter(|_| controllers.is_empty()) {
                    if !self.named.iter().any(|(known, _)| known == name) {
                        self.named.push((name.to_owned(), path));
                    }
                } else if !controllers.is_empty() && !self.mounts.iter().any(known) {
                    self.mounts.push(Mount { path, controllers });
                }
            }
            _ => {}
        }
    }

    fn hierarchy(self) -> Option<Hierarchy> {
        let (version, named) = match (self.mounts.is_empty(), &self.unified) {
            (false, _) => (Version::V1, self.named),
            (true, Some(_)) => (Version::V2, Vec::new()),
            (true, None) => return None,
        };
        Some(Hierarchy {
            version,
            mounts: self.mounts,
            unified: self.unified,
            named,
        })
    }
}

/// Mount point, file system type and super block options of one mountinfo line.
fn split_mount(line: &str) -> Option<(PathBuf, &str, &str)> {
    let (head, tail) = line.split_once(" - ")?;
    let point = head.split(' ').nth(4)?;
    let mut tail = tail.split(' ');
    let fstype = tail.next()?;
    let options = tail.nth(1)?;
    Some((PathBuf::from(unescape_octal(point)), fstype, options))
}

/// Undoes the kernel's `\040` style escapes.
fn unescape_octal(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of a hierarchy without controllers.
fn name_of(options: &str) -> Option<&str> {
    options.split(',').find_map(|option| option.strip_prefix("name="))
}

fn controllers_of(options: &str) -> Vec<Controller> {
    let named = |option: &str| {
        Controller::ALL
            .into_iter()
            .find(|controller| controller.name() == option)
    };
    options.split(',').filter_map(named).collect()
}

/// The root has no limits, so any group below it tells. Before there is one with a memory limit, as
/// on a host without a service supervisor, a kernel that knows of swap is believed to limit it.
fn can_limit_swap_below(root: &Path) -> bool {
    let groups = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut limited = groups
        .map(|group| group.path())
        .filter(|group| group.join("memory.max").exists())
        .peekable();
    match limited.peek() {
        Some(_) => limited.any(|group| group.join("memory.swap.max").exists()),
        None => Path::new("/proc/swaps").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(table: &str) -> Option<Hierarchy> {
        let found = Found::read(table.as_bytes(), usize::MAX).expect("memory is readable");
        found.hierarchy()
    }

    #[test]
    fn nothing_is_read_beyond_the_last_hierarchy() {
        let long = format!(
            "{HYBRID}{}",
            "50 23 0:4 net:[4026532000] /run/pin rw - nsfs nsfs rw\n".repeat(1000)
        );
        let mut rest = long.as_bytes();
        let found = Found::read(&mut rest, 4).expect("readable");
        assert_eq!(found.hierarchy(), parse(HYBRID));
        assert_eq!(rest.len(), long.len() - HYBRID.len());
    }

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:4 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_hosts_are_version_1_with_the_unified_mount_known() {
        let found = parse(HYBRID).expect("a hierarchy");
        assert_eq!(found.version(), Version::V1);
        assert_eq!(
            found.mount_of(Controller::Cpuacct),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(
            found.mount_of(Controller::Memory),
            Some(Path::new("/sys/fs/cgroup/memory"))
        );
        assert_eq!(found.mount_of(Controller::Pids), None);
        assert_eq!(found.unified(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(found.mounts().len(), 2);
        assert_eq!(
            found.tracking(),
            [
                ("name=systemd".to_owned(), Path::new("/sys/fs/cgroup/systemd")),
                (String::new(), Path::new("/sys/fs/cgroup/unified")),
            ]
        );
    }

    #[test]
    fn a_lone_cgroup2_mount_is_version_2() {
        let line = "41 31 0:38 / /sys/fs/cg\\040two rw - cgroup2 cgroup2 rw,nsdelegate";
        let found = parse(line).expect("a hierarchy");
        assert_eq!(found, Hierarchy::v2_at("/sys/fs/cg two"));
    }

    #[test]
    fn no_cgroup_mount_is_no_hierarchy() {
        assert_eq!(parse("31 23 0:28 / / rw - ext4 /dev/sda rw\nrubbish"), None);
    }

    #[test]
    fn limits_of_swap_are_told_by_groups_that_limit_memory() {
        let root = tempfile::tempdir().expect("a directory");
        let make = |file: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("below")).expect("a group");
            std::fs::write(path, "max").expect("a file");
        };
        let can = || Hierarchy::v2_at(root.path()).can_limit_swap();
        make("plain/cgroup.procs");
        assert_eq!(can(), Path::new("/proc/swaps").exists());
        make("one/memory.max");
        assert!(!can());
        make("two/memory.max");
        make("two/memory.swap.max");
        assert!(can());
    }
}
