//! Unpacking of untrusted tars below a directory, with the kernel refusing every way out of it.

use std::io::Read;
use std::os::fd::BorrowedFd;

/// What to do with entries.
#[derive(Clone, Debug, Default)]
pub struct ExtractOptions {
    /// How `.wh.` entries are taken.
    pub whiteouts: Whiteouts,
    /// Whose the new files are.
    pub owner: Owner,
    /// Whether device nodes may be made (never for a user's archive in a rootless engine).
    pub devices: Devices,
    /// Refuse to replace a directory with something else, and something else with a directory
    /// (`docker cp`'s noOverwriteDirNonDir).
    pub keep_types: bool,
}

/// How `.wh.` entries are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whiteouts {
    /// As marks of a layer, written in overlay's own form: device 0/0 and the opaque attribute.
    #[default]
    Overlay,
    /// As ordinary files (`docker cp`, `ADD`).
    AsFiles,
}

/// Whose the new files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The numbers in the archive.
    #[default]
    Archived,
    /// Always these.
    Fixed { uid: u32, gid: u32 },
}

/// What happens to device nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// They are made (layers: a container's device cgroup decides about their use; overlay mounts are `nodev` on the host's side).
    #[default]
    Create,
    /// They are left out.
    Skip,
    /// They are an error.
    Refuse,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// An entry that is refused, or that the kernel would not make.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// SECURITY: a name or link that leaves the directory, or an object the policy forbids.
    #[error("archive entry {name:?} refused: {reason}")]
    Refused { name: String, reason: &'static str },
    /// Not a tar, or a damaged one.
    #[error("archive is damaged: {reason}")]
    Damaged { reason: String },
    /// A system call failed.
    #[error("{action} archive entry {name:?}")]
    Entry {
        name: String,
        action: &'static str,
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

/// Unpacks a plain tar below `root`; symbolic links on the way are followed inside `root` only.
pub fn extract(root: BorrowedFd<'_>, tar: impl Read, options: &ExtractOptions) -> Result<Extracted, ExtractError> {
    let _ = (root, tar, options);
    todo!()
}
