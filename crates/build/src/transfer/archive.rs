//! Archives that ADD unpacks.

use std::fs::File;
use std::io::Seek;
use std::os::fd::BorrowedFd;

use wharf_store::extract::{Devices, ExtractOptions, Owner, Purpose, extract};

use crate::BuildError;

/// Whether the file is a tar, plain or compressed. Its name does not matter; a compressed file
/// that is no tar is none.
pub(crate) fn is_archive(file: &mut File) -> Result<bool, BuildError> {
    let probed = probe(file);
    file.rewind()
        .map_err(|error| BuildError::internal("rewinding a source of ADD", error))?;
    Ok(probed)
}

/// Whether the first block is a tar header: anything that cannot be read is no archive.
fn probe(file: &File) -> bool {
    let Ok((_, plain)) = wharf_store::decompress(file) else {
        return false;
    };
    let mut archive = tar::Archive::new(plain);
    let Ok(mut entries) = archive.entries() else {
        return false;
    };
    matches!(entries.next(), Some(Ok(_)))
}

/// Unpacks into an open directory. SECURITY: the archive's names and links cannot leave it.
pub(crate) fn unpack(
    file: &File,
    name: &str,
    into: BorrowedFd<'_>,
    owner: Option<(u32, u32)>,
) -> Result<(), BuildError> {
    let failed = |what: &str| format!("ADD failed: {what} {name}");
    let (_, plain) = wharf_store::decompress(file)
        .map_err(|error| BuildError::invalid(failed("decompressing")).with_source(error))?;
    let options = ExtractOptions {
        purpose: Purpose::Files,
        owner: match owner {
            Some((uid, gid)) => Owner::Fixed { uid, gid },
            None => Owner::Archived,
        },
        devices: Devices::Harmless,
        keep_types: false,
    };
    extract(into, plain, &options).map(drop).map_err(|error| {
        let message = format!("ADD failed: unpacking {name}: {error}");
        match error.is_refusal() {
            true => BuildError::invalid(message).with_source(error),
            false => BuildError::internal(message, error),
        }
    })
}
