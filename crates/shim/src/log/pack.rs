//! Rotated files, compressed: by whom, under which name, and how they are read.
//!
//! ```text
//! <log>.2        being compressed by a process of its own into
//! <log>.pack     which is then renamed to
//! <log>.2.gz     and <log>.2 is removed
//! ```
//!
//! Where both `<log>.2` and `<log>.2.gz` exist the shim died between the last two steps; the first
//! counts, and the step is done again. Which file it was made from is in the gzip header's comment,
//! so that a reader in the middle of that knows where it stands.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use flate2::GzBuilder;
use flate2::bufread::GzDecoder;
use rustix::fs::{Mode, OFlags};

const COMMENT: &str = "of ";

/// The name of the compressed form of a file.
pub(super) fn packed_name(path: &Path) -> PathBuf {
    with_suffix(path, ".gz")
}

/// Where the compressed form of a log's file grows.
pub(super) fn unfinished_name(log: &Path) -> PathBuf {
    with_suffix(log, ".pack")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Which file something was made from: its inode, and size and time of the last change against its reuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Of an open file.
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        Self(format!(
            "{}-{}-{}.{}",
            stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec
        ))
    }

    /// As in a gzip header or on a command line.
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = |byte: u8| byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        (!text.is_empty() && text.bytes().all(is_valid)).then(|| Self(text.to_owned()))
    }

    /// For [`Origin::parse`].
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file to compress.
#[derive(Debug)]
pub struct PackJob {
    pub(super) source: PathBuf,
    pub(super) packed: PathBuf,
    pub(super) origin: Origin,
}

impl PackJob {
    /// The file.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Where its compressed form is to be written.
    pub fn packed(&self) -> &Path {
        &self.packed
    }

    /// Which file it is, for [`pack`].
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Compresses a file of a log.
///
/// # Errors
/// Those of reading and writing.
pub fn pack(source: &mut dyn io::Read, packed: &mut dyn io::Write, origin: &Origin) -> io::Result<()> {
    let mut encoder = GzBuilder::new()
        .comment(format!("{COMMENT}{}", origin.as_str()))
        .write(packed, flate2::Compression::new(4));
    let mut chunk = vec![0u8; 64 << 10];
    loop {
        match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => encoder.write_all(&chunk[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    encoder.finish()?.flush()
}

/// The file that a compressed one was made from.
pub(super) fn origin_of(packed: &OwnedFd) -> Option<Origin> {
    let mut head = [0u8; 256];
    let length = rustix::io::pread(packed, &mut head, 0).ok()?;
    let decoder = GzDecoder::new(&head[..length]);
    let comment = decoder.header()?.comment()?;
    Origin::parse(std::str::from_utf8(comment).ok()?.strip_prefix(COMMENT)?)
}

/// The content of a compressed file, in a file without a name. What is damaged ends it.
pub(super) fn unpack(packed: &OwnedFd, directory: &Path) -> io::Result<OwnedFd> {
    let source = File::from(rustix::io::fcntl_dupfd_cloexec(packed, 3)?);
    let mut decoder = GzDecoder::new(BufReader::with_capacity(64 << 10, source));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let on_disk = rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600));
    let plain = match on_disk {
        Ok(fd) if copy(&mut decoder, &fd).is_ok() => return Ok(fd),
        // A full disk, or a file system without nameless files: memory will do.
        _ => rustix::fs::memfd_create(c"wharf-log", rustix::fs::MemfdFlags::CLOEXEC)?,
    };
    let source = File::from(rustix::io::fcntl_dupfd_cloexec(packed, 3)?);
    rustix::fs::seek(&source, rustix::fs::SeekFrom::Start(0))?;
    copy(&mut GzDecoder::new(BufReader::new(source)), &plain)?;
    Ok(plain)
}

fn copy(decoder: &mut impl io::Read, plain: &OwnedFd) -> io::Result<()> {
    let mut chunk = vec![0u8; 64 << 10];
    loop {
        let length = match decoder.read(&mut chunk) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => length,
        };
        let mut rest = &chunk[..length];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(plain.as_fd(), rest))?;
            rest = &rest[written..];
        }
    }
}
