//! The value of `--chown`: numbers, or names of the image that is built.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use rustix::fs::{Mode, OFlags};
use wharf_sys::path::RootDir;

use crate::BuildError;

/// A passwd or group file is not read past this.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Resolves `user[:group]` in the root's own `/etc/passwd` and `/etc/group`. Without a group the
/// user's word is looked up as a group, as Docker does.
pub(crate) fn parse_chown(text: &str, root: &RootDir) -> Result<(u32, u32), BuildError> {
    let (user, group) = match text.split_once(':') {
        None => (text, text),
        Some((user, "")) => (user, user),
        Some((user, group)) => (user, group),
    };
    if user.is_empty() || group.contains(':') {
        return Err(BuildError::invalid(format!("invalid chown string format: {text}")));
    }
    let uid = look_up(user, root, "/etc/passwd")?.ok_or_else(|| unknown("uid", "user", user))?;
    let gid = look_up(group, root, "/etc/group")?.ok_or_else(|| unknown("gid", "group", group))?;
    Ok((uid, gid))
}

fn unknown(id: &str, kind: &str, name: &str) -> BuildError {
    BuildError::invalid(format!(
        "unable to convert uid/gid chown string to host mapping: can't find {id} for {kind} {name}: no such {kind}: {name}"
    ))
}

/// The number of a name: itself, or the third field of its line.
fn look_up(name: &str, root: &RootDir, file: &str) -> Result<Option<u32>, BuildError> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let Ok(fd) = root.open_at(file, flags, Mode::empty()) else {
        return Ok(None);
    };
    for line in BufReader::new(File::from(fd).take(MAX_FILE_BYTES)).split(b'\n') {
        let line = line.map_err(|error| BuildError::internal(format!("reading {file}"), error))?;
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split(':');
        if fields.next() == Some(name) {
            return Ok(fields.nth(1).and_then(|number| number.trim().parse().ok()));
        }
    }
    Ok(None)
}
