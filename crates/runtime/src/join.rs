//! How a further process gets into the container's cgroup, or into groups
//! below it.

use crate::cgroups::{failed, open_entries};
use crate::{Cgroup, ErrorKind, ExecTarget, RuntimeError, Scope};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use wharf_cgroup::Version;
use wharf_cgroup::systemd::Instance;

/// A group below the container's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubCgroup {
    /// Controllers it is for (version 1); empty for all.
    pub controllers: Vec<String>,
    /// Path below the container's group; a leading slash means nothing.
    pub path: PathBuf,
}

impl SubCgroup {
    /// Reads the values of `exec --cgroup`: `PATH`, or `CONTROLLER[,...]:PATH`.
    ///
    /// # Errors
    /// Paths that climb, empty and doubled controllers, and several paths without.
    pub fn parse_all(values: &[String]) -> Result<Vec<Self>, RuntimeError> {
        let mut all: Vec<Self> = Vec::new();
        for value in values {
            let invalid = |why: &str| RuntimeError::invalid("--cgroup", format!("--cgroup {value:?}: {why}"));
            let (controllers, path) = value.split_once(':').unwrap_or(("", value));
            // SECURITY: the group must stay below the container's own.
            if Path::new(path).components().any(|part| part == Component::ParentDir) {
                return Err(invalid(&format!("`..` components are not allowed in {path}")));
            }
            let controllers: Vec<String> = match value.contains(':') {
                true => controllers.split(',').map(str::to_owned).collect(),
                false => Vec::new(),
            };
            if controllers.iter().any(String::is_empty) {
                return Err(invalid("a controller is empty"));
            }
            if controllers.is_empty() && values.len() > 1 {
                return Err(invalid("one of several needs controllers in front"));
            }
            let is_doubled = |name: &String| all.iter().any(|sub| sub.controllers.contains(name));
            if controllers.iter().any(is_doubled) {
                return Err(invalid("a controller is given twice"));
            }
            all.push(Self {
                controllers,
                path: path.trim_start_matches('/').into(),
            });
        }
        Ok(all)
    }
}

/// The opened way in.
#[derive(Debug, Default)]
pub(crate) struct Join<'a> {
    /// Files through which the process moves itself.
    pub(crate) entries: Vec<OwnedFd>,
    group: Option<&'a Cgroup>,
    below: Option<OwnedFd>,
    guided: Option<Guided<'a>>,
}

/// The way in where a user's systemd may have to move the process: into the groups of its own session
/// the user may, from the scope of a login, which lies beside, it may not.
#[derive(Debug)]
struct Guided<'a> {
    group: &'a Cgroup,
    scope: &'a Scope,
    /// Path below the container's group; empty for it.
    below: String,
}

impl Join<'_> {
    /// The directory that the process is born in (version 2, and the unified hierarchy of a hybrid host).
    pub(crate) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        match &self.below {
            Some(below) => Some(below.as_fd()),
            None => self.group.and_then(Cgroup::open_dir),
        }
    }

    /// Whether the process waits until [`Join::bring_in`] has moved it.
    pub(crate) fn is_guided(&self) -> bool {
        self.guided.is_some()
    }

    /// Moves the process that was born outside, by systemd if the caller may not.
    pub(crate) fn bring_in(&self, pid: i32) -> Result<(), RuntimeError> {
        let Some(guided) = &self.guided else { return Ok(()) };
        let pid = pid.unsigned_abs();
        let path = format!("{}/{}", guided.group.path(), guided.below);
        let moved = Cgroup::open(guided.group.hierarchy(), path.trim_end_matches('/')).and_then(|group| group.add(pid));
        match moved {
            Err(error) if crate::group::is_forbidden(&error) => guided.scope.attach(pid, &guided.below),
            other => other.map_err(|error| failed("cgroup", &error)),
        }
    }
}

/// When the process gets into the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// As early as the kernel can: at its birth on version 2.
    Birth,
    /// When it asks to.
    Later,
}

/// Opens the group, or those below it.
pub(crate) fn open_join<'a>(
    target: &ExecTarget<'a>,
    below: &[SubCgroup],
    moment: Moment,
) -> Result<Join<'a>, RuntimeError> {
    let Some(group) = target.cgroup else {
        return match below.first() {
            None => Ok(Join::default()),
            Some(_) => Err(RuntimeError::new(
                ErrorKind::Conflict,
                "--cgroup",
                "--cgroup: the container has no cgroup",
            )),
        };
    };
    match group.version() {
        Version::V1 if below.is_empty() => Ok(Join {
            entries: open_entries(Some(group))?,
            group: Some(group),
            ..Join::default()
        }),
        Version::V1 => open_v1(group, below),
        Version::V2 => open_v2((group, target.scope), below, (target.pid, moment)),
    }
}

fn open(path: PathBuf, flags: OFlags) -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| RuntimeError::system("cgroup", format!("open {}", path.display()), errno))
}

/// Controllers that no group below is named for keep the container's own; so does the unified hierarchy,
/// which limits nothing, where the group below was not made in it.
fn open_v1<'a>(group: &'a Cgroup, below: &[SubCgroup]) -> Result<Join<'a>, RuntimeError> {
    let mut directories: BTreeMap<String, PathBuf> = group.directories();
    for sub in below {
        for controller in &sub.controllers {
            let directory = directories.get_mut(controller).ok_or_else(|| {
                let text = format!("--cgroup: the container has no cgroup of the controller {controller}");
                RuntimeError::invalid("--cgroup", text)
            })?;
            directory.push(&sub.path);
        }
        if sub.controllers.is_empty() {
            directories.values_mut().for_each(|directory| directory.push(&sub.path));
        }
    }
    let below = match group.open_dir().and_then(|_| directories.remove("")) {
        Some(unified) => open(unified, OFlags::RDONLY | OFlags::DIRECTORY).ok(),
        None => None,
    };
    let mut paths: Vec<_> = directories.into_values().collect();
    paths.sort_unstable();
    paths.dedup();
    let entries = paths
        .into_iter()
        .map(|path| match open(path.join("tasks"), OFlags::WRONLY) {
            // The unified hierarchy beside those of version 1.
            Err(error) if error.errno == Some(Errno::NOENT.raw_os_error()) => {
                open(path.join("cgroup.procs"), OFlags::WRONLY)
            }
            other => other,
        })
        .collect::<Result<_, _>>()?;
    Ok(Join {
        entries,
        group: Some(group),
        below,
        ..Join::default()
    })
}

fn open_v2<'a>(
    (group, scope): (&'a Cgroup, Option<&'a Scope>),
    below: &[SubCgroup],
    (init, moment): (i32, Moment),
) -> Result<Join<'a>, RuntimeError> {
    if below.iter().any(|sub| !sub.controllers.is_empty()) {
        return Err(RuntimeError::invalid(
            "--cgroup",
            "--cgroup: version 2 has no groups of single controllers",
        ));
    }
    let own = group.directories().into_values().next();
    let own = own.ok_or_else(|| RuntimeError::system("cgroup", "find the cgroup", Errno::NOENT))?;
    let place = match below.first() {
        Some(sub) => Some(own.join(&sub.path)),
        None => place_beside_init(&own, group.path(), init),
    };
    if let Some(scope) = scope.filter(|scope| scope.instance == Instance::User) {
        let below = place.iter().filter_map(|path| path.strip_prefix(&own).ok()).next();
        let below = below
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        return Ok(Join {
            guided: Some(Guided { group, scope, below }),
            ..Join::default()
        });
    }
    let path = match place {
        Some(path) => path,
        None if moment == Moment::Birth => {
            return Ok(Join {
                group: Some(group),
                ..Join::default()
            });
        }
        None => own,
    };
    if moment == Moment::Later {
        return Ok(Join {
            entries: vec![open(path.join("cgroup.procs"), OFlags::WRONLY)?],
            ..Join::default()
        });
    }
    Ok(Join {
        below: Some(open(path, OFlags::RDONLY | OFlags::DIRECTORY)?),
        ..Join::default()
    })
}

/// Where init is, if the group takes no processes itself because it hands
/// controllers down, as under a systemd inside; none if it takes them.
fn place_beside_init(own: &Path, group: &str, init: i32) -> Option<PathBuf> {
    let handed_down = std::fs::read_to_string(own.join("cgroup.subtree_control")).unwrap_or_default();
    if handed_down.trim().is_empty() {
        return None;
    }
    let table = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap_or_default();
    below_group(group, &table).map(|below| own.join(below))
}

/// The path below the group in a `/proc/<pid>/cgroup` of version 2.
fn below_group(group: &str, table: &str) -> Option<PathBuf> {
    let path = table.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = path.strip_prefix(group.trim_end_matches('/'))?.strip_prefix('/')?;
    // SECURITY: a process outside of the group would show with dots.
    let is_below = !below.is_empty()
        && Path::new(below)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    is_below.then(|| below.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_controllers_or_stand_alone() {
        let parse = |values: &[&str]| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            SubCgroup::parse_all(&values).map_err(|error| error.message())
        };
        let sub = |controllers: &[&str], path: &str| SubCgroup {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            path: path.into(),
        };
        assert_eq!(parse(&[]), Ok(vec![]));
        assert_eq!(parse(&["/a/b"]), Ok(vec![sub(&[], "a/b")]));
        let two = Ok(vec![sub(&["cpu", "memory"], "x"), sub(&["pids"], "y")]);
        assert_eq!(parse(&["cpu,memory:x", "pids:/y"]), two);
        let check = |values: &[&str], expected: &str| {
            assert_eq!(parse(values), Err(expected.to_owned()));
        };
        check(&["../x"], "--cgroup \"../x\": `..` components are not allowed in ../x");
        check(&["cpu,:x"], "--cgroup \"cpu,:x\": a controller is empty");
        check(&["cpu:x", "cpu:y"], "--cgroup \"cpu:y\": a controller is given twice");
        check(
            &["cpu:x", "y"],
            "--cgroup \"y\": one of several needs controllers in front",
        );
    }

    #[test]
    fn init_of_a_supervisor_is_found_below_the_group() {
        let check = |table: &str, expected: Option<&str>| {
            assert_eq!(below_group("/a/b", table), expected.map(PathBuf::from), "{table}");
        };
        check("0::/a/b/init.scope\n", Some("init.scope"));
        check("1:name=systemd:/x\n0::/a/b/c/d\n", Some("c/d"));
        check("0::/a/b\n", None);
        check("0::/a/bc/d\n", None);
        check("0::/a/b/../../x\n", None);
        check("0::/../x\n", None);
    }

    #[test]
    fn only_a_group_that_hands_controllers_down_refuses_processes() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("cgroup.subtree_control");
        assert_eq!(place_beside_init(directory.path(), "/a", 1), None);
        std::fs::write(&file, "\n").expect("a file");
        assert_eq!(place_beside_init(directory.path(), "/a", 1), None);
    }
}
