//! Users by Docker's `-u` syntax, looked up in the container's own files.
//!
//! COMPAT: the order of the checks and the wording follow Docker; pinned by
//! the table in the tests below.

use crate::{ErrorKind, RuntimeError};
use rustix::fs::{FileType, Mode, OFlags};
use wharf_sys::path::RootDir;

/// Largest id Docker accepts.
const MAX_ID: u32 = i32::MAX as u32;
/// A passwd or group file beyond this is not read.
const MAX_FILE: usize = 16 << 20;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The two files, as text.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Accounts {
    /// Reads both files below `root`; a missing one is empty.
    pub(crate) fn read(root: &RootDir) -> Result<Self, RuntimeError> {
        Ok(Self {
            passwd: read_text(root, "/etc/passwd")?,
            group: read_text(root, "/etc/group")?,
        })
    }

    fn users(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields
                .next()
                .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
            let _password = fields.next()?;
            let uid = fields.next()?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or_default();
            Some(PasswdEntry { name, uid, gid, home })
        })
    }

    fn groups(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields
                .next()
                .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
            let _password = fields.next()?;
            let gid = fields.next()?.parse().ok()?;
            Some(GroupEntry {
                name,
                gid,
                members: fields.next().unwrap_or_default(),
            })
        })
    }

    /// The home directory of a user id, `/` if it has none.
    pub(crate) fn home_of(&self, uid: u32) -> String {
        let home = self
            .users()
            .find(|user| user.uid == uid)
            .map(|user| user.home)
            .unwrap_or_default();
        if home.is_empty() {
            "/".to_owned()
        } else {
            home.to_owned()
        }
    }

    /// Resolves `name|uid[:group|gid]`; the empty text is user 0.
    pub(crate) fn resolve(&self, text: &str) -> Result<Identity, RuntimeError> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let number = parse_id(user);
        let entry = self.users().find(|entry| match (user, &number) {
            ("", _) => entry.uid == 0,
            (_, Some(number)) => i64::from(entry.uid) == *number,
            (name, None) => entry.name == name,
        });
        let mut identity = Identity {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
        };
        match (&entry, number) {
            (Some(entry), _) => {
                identity.uid = entry.uid;
                identity.gid = entry.gid;
                entry.home.clone_into(&mut identity.home);
            }
            (None, Some(number)) => identity.uid = in_range(number)?,
            (None, None) if user.is_empty() => {}
            (None, None) => {
                let text = format!("unable to find user {user}: no matching entries in passwd file");
                return Err(RuntimeError::new(ErrorKind::Invalid, "process.user", text));
            }
        }
        if !group.is_empty() {
            identity.gid = self.group_id(group)?;
        } else if let Some(entry) = &entry {
            identity.groups = self
                .groups()
                .filter(|group| group.members.split(',').any(|member| member.trim() == entry.name))
                .map(|group| group.gid)
                .collect();
        }
        Ok(identity)
    }

    /// The id of a group given by name or number.
    pub(crate) fn group_id(&self, group: &str) -> Result<u32, RuntimeError> {
        let number = parse_id(group);
        let entry = self.groups().find(|entry| match number {
            Some(number) => i64::from(entry.gid) == number,
            None => entry.name == group,
        });
        match (entry, number) {
            (Some(entry), _) => Ok(entry.gid),
            (None, Some(number)) => in_range(number),
            (None, None) => Err(RuntimeError::new(
                ErrorKind::Invalid,
                "process.user",
                format!("unable to find group {group}: no matching entries in group file"),
            )),
        }
    }
}

fn parse_id(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn in_range(number: i64) -> Result<u32, RuntimeError> {
    u32::try_from(number).ok().filter(|id| *id <= MAX_ID).ok_or_else(|| {
        RuntimeError::new(
            ErrorKind::Invalid,
            "process.user",
            "uids and gids must be in range 0-2147483647",
        )
    })
}

/// SECURITY: the file is the container's: it may be a link, a pipe, endless.
fn read_text(root: &RootDir, path: &str) -> Result<String, RuntimeError> {
    let failed = |errno| RuntimeError::system("process.user", format!("read {path}"), errno);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match root.open_at(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(RuntimeError::invalid(
            "process.user",
            format!("{path} is not a regular file"),
        ));
    }
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 8192];
    loop {
        match rustix::io::read(&fd, &mut chunk).map_err(failed)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ if bytes.len() > MAX_FILE => {
                return Err(RuntimeError::invalid("process.user", format!("{path} is too large")));
            }
            length => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# comment\nwww-data:x:33:33::/var/www:/bin/false\n\
                     broken line\nnohome:x:7:8::\n1001:x:5:5::/five:\n"
                .into(),
            group: "root:x:0:root\nwheel:x:10:root\nwww-data:x:33:\nusers:x:100:www-data,other\n".into(),
        }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let check = |text: &str, uid, gid, groups: &[u32], home: &str| {
            let expected = Identity {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.into(),
            };
            assert_eq!(accounts().resolve(text), Ok(expected), "{text}");
        };
        check("", 0, 0, &[0, 10], "/root");
        check("root", 0, 0, &[0, 10], "/root");
        check("33", 33, 33, &[100], "/var/www");
        check("www-data", 33, 33, &[100], "/var/www");
        check("www-data:users", 33, 100, &[], "/var/www");
        check("www-data:0", 33, 0, &[], "/var/www");
        check("1000:1000", 1000, 1000, &[], "/");
        check("1000", 1000, 0, &[], "/");
        check("1001", 1001, 0, &[], "/");
        check(":users", 0, 100, &[], "/root");
    }

    #[test]
    fn unknown_names_fail_with_dockers_words() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                accounts().resolve(text).map_err(|e| e.message()),
                Err(expected.to_owned()),
                "{text}"
            );
        };
        check(
            "nosuch",
            "unable to find user nosuch: no matching entries in passwd file",
        );
        check(
            "root:nosuch",
            "unable to find group nosuch: no matching entries in group file",
        );
        check("4294967296", "uids and gids must be in range 0-2147483647");
        check("-1", "uids and gids must be in range 0-2147483647");
    }

    #[test]
    fn a_user_without_home_lives_in_the_root() {
        assert_eq!(accounts().home_of(7), "/");
        assert_eq!(accounts().home_of(33), "/var/www");
        assert_eq!(accounts().home_of(12345), "/");
    }
}
