//! `docker diff`: what an overlay upper directory changes.
//!
//! Only the upper directory is walked; the lower ones are asked for single names. COMPAT: a file that was copied up
//! but has kept its attributes, size and times is no change, and a directory is one if its attributes or anything
//! below it changed (containerd's double walk comes to the same).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::error::FileContext;
use crate::{Result, inroot, overlay};

/// How one path differs from the image. The numbers are Docker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was there before.
    Modified = 0,
    /// It is new.
    Added = 1,
    /// It is gone.
    Deleted = 2,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Absolute inside the container.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// The differences that an overlay upper directory makes to its lower directories (top first), sorted by path.
pub fn changes(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Change>> {
    let root = inroot::open_path(upper).at("opening", upper)?;
    let mut found = Vec::new();
    walk(
        root.as_fd(),
        Path::new("/"),
        Lowers {
            dirs: lowers,
            hidden: false,
        },
        &mut found,
    )
    .at("comparing", upper)?;
    found.sort();
    Ok(found)
}

/// The lower directories under one directory of the upper.
#[derive(Clone, Copy)]
struct Lowers<'a> {
    dirs: &'a [PathBuf],
    /// An opaque directory above hides them: what is not in the upper directory is gone.
    hidden: bool,
}

/// What a name is in the merged lower directories.
struct Below {
    stat: Stat,
    /// The directories that are merged under this name, top first; empty unless it is a directory.
    directories: Vec<PathBuf>,
}

fn walk(upper: BorrowedFd<'_>, path: &Path, lowers: Lowers<'_>, found: &mut Vec<Change>) -> io::Result<()> {
    for name in inroot::names(upper)? {
        let Some(stat) = inroot::stat(upper, &name)? else {
            continue;
        };
        let name = OsStr::from_bytes(&name);
        let full = path.join(name);
        let below = look_below(lowers.dirs, name)?;
        if overlay::is_whiteout(&stat) {
            if below.is_some() {
                found.push(Change {
                    path: full,
                    kind: ChangeKind::Deleted,
                });
            }
        } else if inroot::kind(&stat) == FileType::Directory {
            walk_directory(upper, name, &stat, (full, lowers.hidden), below, found)?;
        } else {
            match below {
                None => found.push(Change {
                    path: full,
                    kind: ChangeKind::Added,
                }),
                Some(below) if is_same_file(&stat, &below.stat) => {}
                Some(_) => found.push(Change {
                    path: full,
                    kind: ChangeKind::Modified,
                }),
            }
        }
    }
    Ok(())
}

fn walk_directory(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
    (full, hidden): (PathBuf, bool),
    below: Option<Below>,
    found: &mut Vec<Change>,
) -> io::Result<()> {
    let dir = inroot::enter(parent, name.as_bytes())?;
    let before = found.len();
    let lowers = Lowers {
        dirs: below.as_ref().map_or(&[][..], |b| &b.directories),
        hidden: hidden || overlay::is_opaque(dir.as_fd()),
    };
    if lowers.hidden {
        let kept: BTreeSet<Vec<u8>> = inroot::names(dir.as_fd())?.into_iter().collect();
        for gone in visible_names(lowers.dirs)?.difference(&kept) {
            let path = full.join(OsStr::from_bytes(gone));
            found.push(Change {
                path,
                kind: ChangeKind::Deleted,
            });
        }
    }
    walk(dir.as_fd(), &full, lowers, found)?;
    let kind = match &below {
        None => ChangeKind::Added,
        Some(b) if found.len() == before && has_same_attributes(stat, &b.stat) => return Ok(()),
        Some(_) => ChangeKind::Modified,
    };
    found.push(Change { path: full, kind });
    Ok(())
}

/// Finds a name in merged directories, top first.
fn look_below(lowers: &[PathBuf], name: &OsStr) -> io::Result<Option<Below>> {
    let mut below: Option<Below> = None;
    for lower in lowers {
        let path = lower.join(name);
        let stat = match rustix::fs::lstat(&path) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => continue,
            Err(e) => return Err(e.into()),
        };
        let is_directory = inroot::kind(&stat) == FileType::Directory;
        match &mut below {
            _ if overlay::is_whiteout(&stat) => break,
            None => {
                below = Some(Below {
                    stat,
                    directories: Vec::new(),
                })
            }
            Some(_) if !is_directory => break,
            Some(_) => {}
        }
        if !is_directory {
            break;
        }
        let opaque = overlay::is_opaque(inroot::open_path(&path)?.as_fd());
        if let Some(below) = &mut below {
            below.directories.push(path);
        }
        if opaque {
            break;
        }
    }
    Ok(below)
}

fn visible_names(lowers: &[PathBuf]) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for lower in lowers {
        names.extend(inroot::names(inroot::open_path(lower)?.as_fd())?);
    }
    let mut visible = BTreeSet::new();
    for name in names {
        if look_below(lowers, OsStr::from_bytes(&name))?.is_some() {
            visible.insert(name);
        }
    }
    Ok(visible)
}

fn has_same_attributes(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) == (b.st_mode, b.st_uid, b.st_gid, b.st_rdev)
}

fn is_same_file(a: &Stat, b: &Stat) -> bool {
    has_same_attributes(a, b)
        && a.st_size == b.st_size
        && (a.st_mtime, a.st_mtime_nsec) == (b.st_mtime, b.st_mtime_nsec)
}
