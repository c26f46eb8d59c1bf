//! Writing the id maps of a user namespace, with the privileges there are.
//!
//! One who has the right over all ids writes the maps; one who has not may map
//! the own id alone, and has the setuid programs of the package uidmap write
//! what `/etc/subuid` and `/etc/subgid` allow beside.

use crate::spec::IdMapping;
use crate::{ErrorKind, RuntimeError};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use wharf_sys::caps;

/// Which ids a map is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::User => "uid_map",
            Self::Group => "gid_map",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::User => "linux.uidMappings",
            Self::Group => "linux.gidMappings",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::User => "newuidmap",
            Self::Group => "newgidmap",
        }
    }
}

/// How a map gets written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By us.
    Direct,
    /// By us, after the namespace gave up setgroups(2) (user_namespaces(7)).
    WithoutGroups,
    /// By the setuid program.
    Program,
}

/// What we may do to ids.
#[derive(Debug, Clone, Copy)]
struct Rights {
    /// CAP_SETUID or CAP_SETGID in our own user namespace.
    over_all: bool,
    /// Our own id.
    own: u32,
}

/// Writes the id maps of a process's new user namespace.
pub(crate) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<(), RuntimeError> {
    let (effective, _, _) =
        caps::current().map_err(|errno| RuntimeError::system("user namespace", "read the capabilities", errno))?;
    let has = |number| effective & caps::bit(number) != 0;
    let users = Rights {
        over_all: has(CAP_SETUID),
        own: rustix::process::geteuid().as_raw(),
    };
    let groups = Rights {
        over_all: has(CAP_SETGID),
        own: rustix::process::getegid().as_raw(),
    };
    write_map(pid, Kind::User, uids, users)?;
    write_map(pid, Kind::Group, gids, groups)
}

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

fn write_map(pid: i32, kind: Kind, map: &[IdMapping], rights: Rights) -> Result<(), RuntimeError> {
    match choose(kind, map, rights) {
        Way::Direct => write_direct(pid, kind, map),
        Way::WithoutGroups => {
            let path = format!("{pid}/setgroups");
            wharf_sys::procfs::write(&path, b"deny").map_err(|errno| {
                RuntimeError::system(kind.field(), format!("{}: write /proc/{path}", kind.field()), errno)
            })?;
            write_direct(pid, kind, map)
        }
        Way::Program => run_program(pid, kind, map),
    }
}

fn choose(kind: Kind, map: &[IdMapping], rights: Rights) -> Way {
    let is_own = matches!(map, [only] if only.size == 1 && only.host_id == rights.own);
    match (rights.over_all, is_own, kind) {
        (true, _, _) | (_, true, Kind::User) => Way::Direct,
        (_, true, Kind::Group) => Way::WithoutGroups,
        _ => Way::Program,
    }
}

fn write_direct(pid: i32, kind: Kind, map: &[IdMapping]) -> Result<(), RuntimeError> {
    let path = format!("{pid}/{}", kind.file());
    let text = map.iter().fold(String::new(), |mut text, entry| {
        let _ = writeln!(text, "{} {} {}", entry.container_id, entry.host_id, entry.size);
        text
    });
    wharf_sys::procfs::write(&path, text.as_bytes())
        .map_err(|errno| RuntimeError::system(kind.field(), format!("{}: write /proc/{path}", kind.field()), errno))
}

fn run_program(pid: i32, kind: Kind, map: &[IdMapping]) -> Result<(), RuntimeError> {
    let (field, program) = (kind.field(), kind.program());
    let numbers = map
        .iter()
        .flat_map(|entry| [entry.container_id, entry.host_id, entry.size]);
    let output = Command::new(program)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        let text = format!("{field}: more than the own id is mapped, which needs {program} (package uidmap)");
        RuntimeError::system(field, text, errno)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().replace('\n', "; ");
    Err(RuntimeError::new(
        ErrorKind::System,
        field,
        format!("{field}: {program} failed: {said}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_follows_from_rights_and_map() {
        let entry = |container_id, host_id, size| IdMapping {
            container_id,
            host_id,
            size,
        };
        let check = |kind, map: &[IdMapping], over_all, expected| {
            assert_eq!(
                choose(kind, map, Rights { over_all, own: 1000 }),
                expected,
                "{kind:?} {map:?}"
            );
        };
        let (own, range) = ([entry(0, 1000, 1)], [entry(0, 1000, 1), entry(1, 100_000, 65_536)]);
        check(Kind::User, &own, false, Way::Direct);
        check(Kind::Group, &own, false, Way::WithoutGroups);
        check(Kind::Group, &own, true, Way::Direct);
        check(Kind::User, &range, false, Way::Program);
        check(Kind::Group, &range, false, Way::Program);
        check(Kind::User, &range, true, Way::Direct);
        check(Kind::User, &[entry(0, 1001, 1)], false, Way::Program);
    }
}
