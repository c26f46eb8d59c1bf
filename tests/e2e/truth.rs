//! What is true of an engine after whatever happened to it: its list is the kernel's, and nothing is left of what
//! went.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use wharf_sys::namespace::{self, CLONE_NEWNS};
use wharf_testkit::Sandbox;
use wharf_testkit::process::is_alive;

/// A small generator, so that a failing run can be repeated from its printed seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number from 0 to below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What is listed as running runs, unless it ends this very moment; what is not has no process.
#[track_caller]
pub(crate) fn list_is_true(s: &Sandbox, when: &str) {
    let (_, list) = s.api("GET", "/containers/json?all=1", "");
    for container in list.as_array().unwrap() {
        let id = container["Id"].as_str().unwrap();
        let lie = || {
            let (status, now) = s.api("GET", &format!("/containers/{id}/json"), "");
            let runs = now["State"]["Running"].as_bool().unwrap_or(false);
            let pid = now["State"]["Pid"].as_u64().unwrap_or(0) as u32;
            let has_process = processes_of(s, id);
            status != 404 && (runs != has_process || runs != (pid > 0 && is_alive(pid)))
        };
        s.eventually(Duration::from_secs(5), &format!("{when}: {container} is true"), || {
            !lie()
        });
    }
}

fn processes_of(s: &Sandbox, id: &str) -> bool {
    let inside = |group: &Path| std::fs::read_to_string(group.join(id).join("cgroup.procs"));
    s.leftovers()
        .cgroups
        .iter()
        .any(|group| inside(group).is_ok_and(|pids| !pids.is_empty()))
}

/// Everything of an engine that can be left over, as lines: mounts, cgroups, links, processes, nft elements, files.
pub(crate) fn traces(s: &Sandbox) -> BTreeSet<String> {
    let left = s.leftovers();
    // The place of the pins stays until a reset; what is pinned in it does not.
    let pins = s.run_dir().join("pins");
    let mounts = left.mounts.iter().filter(|m| !Path::new(m).starts_with(&pins));
    let mut found: BTreeSet<String> = mounts.map(|m| format!("mount {m}")).collect();
    for group in &left.cgroups {
        let below = std::fs::read_dir(group).into_iter().flatten().flatten();
        let of_containers = below.filter(|e| e.path().is_dir() && e.file_name() != "shims");
        found.extend(of_containers.map(|e| format!("cgroup {}", e.path().display())));
    }
    found.extend(left.links.iter().map(|l| format!("link {l}")));
    let shims = left
        .processes
        .iter()
        .filter(|p| !p.contains(" daemon ") && !p.contains(" keeper "));
    found.extend(shims.map(|p| format!("process {p}")));
    found.extend(elements(s.instance()).into_iter().map(|e| format!("nft {e}")));
    found.extend(files(s).into_iter().map(|f| format!("file {f}")));
    found.extend(pinned(&pins).into_iter().map(|id| format!("network namespace {id}")));
    found
}

/// The network namespaces that are pinned where the host does not see it.
fn pinned(pins: &Path) -> Vec<String> {
    let Ok(place) = namespace::open(&pins.join("namespace")) else {
        return Vec::new(); // no container had one so far
    };
    let list = || {
        namespace::unshare_directory().unwrap();
        if namespace::enter(&place, CLONE_NEWNS).is_err() {
            return Vec::new(); // a file that pins nothing: the pins are where the host sees them
        }
        let entries = std::fs::read_dir("/ns").unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    // A thread of its own, which ends with what it has entered.
    std::thread::scope(|scope| scope.spawn(list).join().unwrap())
}

/// The lines of the instance's nft table.
fn elements(instance: &str) -> Vec<String> {
    let mut found = Vec::new();
    for family in ["inet", "ip", "ip6", "bridge"] {
        let out = Command::new("nft").args(["list", "table", family, instance]).output();
        let text = out
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        // Counters count, and elements of one set share lines.
        let parts = text
            .split([',', '\n', '{', '}'])
            .map(str::trim)
            .filter(|part| !part.is_empty());
        found.extend(
            parts
                .filter(|part| !part.starts_with("counter "))
                .map(|part| format!("{family} {part}")),
        );
    }
    found
}

/// Files and directories that belong to containers, images, volumes and builds.
pub(crate) fn files(s: &Sandbox) -> Vec<String> {
    let mut found = Vec::new();
    for sub in [
        "content/sha256",
        "content/ingest",
        "ingest",
        "layers",
        "containers",
        "volumes",
        "build-cache",
        "build-work",
        "builds",
    ] {
        for entry in std::fs::read_dir(s.root().join(sub)).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
        }
    }
    for sub in ["shims", "netns", "shm"] {
        for entry in std::fs::read_dir(s.run_dir().join(sub)).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// After everything was removed through the engine: no container's trace in the kernel or on disk.
#[track_caller]
pub(crate) fn nothing_is_left(s: &Sandbox) {
    let own = format!("link {}0", s.instance());
    let left = || -> Vec<String> {
        let all = traces(s).into_iter();
        all.filter(|t| *t != own && !t.starts_with("nft ")).collect()
    };
    let what = format!("nothing is left of {:#?}", left());
    s.eventually(Duration::from_secs(10), &what, || left().is_empty());
}

/// Nothing is there that was not there `before`.
#[track_caller]
pub(crate) fn nothing_more_than(s: &Sandbox, before: &BTreeSet<String>, when: &str) {
    let more = || -> Vec<String> { traces(s).difference(before).cloned().collect() };
    let what = format!("{when}: nothing is left of {:#?}", more());
    s.eventually(Duration::from_secs(10), &what, || more().is_empty());
}
