//! `cp`: what is at a path of a container, and tar streams out of it and into it.
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;
use wharf_store::extract::{ExtractOptions, Owner, Purpose, extract};
use wharf_sys::path::RootDir;

use super::rootfs::{self, Ending, Place, clean, place};
use super::{ByteSource, ByteStream};
use crate::Shared;
use crate::error::{Error, Result};
use crate::model::requests::{PathStat, PutArchive};
use crate::model::{ContainerRecord, Timestamp};
use crate::volumes::Hold;

/// Pieces of a stream that may wait for a slow client.
const QUEUED_PIECES: usize = 8;
const PIECE_BYTES: usize = 128 << 10;
/// SECURITY: a container's passwd file may be anything; this much of it is read.
const MAX_PASSWD_BYTES: u64 = 1 << 20;

/// What is at `path`. Blocking.
pub(crate) fn stat(shared: &Shared, record: &ContainerRecord, path: &Path) -> Result<PathStat> {
    Ok(find(shared, record, path)?.stat)
}

/// What is at `path`, and a stream that packs it. Blocking; the stream is filled by a thread of its own.
/// `hold` is what must stay mounted until the stream ends.
pub(crate) fn pack(
    shared: &Shared,
    record: &ContainerRecord,
    path: &Path,
    hold: Option<Hold>,
) -> Result<(PathStat, ByteStream)> {
    let found = find(shared, record, path)?;
    let stat = found.stat.clone();
    let name = if stat.name == "/" {
        ".".to_owned()
    } else {
        stat.name.clone()
    };
    let stream = produce("pack", move |out| {
        let root = found
            .place
            .root
            .open_at("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let packed = wharf_store::pack_path(root.as_fd(), &found.place.path, &name, out).map_err(io::Error::other);
        drop(hold);
        packed
    })?;
    Ok((stat, stream))
}

/// Unpacks `tar` into the directory `path`. Blocking.
pub(crate) fn unpack(
    shared: &Shared,
    record: &ContainerRecord,
    path: &Path,
    options: PutArchive,
    tar: ByteSource,
) -> Result<()> {
    let (clean, _) = clean(path)?;
    let place = place(shared, record, &clean)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = match place.root.open_at(&place.path, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOTDIR) => return Err(Error::invalid("extraction point is not a directory")),
        Err(error) => return Err(missing(record, path, error)),
    };
    if !place.writable {
        let what = if place.in_mount {
            "mounted volume is marked read-only"
        } else {
            "container rootfs is marked read-only"
        };
        return Err(Error::invalid(what)); // COMPAT: 400, as Docker 29 answers
    }
    let owner = if options.copy_uid_gid {
        owner_of(shared, record)?
    } else {
        Owner::Archived
    };
    let how = ExtractOptions {
        purpose: Purpose::Files,
        owner,
        keep_types: options.no_overwrite_dir_non_dir,
        ..ExtractOptions::default()
    };
    let unreadable = |e: io::Error| Error::invalid("the archive cannot be read").with_source(e);
    let (_, plain) = wharf_store::decompress(tar).map_err(unreadable)?;
    extract(dir.as_fd(), plain, &how).map(drop).map_err(|error| {
        let message = format!("Error processing tar file: {error}");
        let kind = if error.is_refusal() {
            Error::invalid(message)
        } else {
            Error::internal(message)
        };
        kind.with_source(error)
    })
}

struct Found {
    place: Place,
    stat: PathStat,
}

fn find(shared: &Shared, record: &ContainerRecord, path: &Path) -> Result<Found> {
    let (clean, ending) = clean(path)?;
    let mut place = place(shared, record, &clean)?;
    let follow = if ending == Ending::Plain {
        OFlags::NOFOLLOW
    } else {
        OFlags::empty()
    };
    let open = |flags: OFlags| place.root.open_at(&place.path, OFlags::PATH | flags, Mode::empty());
    let fd = open(follow).map_err(|e| missing(record, path, e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| missing(record, path, e))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if ending != Ending::Plain && kind != FileType::Directory {
        return Err(missing(record, path, Errno::NOTDIR));
    }
    let link_target = if kind == FileType::Symlink {
        link_target(&fd, &clean)
    } else {
        String::new()
    };
    let name = match (ending, clean.file_name()) {
        (Ending::Dot, _) => ".".to_owned(),
        (_, Some(name)) => name.to_string_lossy().into_owned(),
        (_, None) => "/".to_owned(),
    };
    if ending != Ending::Plain {
        // What a trailing slash led to is packed, not the link itself.
        place.path = place.path.join(".");
    }
    let stat = PathStat {
        name,
        size: stat.st_size,
        mode: go_mode(&stat),
        mtime: mtime(&stat),
        link_target,
    };
    Ok(Found { place, stat })
}

/// COMPAT: docker cp matches on `Could not find the file`.
fn missing(record: &ContainerRecord, path: &Path, error: Errno) -> Error {
    let message = format!(
        "Could not find the file {} in container {}",
        path.display(),
        record.name
    );
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::not_found(message).with_source(error),
        _ => Error::internal(format!("opening {} in container {}", path.display(), record.name)).with_source(error),
    }
}

/// A link's target as an absolute path of the container.
fn link_target(link: &OwnedFd, path: &Path) -> String {
    let Ok(target) = rustix::fs::readlinkat(link, "", Vec::new()) else {
        return String::new();
    };
    let target = PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes()));
    let whole = path.parent().unwrap_or(Path::new("/")).join(target);
    clean(&whole)
        .map(|(clean, _)| clean.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn mtime(stat: &Stat) -> Timestamp {
    #[allow(clippy::unnecessary_cast)] // the fields' types differ by architecture
    Timestamp::from_nanos(
        (stat.st_mtime as i64)
            .saturating_mul(1_000_000_000)
            .saturating_add(stat.st_mtime_nsec as i64),
    )
}

/// Go's `os.FileMode` of an `st_mode`: the type and the special bits have other places.
fn go_mode(stat: &Stat) -> u32 {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special
        .iter()
        .filter(|(unix, _)| stat.st_mode & unix != 0)
        .map(|(_, go)| go)
        .sum::<u32>();
    (stat.st_mode & 0o777) | kind | special
}

/// The container's user as numbers, names looked up in its own passwd and group files.
fn owner_of(shared: &Shared, record: &ContainerRecord) -> Result<Owner> {
    let root = rootfs::whole(shared, record)?;
    let (user, group) = record.config.user.split_once(':').unwrap_or((&record.config.user, ""));
    let mut owner = (0, 0);
    if !user.is_empty() {
        let row = lookup(&root, "/etc/passwd", user, 2)?;
        let number = user.parse().ok().or(row.as_ref().map(|r| r.0));
        let unknown = || {
            Error::invalid(format!(
                "unable to find user {user}: no matching entries in passwd file"
            ))
        };
        owner = (number.ok_or_else(unknown)?, row.map_or(0, |r| r.1));
    }
    if !group.is_empty() {
        let row = lookup(&root, "/etc/group", group, 2)?;
        let unknown = || {
            Error::invalid(format!(
                "unable to find group {group}: no matching entries in group file"
            ))
        };
        owner.1 = group.parse().ok().or(row.map(|r| r.0)).ok_or_else(unknown)?;
    }
    Ok(Owner::Fixed {
        uid: owner.0,
        gid: owner.1,
    })
}

/// The number in `column` and the one after it, of the row of a passwd or group file whose name or number is `wanted`.
fn lookup(root: &RootDir, file: &str, wanted: &str, column: usize) -> Result<Option<(u32, u32)>> {
    let fd = match root.open_at(file, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::internal(format!("reading {file} of the container")).with_source(error)),
    };
    let mut text = String::new();
    let read = io::Read::take(std::fs::File::from(fd), MAX_PASSWD_BYTES);
    io::Read::read_to_string(&mut io::BufReader::new(read), &mut text)
        .map_err(|e| Error::invalid(format!("{file} of the container is no text")).with_source(e))?;
    let row = text
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f[0] == wanted || f.get(column) == Some(&wanted));
    let number = |f: &[&str], at: usize| f.get(at).and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(row.map(|f| (number(&f, column), number(&f, column + 1))))
}

/// Runs `work` on a thread of its own, its output as a bounded stream. An error of `work` ends the stream with it.
pub(crate) fn produce(
    name: &'static str,
    work: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Result<ByteStream> {
    let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
    let run = move || {
        let mut out = io::BufWriter::with_capacity(PIECE_BYTES, Pieces { sender: sender.clone() });
        let result = work(&mut out).and_then(|()| out.flush());
        if let Err(error) = result
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let message = format!("the archive broke off: {error}");
            let _ = sender.blocking_send(Err(Error::internal(message).with_source(error))); // a gone client does not mind
        }
    };
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map_err(|e| Error::unavailable("no thread for a tar stream").with_source(e))?;
    Ok(receiver)
}

struct Pieces {
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.sender
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bytes of a tree's own files, links not followed; what cannot be read counts nothing.
pub(crate) fn tree_bytes(dir: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(dir, flags, Mode::empty()) else {
        return 0;
    };
    bytes_below(dir)
}

fn bytes_below(dir: OwnedFd) -> u64 {
    let Ok(entries) = rustix::fs::Dir::read_from(&dir) else {
        return 0;
    };
    let mut total = 0u64;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if let Ok(below) = rustix::fs::openat(&dir, name, flags, Mode::empty()) {
                    total += bytes_below(below);
                }
            }
            FileType::RegularFile => total += u64::try_from(stat.st_size).unwrap_or(0),
            _ => {}
        }
    }
    total
}
