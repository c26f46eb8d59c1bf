//! Files of this machine as a tar archive: sorted by name, without sockets. Files that share an
//! inode are packed one by one.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use crate::build_context::Ignore;

/// Who owns the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Root, as in every build context.
    Root,
    /// Who owns the files here.
    Kept,
}

/// Appends everything below `root` that is not excluded, owned by root.
pub(crate) fn append_context<W: Write>(archive: &mut Builder<W>, root: &Path, ignore: &Ignore) -> io::Result<()> {
    append_children(archive, root, "", (ignore, Owner::Root))
}

/// Appends a file, or a directory and everything below it, under another name.
pub(crate) fn append_tree<W: Write>(archive: &mut Builder<W>, path: &Path, name: &str) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path).map_err(|error| named(error, path))?;
    append_entry(archive, path, name, (&metadata, Owner::Kept)).map_err(|error| named(error, path))?;
    if metadata.is_dir() {
        append_children(archive, path, &format!("{name}/"), (&Ignore::default(), Owner::Kept))?;
    }
    Ok(())
}

fn append_children<W: Write>(
    archive: &mut Builder<W>,
    dir: &Path,
    prefix: &str,
    (ignore, owner): (&Ignore, Owner),
) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|error| named(error, dir))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let relative = format!("{prefix}{}", name.to_string_lossy());
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).map_err(|error| named(error, &path))?;
        let excluded = ignore.excludes(&relative);
        if !excluded {
            append_entry(archive, &path, &relative, (&metadata, owner)).map_err(|error| named(error, &path))?;
        }
        if metadata.is_dir() && (!excluded || ignore.has_exceptions()) {
            append_children(archive, &path, &format!("{relative}/"), (ignore, owner))?;
        }
    }
    Ok(())
}

fn append_entry<W: Write>(
    archive: &mut Builder<W>,
    path: &Path,
    relative: &str,
    (metadata, owner): (&Metadata, Owner),
) -> io::Result<()> {
    let kind = metadata.file_type();
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    let (uid, gid) = match owner {
        Owner::Root => (0, 0),
        Owner::Kept => (metadata.uid(), metadata.gid()),
    };
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    if kind.is_file() {
        header.set_size(metadata.len());
        header.set_entry_type(EntryType::Regular);
        // A file that grows meanwhile must not break the archive.
        let content = io::Read::take(File::open(path)?, metadata.len());
        return archive.append_data(&mut header, relative, content);
    }
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return archive.append_link(&mut header, relative, fs::read_link(path)?);
    }
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return archive.append_data(&mut header, format!("{relative}/"), io::empty());
    }
    if kind.is_fifo() {
        header.set_entry_type(EntryType::Fifo);
        return archive.append_data(&mut header, relative, io::empty());
    }
    if kind.is_block_device() || kind.is_char_device() {
        let device = metadata.rdev();
        header.set_entry_type(if kind.is_block_device() {
            EntryType::Block
        } else {
            EntryType::Char
        });
        header.set_device_major(rustix::fs::major(device))?;
        header.set_device_minor(rustix::fs::minor(device))?;
        return archive.append_data(&mut header, relative, io::empty());
    }
    Ok(())
}

/// Appends a file from memory.
pub(crate) fn append_bytes<W: Write>(archive: &mut Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    header.set_entry_type(EntryType::Regular);
    archive.append_data(&mut header, name, bytes)
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("packing {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn excluded_directories_keep_their_exceptions() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("n/deep")).unwrap();
        for name in ["a.md", "b", "n/deep/z", "n/x"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("l")).unwrap();
        let ignore = Ignore::parse("*.md\nn/*\n!n/deep").unwrap();
        let mut archive = Builder::new(Vec::new());
        append_context(&mut archive, dir.path(), &ignore).unwrap();
        let bytes = archive.into_inner().unwrap();
        let mut found = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(entry.header().uid().unwrap(), 0);
            found.push(format!("{}={text}", entry.path().unwrap().display()));
        }
        assert_eq!(found, ["b=b", "l=", "n/=", "n/deep/=", "n/deep/z=n/deep/z"]);
    }
}
