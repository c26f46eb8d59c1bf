//! What an instance has in the kernel: found by its name and its directory, without asking the engine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything found; each list is empty when the instance is gone without a trace.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Mount points under the instance's directory, in our mount namespace.
    pub mounts: Vec<String>,
    /// Directories of the instance's cgroup, in every hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// Network links whose name starts with the instance's name.
    pub links: Vec<String>,
    /// nft tables that carry the instance's name.
    pub tables: Vec<String>,
    /// Processes that name the instance's directory in their command line, or sit in its cgroups.
    pub processes: Vec<String>,
}

impl Leftovers {
    /// Looks for everything that the instance `name` with its files under `dir` has in the kernel.
    pub fn find(name: &str, dir: &Path) -> Self {
        Self {
            mounts: mounts_under(dir),
            cgroups: cgroups_named(name),
            links: links_named(name),
            tables: tables_named(name),
            processes: processes_naming(dir),
        }
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
            && self.cgroups.is_empty()
            && self.links.is_empty()
            && self.tables.is_empty()
            && self.processes.is_empty()
    }
}

fn mounts_under(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|l| l.split(' ').nth(4));
    points
        .filter(|p| Path::new(p).starts_with(dir))
        .map(str::to_owned)
        .collect()
}

fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(
        std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path()),
    );
    roots.into_iter().map(|r| r.join(name)).filter(|p| p.is_dir()).collect()
}

fn links_named(name: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|n| n.starts_with(name))
        .collect()
}

fn tables_named(name: &str) -> Vec<String> {
    let out = Command::new("nft").args(["list", "tables"]).output();
    let text = out
        .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default();
    text.lines()
        .filter(|l| l.split(' ').any(|w| w == name))
        .map(str::to_owned)
        .collect()
}

fn processes_naming(dir: &Path) -> Vec<String> {
    let needle = dir.to_string_lossy().into_owned();
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&needle) {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}
