//! Unpacking of untrusted tars below a directory, with the kernel refusing every way out of it.
//!
//! SECURITY: names with `..`, absolute names and hard links to such are refused; every parent directory is opened
//! with openat2 relative to the root; objects are made with `O_EXCL` or by `*at` calls on that parent, never through
//! an existing name. The classes are tested in `tests/hostile_tars.rs`.

mod apply;
mod reader;

use std::io::Read;
use std::os::fd::BorrowedFd;

pub(crate) use reader::{Kind, Member, Reader};

/// What to do with entries.
#[derive(Clone, Debug, Default)]
pub struct ExtractOptions {
    /// What the archive is, which decides about whiteouts and about symbolic links on the way.
    pub purpose: Purpose,
    /// Whose the new files are.
    pub owner: Owner,
    /// Whether device nodes may be made.
    pub devices: Devices,
    /// Refuse to replace a directory with something else (`docker cp`'s noOverwriteDirNonDir, which also refuses
    /// the reverse).
    pub keep_types: bool,
}

/// What an archive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A layer: `.wh.` entries become overlay's own marks; a symbolic link on the way that leads out is refused.
    #[default]
    Layer,
    /// Files for an existing tree (`docker cp`, `ADD`): `.wh.` entries are ordinary files; symbolic links on the way
    /// are followed inside the tree, as a process in the container would.
    Files,
}

/// Whose the new files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The numbers in the archive.
    #[default]
    Archived,
    /// Always these.
    Fixed {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// What happens to device nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// The harmless ones (null, zero, full, random, urandom, tty, console, ptmx, fuse, tun) are made. Others below
    /// `dev/` are left out, because every container covers that directory; anywhere else they are refused.
    #[default]
    Harmless,
    /// All are left out (engines in a user namespace cannot make them).
    Skip,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of file content, holes included.
    pub bytes: u64,
}

/// An entry that is refused, or that the kernel would not make.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// SECURITY: a name or link that leaves the directory, or an object the policy forbids.
    #[error("archive entry {name:?} refused: {reason}")]
    Refused {
        /// The entry.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// Not a tar, or a damaged one.
    #[error("archive is damaged: {reason}")]
    Damaged {
        /// How.
        reason: String,
    },
    /// A system call failed.
    #[error("{action} archive entry {name:?}")]
    Entry {
        /// The entry.
        name: String,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The bytes of the archive could not be read.
    #[error("reading archive")]
    Read(#[source] std::io::Error),
}

impl ExtractError {
    /// Whether the archive is to blame, not the machine.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ExtractError::Refused { .. } | ExtractError::Damaged { .. })
    }
}

/// Unpacks a plain tar below `root`, an opened directory. Times of directories are set at the end. On failure, what
/// was made so far stays: layers are unpacked into a directory that is then thrown away.
pub fn extract(root: BorrowedFd<'_>, tar: impl Read, options: &ExtractOptions) -> Result<Extracted, ExtractError> {
    let mut reader = Reader::new(tar);
    let mut apply = apply::Apply::new(root, options.clone());
    while let Some(member) = reader.next()? {
        apply.member(&member, &mut reader)?;
    }
    let extracted = apply.finish()?;
    drain(reader.into_inner())?;
    Ok(extracted)
}

/// Reads what follows the end marker, so that whoever hashes the stream sees all of it.
fn drain(mut source: impl Read) -> Result<(), ExtractError> {
    std::io::copy(&mut source, &mut std::io::sink())
        .map(drop)
        .map_err(ExtractError::Read)
}
