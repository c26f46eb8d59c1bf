//! Moving files for COPY and ADD: which files are meant, what they hold, how they are written.
//!
//! SECURITY: sources are made by whoever sent the context, targets by whoever made the base image.
//! Every path is resolved inside its own root by [`wharf_sys::path::RootDir`].

mod archive;
mod chmod;
mod copy;
mod owner;
mod source;

pub(crate) use archive::{is_archive, unpack};
pub(crate) use chmod::Chmod;
pub(crate) use copy::{Copier, CopyOptions, Ownership, create_file, ensure_dirs, is_dir, remove_leaf};
pub(crate) use owner::parse_chown;
pub(crate) use source::{Item, Origin, Source, is_regular, reopen};
