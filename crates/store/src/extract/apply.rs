//! Making the members of an archive, one at a time, below an opened root.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::{Devices, ExtractError, ExtractOptions, Extracted, Kind, Member, Owner, Purpose, Reader};
use crate::inroot::{self, Escape};
use crate::{attributes, overlay};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const BUFFER_BYTES: usize = 1 << 20;

/// The state of one unpacking.
pub(super) struct Apply<'a> {
    root: BorrowedFd<'a>,
    options: ExtractOptions,
    escape: Escape,
    /// The directory of the last member, which most members share.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose times are set once nothing is made in them any more.
    directory_times: Vec<(Vec<u8>, (i64, u32))>,
    buffer: Vec<u8>,
    done: Extracted,
}

impl<'a> Apply<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, options: ExtractOptions) -> Apply<'a> {
        let escape = match options.purpose {
            Purpose::Layer => Escape::Refuse,
            Purpose::Files => Escape::Confine,
        };
        let buffer = vec![0; BUFFER_BYTES];
        Apply {
            root,
            options,
            escape,
            parent: None,
            directory_times: Vec::new(),
            buffer,
            done: Extracted::default(),
        }
    }

    /// Makes one member, reading its data from `reader`.
    pub(super) fn member<R: io::Read>(&mut self, member: &Member, reader: &mut Reader<R>) -> Result<(), ExtractError> {
        let path = clean_path(&member.path).map_err(|reason| refused(member, reason))?;
        self.done.entries += 1;
        if path.is_empty() {
            return self.root_directory(member);
        }
        let (parent_path, name) = split(&path);
        if name.len() > 255 {
            return Err(refused(member, "a name longer than 255 bytes"));
        }
        let parent = self.parent(member, parent_path)?;
        let result = if self.options.purpose == Purpose::Layer && name.starts_with(WHITEOUT_PREFIX) {
            self.whiteout(member, parent.as_fd(), name)
        } else {
            self.object(member, &path, parent.as_fd(), name, reader)
        };
        self.parent = Some((parent_path.to_vec(), parent));
        result
    }

    /// Sets the times of directories and returns the totals.
    pub(super) fn finish(self) -> Result<Extracted, ExtractError> {
        for (path, mtime) in self.directory_times.iter().rev() {
            let entry = |e| entry_error(&String::from_utf8_lossy(path), "setting the times of", e);
            match inroot::open_dir(self.root, path, self.escape) {
                Ok(dir) => rustix::fs::futimens(&dir, &times(*mtime)).map_err(entry)?,
                // A later member replaced the directory.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(e) => return Err(entry(e)),
            }
        }
        Ok(self.done)
    }

    fn root_directory(&mut self, member: &Member) -> Result<(), ExtractError> {
        if member.kind != Kind::Directory {
            return Err(refused(member, "the root can only be a directory"));
        }
        if self.options.purpose == Purpose::Files {
            return Ok(());
        }
        let root = inroot::open_dir(self.root, b"", self.escape).map_err(|e| at(member, "opening", e))?;
        self.directory_attributes(member, &root)?;
        self.directory_times.push((Vec::new(), member.mtime));
        Ok(())
    }

    fn parent(&mut self, member: &Member, path: &[u8]) -> Result<OwnedFd, ExtractError> {
        if let Some((cached, fd)) = self.parent.take()
            && cached == path
        {
            return Ok(fd);
        }
        match inroot::open_dir(self.root, path, self.escape) {
            Err(Errno::NOENT) => self.make_parents(member, path),
            other => other.map_err(|e| self.parent_error(member, e)),
        }
    }

    fn parent_error(&self, member: &Member, error: Errno) -> ExtractError {
        match error {
            Errno::XDEV => refused(member, "a symbolic link on the way leads out of the archive's root"),
            Errno::LOOP => refused(member, "too many symbolic links on the way"),
            Errno::NOTDIR => refused(member, "its parent is not a directory"),
            e => at(member, "opening the parent of", e),
        }
    }

    /// Makes the missing directories of `path`, as root's with mode 0755, which is what an archive without them means.
    fn make_parents(&mut self, member: &Member, path: &[u8]) -> Result<OwnedFd, ExtractError> {
        let mut current = inroot::open_dir(self.root, b"", self.escape).map_err(|e| self.parent_error(member, e))?;
        let mut end = 0;
        for component in path.split(|&b| b == b'/') {
            end += component.len() + usize::from(end > 0);
            current = match inroot::open_dir(self.root, &path[..end], self.escape) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    let mode = Mode::from_raw_mode(0o755);
                    match rustix::fs::mkdirat(&current, OsStr::from_bytes(component), mode) {
                        Ok(()) => {}
                        // A dangling symbolic link: whatever it names is not in this archive.
                        Err(Errno::EXIST) => return Err(refused(member, "its parent is a dangling symbolic link")),
                        Err(e) => return Err(at(member, "making the parent of", e)),
                    }
                    self.own_parent(member, &current, component)?
                }
                Err(e) => return Err(self.parent_error(member, e)),
            };
        }
        Ok(current)
    }

    fn own_parent(&self, member: &Member, dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, ExtractError> {
        let made = inroot::enter(dir.as_fd(), name).map_err(|e| at(member, "opening the parent of", e))?;
        if let Owner::Fixed { uid, gid } = self.options.owner {
            rustix::fs::fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|e| at(member, "owning the parent of", e))?;
        }
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(|e| at(member, "making the parent of", e))?;
        Ok(made)
    }

    fn whiteout(&mut self, member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
        if name == OPAQUE_NAME {
            return overlay::make_opaque(parent).map_err(|e| at(member, "marking the parent opaque for", e));
        }
        if name.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT_PREFIX.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(member, "a whiteout of no name"));
        }
        // A whiteout hides lower layers only, never what this layer itself holds.
        match inroot::stat(parent, hidden).map_err(|e| at(member, "looking at", e))? {
            Some(stat) if inroot::kind(&stat) == FileType::Directory => {
                let dir = inroot::enter(parent, hidden).map_err(|e| at(member, "opening", e))?;
                overlay::make_opaque(dir.as_fd()).map_err(|e| at(member, "marking opaque", e))
            }
            Some(_) => Ok(()),
            None => overlay::make_whiteout(parent, hidden).map_err(|e| at(member, "making", e)),
        }
    }

    fn object<R: io::Read>(
        &mut self,
        member: &Member,
        path: &[u8],
        parent: BorrowedFd<'_>,
        name: &[u8],
        reader: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        if self.leaves_out(member, path)? {
            return Ok(());
        }
        match member.kind {
            Kind::Directory => self.directory(member, path, parent, name),
            Kind::File => {
                let file = self.create_file(member, parent, name)?;
                self.fill(member, &file, reader)?;
                self.file_attributes(member, &file)
            }
            Kind::HardLink => self.hard_link(member, parent, name),
            Kind::Symlink if member.link.is_empty() || member.link.contains(&0) => {
                Err(refused(member, "a symbolic link without a target"))
            }
            Kind::Symlink => {
                self.clear(member, parent, name)?;
                let target = OsStr::from_bytes(&member.link);
                rustix::fs::symlinkat(target, parent, OsStr::from_bytes(name)).map_err(|e| at(member, "making", e))?;
                self.path_attributes(member, parent, name, None)
            }
            Kind::Fifo => self.node(member, parent, name, FileType::Fifo),
            Kind::CharDevice => self.node(member, parent, name, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(member, parent, name, FileType::BlockDevice),
        }
    }

    /// The device policy; see [`Devices`].
    fn leaves_out(&self, member: &Member, path: &[u8]) -> Result<bool, ExtractError> {
        if !matches!(member.kind, Kind::CharDevice | Kind::BlockDevice) {
            return Ok(false);
        }
        if self.options.devices == Devices::Skip {
            return Ok(true);
        }
        if member.kind == Kind::CharDevice && is_harmless(member.device) {
            return Ok(false);
        }
        // SECURITY: a node for the host's disk or memory anywhere a container could open it.
        if path.starts_with(b"dev/") {
            return Ok(true);
        }
        Err(refused(member, "a device node outside dev/"))
    }

    fn directory(
        &mut self,
        member: &Member,
        path: &[u8],
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), ExtractError> {
        let mut hides = false;
        let os_name = OsStr::from_bytes(name);
        match rustix::fs::mkdirat(parent, os_name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let found = inroot::stat(parent, name).map_err(|e| at(member, "looking at", e))?;
                if !found.is_some_and(|s| inroot::kind(&s) == FileType::Directory) {
                    hides = self.clear(member, parent, name)?;
                    rustix::fs::mkdirat(parent, os_name, Mode::from_raw_mode(0o700))
                        .map_err(|e| at(member, "making", e))?;
                }
            }
            Err(e) => return Err(at(member, "making", e)),
        }
        let dir = inroot::enter(parent, name).map_err(|e| at(member, "opening", e))?;
        if hides {
            overlay::make_opaque(dir.as_fd()).map_err(|e| at(member, "marking opaque", e))?;
        }
        self.directory_attributes(member, &dir)?;
        self.directory_times.push((path.to_vec(), member.mtime));
        Ok(())
    }

    /// Removes what is in the way; tells whether that was a whiteout of this very layer.
    fn clear(&mut self, member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, ExtractError> {
        let Some(stat) = inroot::stat(parent, name).map_err(|e| at(member, "looking at", e))? else {
            return Ok(false);
        };
        self.check_replacement(member, &stat)?;
        inroot::remove_tree(parent, name).map_err(|e| at(member, "replacing", e))?;
        Ok(self.options.purpose == Purpose::Layer && overlay::is_whiteout(&stat))
    }

    fn check_replacement(&self, member: &Member, found: &Stat) -> Result<(), ExtractError> {
        if !self.options.keep_types {
            return Ok(());
        }
        let was_directory = inroot::kind(found) == FileType::Directory;
        match (was_directory, member.kind == Kind::Directory) {
            (true, false) => Err(refused(member, "cannot overwrite directory with non-directory")),
            (false, true) => Err(refused(member, "cannot overwrite non-directory with directory")),
            _ => Ok(()),
        }
    }

    fn create_file(&mut self, member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, ExtractError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o600));
        match create() {
            Err(Errno::EXIST) => {
                self.clear(member, parent, name)?;
                create().map_err(|e| at(member, "creating", e))
            }
            other => other.map_err(|e| at(member, "creating", e)),
        }
    }

    fn fill<R: io::Read>(
        &mut self,
        member: &Member,
        file: &OwnedFd,
        reader: &mut Reader<R>,
    ) -> Result<(), ExtractError> {
        self.done.bytes = self.done.bytes.saturating_add(member.size);
        let Some(segments) = &member.segments else {
            return self.copy(member, file, reader, 0, member.size);
        };
        for &(offset, length) in segments {
            self.copy(member, file, reader, offset, length)?;
        }
        rustix::fs::ftruncate(file, member.size).map_err(|e| at(member, "writing", e))
    }

    fn copy<R: io::Read>(
        &mut self,
        member: &Member,
        file: &OwnedFd,
        reader: &mut Reader<R>,
        mut offset: u64,
        length: u64,
    ) -> Result<(), ExtractError> {
        let end = offset + length;
        while offset < end {
            let limit = (end - offset).min(BUFFER_BYTES as u64) as usize;
            let n = reader.read_data(&mut self.buffer[..limit])?;
            if n == 0 {
                return Err(super::reader::damaged("it ends in the middle of a member"));
            }
            let mut written = 0;
            while written < n {
                let at_offset = offset + written as u64;
                written += rustix::io::pwrite(file, &self.buffer[written..n], at_offset)
                    .map_err(|e| at(member, "writing", e))?;
            }
            offset += n as u64;
        }
        Ok(())
    }

    fn hard_link(&mut self, member: &Member, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), ExtractError> {
        let target =
            clean_path(&member.link).map_err(|_| refused(member, "a hard link that leaves the archive's root"))?;
        let (target_parent, target_name) = split(&target);
        if target_name.is_empty() {
            return Err(refused(member, "a hard link to a directory"));
        }
        let missing = || refused(member, "a hard link to a file that is not in the archive");
        let dir = inroot::open_dir(self.root, target_parent, self.escape).map_err(|e| match e {
            Errno::NOENT => missing(),
            e => self.parent_error(member, e),
        })?;
        let found = inroot::stat(dir.as_fd(), target_name).map_err(|e| at(member, "looking at the target of", e))?;
        let found = found.ok_or_else(missing)?;
        if inroot::kind(&found) == FileType::Directory {
            return Err(refused(member, "a hard link to a directory"));
        }
        if is_same_object(parent, name, &found) {
            return Ok(());
        }
        self.clear(member, parent, name)?;
        rustix::fs::linkat(
            &dir,
            OsStr::from_bytes(target_name),
            parent,
            OsStr::from_bytes(name),
            AtFlags::empty(),
        )
        .map_err(|e| at(member, "linking", e))
    }

    fn node(
        &mut self,
        member: &Member,
        parent: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
    ) -> Result<(), ExtractError> {
        self.clear(member, parent, name)?;
        let device = rustix::fs::makedev(member.device.0, member.device.1);
        let mode = Mode::from_raw_mode(member.mode);
        rustix::fs::mknodat(parent, OsStr::from_bytes(name), kind, mode, device)
            .map_err(|e| at(member, "making", e))?;
        self.path_attributes(member, parent, name, Some(mode))
    }

    fn owner(&self, member: &Member) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = match self.options.owner {
            Owner::Archived => (member.uid, member.gid),
            Owner::Fixed { uid, gid } => (uid, gid),
        };
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    /// ORDER: owner first (it clears set-id bits and capabilities), then mode, then attributes.
    fn opened_attributes(&self, member: &Member, file: &OwnedFd) -> Result<(), ExtractError> {
        let (uid, gid) = self.owner(member);
        rustix::fs::fchown(file, uid, gid).map_err(|e| at(member, "owning", e))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(member.mode)).map_err(|e| at(member, "setting the mode of", e))?;
        for (name, value) in member.xattrs.iter().filter(|(name, _)| attributes::is_portable(name)) {
            attributes::write(file.as_fd(), name, value).map_err(|e| at(member, "setting an attribute of", e))?;
        }
        Ok(())
    }

    fn file_attributes(&self, member: &Member, file: &OwnedFd) -> Result<(), ExtractError> {
        self.opened_attributes(member, file)?;
        rustix::fs::futimens(file, &times(member.mtime)).map_err(|e| at(member, "setting the times of", e))
    }

    fn directory_attributes(&self, member: &Member, dir: &OwnedFd) -> Result<(), ExtractError> {
        self.opened_attributes(member, dir)
    }

    /// For links and nodes, which are not opened.
    fn path_attributes(
        &self,
        member: &Member,
        parent: BorrowedFd<'_>,
        name: &[u8],
        mode: Option<Mode>,
    ) -> Result<(), ExtractError> {
        let os_name = OsStr::from_bytes(name);
        let (uid, gid) = self.owner(member);
        rustix::fs::chownat(parent, os_name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| at(member, "owning", e))?;
        if let Some(mode) = mode {
            // SECURITY: chmod by name would follow a link that a container put there meanwhile.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node =
                rustix::fs::openat(parent, os_name, flags, Mode::empty()).map_err(|e| at(member, "opening", e))?;
            let link = format!("/proc/self/fd/{}", node.as_raw_fd());
            rustix::fs::chmod(link, mode).map_err(|e| at(member, "setting the mode of", e))?;
        }
        rustix::fs::utimensat(parent, os_name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| at(member, "setting the times of", e))
    }
}

fn is_same_object(parent: BorrowedFd<'_>, name: &[u8], other: &Stat) -> bool {
    let found = inroot::stat(parent, name).ok().flatten();
    found.is_some_and(|s| s.st_dev == other.st_dev && s.st_ino == other.st_ino)
}

/// The components of a member's name joined again: without `.`, repeated and trailing slashes.
fn clean_path(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    if path.contains(&0) {
        return Err("a name with a zero byte");
    }
    if path.first() == Some(&b'/') && path.iter().any(|&b| b != b'/') {
        return Err("an absolute name");
    }
    if path.is_empty() {
        return Err("an empty name");
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err("a name that climbs out of the archive's root"),
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
    }
    Ok(clean)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// null, zero, full, random, urandom; tty, console, ptmx; fuse, tun.
fn is_harmless(device: (u32, u32)) -> bool {
    matches!(device, (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2) | (10, 200 | 229))
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: i64::from(nanos),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn refused(member: &Member, reason: &'static str) -> ExtractError {
    ExtractError::Refused {
        name: member.name(),
        reason,
    }
}

fn at(member: &Member, action: &'static str, error: Errno) -> ExtractError {
    if error == Errno::NAMETOOLONG {
        return refused(member, "a name or link that is too long");
    }
    entry_error(&member.name(), action, error)
}

fn entry_error(name: &str, action: &'static str, error: Errno) -> ExtractError {
    ExtractError::Entry {
        name: name.to_owned(),
        action,
        source: error.into(),
    }
}
