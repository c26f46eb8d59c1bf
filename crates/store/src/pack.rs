//! Writing tars: layers from overlay upper directories, flat trees for export, single paths for `docker cp`.
//!
//! The output is deterministic: names sorted by bytes, whole seconds, no user names, PAX records only where the
//! ustar header cannot hold a value.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;
use tar::{EntryType, Header};

use crate::inroot::{self, Escape};
use crate::{attributes, overlay};

/// Why a tree could not be written as a tar.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Nothing at the path.
    #[error("could not find the file {0}")]
    NotFound(String),
    /// A file of the tree could not be read.
    #[error("reading {name:?} for an archive")]
    Read {
        /// The path inside the tree.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tar could not be written.
    #[error("writing the archive")]
    Write(#[source] io::Error),
}

/// Writes the tree below an opened directory as one flat tar, as `docker export` does; overlay's marks and sockets
/// are left out. What is mounted on the tree (a running container's `/proc`, volumes, generated files) shows as empty
/// directories and files.
pub fn export_tree(root: BorrowedFd<'_>, out: &mut dyn Write) -> Result<(), PackError> {
    // The root may be a mere location (O_PATH), which cannot be listed.
    let root = inroot::enter(root, b".").map_err(|e| read_error(b".", e))?;
    let mut pack = Pack::new(out, Form::Flat);
    pack.only_mount = mount_id(root.as_fd(), b"");
    pack.children(root.as_fd(), b"", b"")?;
    pack.finish()
}

/// Which mount a name of a directory is on; the empty name is the directory. KERNEL(5.8): unknown before.
fn mount_id(dir: BorrowedFd<'_>, name: &[u8]) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(dir, OsStr::from_bytes(name), flags, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask)
        .contains(StatxFlags::MNT_ID)
        .then_some(found.stx_mnt_id)
}

/// Whether a directory shows the kernel's state, not files: its contents never end up in an archive.
fn is_kernels_own(dir: BorrowedFd<'_>) -> bool {
    // Magic numbers of proc, sysfs, cgroup, cgroup2, devpts, mqueue (linux/magic.h, ipc/mqueue.c).
    const KINDS: [i64; 6] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202];
    rustix::fs::fstatfs(dir).is_ok_and(|found| KINDS.contains(&found.f_type))
}

/// Writes one path of a tree, named `name` in the tar, with everything below it (`docker cp` from a container).
/// `path` is resolved inside `root`; if its last component is a symbolic link, the link itself is written.
pub fn pack_path(root: BorrowedFd<'_>, path: &Path, name: &str, out: &mut dyn Write) -> Result<(), PackError> {
    let missing = || PackError::NotFound(path.display().to_string());
    let bytes: Vec<u8> = path.as_os_str().as_bytes().to_vec();
    let trimmed: &[u8] = bytes.strip_prefix(b"/").unwrap_or(&bytes);
    let open = |p: &[u8]| match inroot::open_dir(root, p, Escape::Confine) {
        Err(Errno::NOENT | Errno::NOTDIR) => Err(missing()),
        other => other.map_err(|e| read_error(p, e)),
    };
    let mut pack = Pack::new(out, Form::Flat);
    let last = trimmed.rsplit(|&b| b == b'/').next().unwrap_or_default();
    if matches!(last, b"" | b"." | b"..") {
        let dir = open(trimmed)?;
        pack.directory_entry(dir.as_fd(), name.as_bytes())?;
        pack.children(dir.as_fd(), name.as_bytes(), trimmed)?;
        return pack.finish();
    }
    let parent = open(&trimmed[..trimmed.len() - last.len()])?;
    let stat = inroot::stat(parent.as_fd(), last)
        .map_err(|e| read_error(trimmed, e))?
        .ok_or_else(missing)?;
    pack.entry(parent.as_fd(), last, &stat, name.as_bytes())?;
    pack.finish()
}

/// Writes an overlay upper directory as an OCI layer: whiteouts and opaque directories in their `.wh.` form.
pub(crate) fn pack_layer(upper: BorrowedFd<'_>, out: &mut dyn Write) -> Result<(), PackError> {
    let mut pack = Pack::new(out, Form::Layer);
    pack.children(upper, b"", b"")?;
    pack.finish()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Flat,
    Layer,
}

struct Pack<'a> {
    out: &'a mut dyn Write,
    form: Form,
    /// First name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Only what is on this mount has contents.
    only_mount: Option<u64>,
}

impl<'a> Pack<'a> {
    fn new(out: &'a mut dyn Write, form: Form) -> Pack<'a> {
        Pack {
            out,
            form,
            links: HashMap::new(),
            buffer: vec![0; 256 << 10],
            only_mount: None,
        }
    }

    fn finish(self) -> Result<(), PackError> {
        self.out.write_all(&[0; 1024]).map_err(PackError::Write)?;
        self.out.flush().map_err(PackError::Write)
    }

    /// Every entry of an opened directory, whose name in the tar is `name`.
    fn children(&mut self, dir: BorrowedFd<'_>, name: &[u8], shown: &[u8]) -> Result<(), PackError> {
        for child in inroot::names(dir).map_err(|e| read_error(shown, e))? {
            let full = join(name, &child);
            // Gone since it was listed: the tree may belong to a running container.
            let Some(stat) = inroot::stat(dir, &child).map_err(|e| read_error(&full, e))? else {
                continue;
            };
            self.entry(dir, &child, &stat, &full)?;
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, child: &[u8], stat: &Stat, name: &[u8]) -> Result<(), PackError> {
        if overlay::is_whiteout(stat) {
            return self.whiteout(child, name);
        }
        let is_covered = self
            .only_mount
            .is_some_and(|only| mount_id(dir, child).is_some_and(|here| here != only));
        match inroot::kind(stat) {
            FileType::Directory => {
                let Some(inner) = still_there(inroot::enter(dir, child), name)? else {
                    return Ok(());
                };
                self.directory_entry(inner.as_fd(), name)?;
                if self.form == Form::Layer && overlay::is_opaque(inner.as_fd()) {
                    self.plain(&join(name, b".wh..wh..opq"))?;
                }
                if is_covered || (self.form == Form::Flat && is_kernels_own(inner.as_fd())) {
                    return Ok(());
                }
                self.children(inner.as_fd(), name, name)
            }
            _ if is_covered => {
                let mut empty = *stat;
                empty.st_size = 0;
                self.header(&empty, name, EntryType::Regular, b"", &[])
            }
            FileType::RegularFile => self.file(dir, child, stat, name),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, OsStr::from_bytes(child), Vec::new());
                let Some(target) = still_there(target, name)? else {
                    return Ok(());
                };
                self.header(stat, name, EntryType::Symlink, target.as_bytes(), &[])
            }
            FileType::CharacterDevice => self.header(stat, name, EntryType::Char, b"", &[]),
            FileType::BlockDevice => self.header(stat, name, EntryType::Block, b"", &[]),
            FileType::Fifo => self.header(stat, name, EntryType::Fifo, b"", &[]),
            _ => Ok(()),
        }
    }

    fn whiteout(&mut self, child: &[u8], name: &[u8]) -> Result<(), PackError> {
        if self.form == Form::Flat {
            return Ok(());
        }
        let parent = &name[..name.len() - child.len()];
        self.plain(&[parent, b".wh.", child].concat())
    }

    /// An empty file of root's: the form of marks.
    fn plain(&mut self, name: &[u8]) -> Result<(), PackError> {
        let mut header = new_header(EntryType::Regular, 0, 0);
        self.put(&mut header, name, b"", (0, 0), Vec::new())
    }

    fn directory_entry(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), PackError> {
        let stat = rustix::fs::fstat(dir).map_err(|e| read_error(name, e))?;
        let xattrs = attributes::portable(dir).map_err(|e| read_error(name, e))?;
        let mut with_slash = name.to_vec();
        with_slash.push(b'/');
        self.header(&stat, &with_slash, EntryType::Directory, b"", &xattrs)
    }

    fn file(&mut self, dir: BorrowedFd<'_>, child: &[u8], stat: &Stat, name: &[u8]) -> Result<(), PackError> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key).cloned() {
                return self.header(stat, name, EntryType::Link, &first, &[]);
            }
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, OsStr::from_bytes(child), flags, Mode::empty());
        let Some(file) = still_there(file, name)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| read_error(name, e))?;
        let xattrs = attributes::portable(file.as_fd()).map_err(|e| read_error(name, e))?;
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), name.to_vec());
        }
        self.header(&stat, name, EntryType::Regular, b"", &xattrs)?;
        self.data(File::from(file), stat.st_size as u64, name)
    }

    /// Exactly `size` bytes: a file that shrinks meanwhile is filled with zeros, one that grows is cut.
    fn data(&mut self, mut file: File, size: u64, name: &[u8]) -> Result<(), PackError> {
        let mut left = size;
        while left > 0 {
            let limit = left.min(self.buffer.len() as u64) as usize;
            let mut n = file
                .read(&mut self.buffer[..limit])
                .map_err(|source| read_source(name, source))?;
            if n == 0 {
                self.buffer[..limit].fill(0);
                n = limit;
            }
            self.out.write_all(&self.buffer[..n]).map_err(PackError::Write)?;
            left -= n as u64;
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), PackError> {
        let gap = (size.next_multiple_of(512) - size) as usize;
        self.out.write_all(&[0; 512][..gap]).map_err(PackError::Write)
    }

    fn header(
        &mut self,
        stat: &Stat,
        name: &[u8],
        kind: EntryType,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_size(if kind == EntryType::Regular {
            stat.st_size as u64
        } else {
            0
        });
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        match u64::try_from(stat.st_mtime) {
            Ok(seconds) => header.set_mtime(seconds),
            Err(_) => records.push((b"mtime".to_vec(), stat.st_mtime.to_string().into_bytes())),
        }
        if kind == EntryType::Char || kind == EntryType::Block {
            header
                .set_device_major(rustix::fs::major(stat.st_rdev))
                .map_err(|e| read_source(name, e))?;
            header
                .set_device_minor(rustix::fs::minor(stat.st_rdev))
                .map_err(|e| read_source(name, e))?;
        }
        records.extend(
            xattrs
                .iter()
                .map(|(k, v)| ([b"SCHILY.xattr.", k.as_slice()].concat(), v.clone())),
        );
        self.put(&mut header, name, link, (stat.st_uid, stat.st_gid), records)
    }

    fn put(
        &mut self,
        header: &mut Header,
        name: &[u8],
        link: &[u8],
        (uid, gid): (u32, u32),
        mut records: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), PackError> {
        const OCTAL_LIMIT: u32 = 0o7_777_777;
        for (key, id) in [(&b"uid"[..], uid), (b"gid", gid)] {
            if id > OCTAL_LIMIT {
                records.push((key.to_vec(), id.to_string().into_bytes()));
            }
        }
        header.set_uid(u64::from(if uid > OCTAL_LIMIT { 0 } else { uid }));
        header.set_gid(u64::from(if gid > OCTAL_LIMIT { 0 } else { gid }));
        if let Ok(size) = header.size()
            && size > 0o77_777_777_777
        {
            records.push((b"size".to_vec(), size.to_string().into_bytes()));
        }
        if name.len() > 100 || !name.is_ascii() {
            records.push((b"path".to_vec(), name.to_vec()));
        }
        if link.len() > 100 || !link.is_ascii() {
            records.push((b"linkpath".to_vec(), link.to_vec()));
        }
        if !records.is_empty() {
            self.pax(&records)?;
        }
        write_header(self.out, header, name, link)
    }

    fn pax(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> Result<(), PackError> {
        let mut body = Vec::new();
        for (key, value) in records {
            body.extend_from_slice(&pax_record(key, value));
        }
        let mut header = new_header(EntryType::XHeader, 0o644, body.len() as u64);
        write_header(self.out, &mut header, b"././@PaxHeader", b"")?;
        self.out.write_all(&body).map_err(PackError::Write)?;
        self.pad(body.len() as u64)
    }
}

/// A header of root's, of the beginning of time, with every number set.
fn new_header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Fills in the names, cut where PAX carries them whole, and the checksum.
fn write_header(out: &mut dyn Write, header: &mut Header, name: &[u8], link: &[u8]) -> Result<(), PackError> {
    let old = header.as_old_mut();
    let copy = |to: &mut [u8; 100], from: &[u8]| {
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
    };
    copy(&mut old.name, name);
    copy(&mut old.linkname, link);
    header.set_cksum();
    out.write_all(header.as_bytes()).map_err(PackError::Write)
}

/// `<length> key=value\n`, where the length counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn join(parent: &[u8], child: &[u8]) -> Vec<u8> {
    match parent {
        b"" => child.to_vec(),
        _ if parent.ends_with(b"/") => [parent, child].concat(),
        _ => [parent, b"/", child].concat(),
    }
}

/// A file that a running container removed or replaced since it was listed is left out.
fn still_there<T>(opened: Result<T, Errno>, name: &[u8]) -> Result<Option<T>, PackError> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(read_error(name, e)),
    }
}

fn read_error(name: &[u8], source: Errno) -> PackError {
    read_source(name, source.into())
}

fn read_source(name: &[u8], source: io::Error) -> PackError {
    PackError::Read {
        name: String::from_utf8_lossy(name).into_owned(),
        source,
    }
}

/// Writes whole files of our own making into a tar (`docker save`).
pub(crate) struct Bundle<'a>(Pack<'a>);

impl<'a> Bundle<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Bundle<'a> {
        Bundle(Pack::new(out, Form::Flat))
    }

    /// A directory entry.
    pub(crate) fn directory(&mut self, name: &str) -> Result<(), PackError> {
        let mut header = new_header(EntryType::Directory, 0o755, 0);
        self.0
            .put(&mut header, format!("{name}/").as_bytes(), b"", (0, 0), Vec::new())
    }

    /// A file with these bytes.
    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        self.file_header(name, bytes.len() as u64)?;
        self.0.out.write_all(bytes).map_err(PackError::Write)?;
        self.0.pad(bytes.len() as u64)
    }

    /// A file with the bytes of another.
    pub(crate) fn file(&mut self, name: &str, file: File, size: u64) -> Result<(), PackError> {
        self.file_header(name, size)?;
        self.0.data(file, size, name.as_bytes())
    }

    /// The end marker.
    pub(crate) fn finish(self) -> Result<(), PackError> {
        self.0.finish()
    }

    fn file_header(&mut self, name: &str, size: u64) -> Result<(), PackError> {
        let mut header = new_header(EntryType::Regular, 0o644, size);
        self.0.put(&mut header, name.as_bytes(), b"", (0, 0), Vec::new())
    }
}
