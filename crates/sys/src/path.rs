//! Paths inside a root that the caller does not trust.
//!
//! SECURITY: a path inside a container's root may hold symbolic links that
//! the container made. Everything here resolves them as if the root were
//! `/`: by openat2(2) with `RESOLVE_IN_ROOT`, or before KERNEL(5.6) step by
//! step over descriptors. Magic links of /proc are never followed.

use crate::{Errno, Result, is_unavailable};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows.
const MAX_LINKS: u32 = 40;
/// Attempts while a racing rename makes openat2 say EAGAIN.
const MAX_RACES: u32 = 128;

/// How paths are resolved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolver {
    /// openat2, or steps where the kernel has none.
    #[default]
    Kernel,
    /// Always by steps (for tests of the fallback).
    Steps,
}

/// What becomes of a symbolic link that leads out of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// It is taken as in a chroot: the directory is its `/`.
    Confine,
    /// The resolution fails with EXDEV.
    Refuse,
}

/// Opens a relative path below an open directory; an empty one is the
/// directory itself. KERNEL(5.6), without a fallback: archives are unpacked
/// with it, where every emulation loses races.
///
/// # Errors
/// As openat2(2).
pub fn open_below(dir: impl AsFd, path: impl AsRef<Path>, flags: OFlags, escape: Escape) -> Result<OwnedFd> {
    let path = path.as_ref();
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = match escape {
        Escape::Confine => ResolveFlags::IN_ROOT,
        Escape::Refuse => ResolveFlags::BENEATH,
    };
    for _ in 0..MAX_RACES {
        let flags = flags | OFlags::CLOEXEC;
        match openat2(&dir, path, flags, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// A directory in which paths are resolved as if it were `/`.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    resolver: Resolver,
}

impl RootDir {
    /// Opens a trusted path as a root.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Uses an open directory as a root.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            resolver: Resolver::Kernel,
        }
    }

    /// Chooses the way of resolution.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// Opens `path`, absolute or relative to the root. `flags` may hold
    /// `NOFOLLOW` for the last component, and `CREATE` with `mode`.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn open_at(&self, path: impl AsRef<Path>, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = flags | OFlags::CLOEXEC;
        if self.resolver == Resolver::Kernel {
            match self.open_by_kernel(path, flags, mode) {
                Err(errno) if is_unavailable(errno) => {}
                other => return other,
            }
        }
        self.open_by_steps(path, flags, mode)
    }

    fn open_by_kernel(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_RACES {
            match openat2(&self.fd, path, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    fn open_by_steps(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let mut walk = Walk::start(&self.fd, path)?;
        while let Some(name) = walk.pending.pop() {
            let is_last = walk.pending.is_empty();
            if name == ".." {
                walk.up();
                continue;
            }
            let step = if is_last {
                walk.last(&name, flags, mode)?
            } else {
                walk.inner(&name)?
            };
            match step {
                Step::Opened(fd) => return Ok(fd),
                Step::Entered => {}
            }
        }
        // The path ended on a directory that was already entered.
        openat(walk.here(), c".", flags.difference(OFlags::NOFOLLOW), mode)
    }

    /// Opens `path` as a mere location (`O_PATH`), following a last link.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn locate(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, Mode::empty())
    }

    /// Makes the directory and those above it, and opens it as a location.
    /// What exists is left alone; a dangling link has its target made.
    ///
    /// # Errors
    /// ENOTDIR where something else is in the way; as mkdirat(2).
    pub fn ensure_dir(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        match self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => self.create_by_steps(path, mode, None),
            other => other,
        }
    }

    /// Makes an empty file (and the directories above it) unless something
    /// is there already, and opens it as a location. A dangling link has its
    /// target made.
    ///
    /// # Errors
    /// As openat2(2), mkdirat(2), mknodat(2).
    pub fn ensure_file(&self, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        match self.locate(path) {
            Err(Errno::NOENT) => self.create_by_steps(path, Mode::from_raw_mode(0o755), Some(mode)),
            other => other,
        }
    }

    /// Walks to `path`, making directories, and at the end a file if `file`
    /// gives its mode.
    fn create_by_steps(&self, path: &Path, dir_mode: Mode, file: Option<Mode>) -> Result<OwnedFd> {
        let mut walk = Walk::start(&self.fd, path)?;
        while let Some(name) = walk.pending.pop() {
            if name == ".." {
                walk.up();
                continue;
            }
            let last_file = file.filter(|_| walk.pending.is_empty());
            let made = match last_file {
                Some(mode) => rustix::fs::mknodat(walk.here(), &name, FileType::RegularFile, mode, 0),
                None => mkdirat(walk.here(), &name, dir_mode),
            };
            if let Err(error) = made
                && error != Errno::EXIST
                && error != Errno::ROFS
            {
                return Err(error);
            }
            let fd = openat(
                walk.here(),
                &name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
                FileType::Symlink => walk.follow(&fd)?,
                FileType::Directory => walk.stack.push(fd),
                _ if last_file.is_some() => return Ok(fd),
                _ => return Err(Errno::NOTDIR),
            }
        }
        rustix::io::fcntl_dupfd_cloexec(walk.here(), 0)
    }

    /// Opens the directory above `path` as a location and returns the last
    /// name, which is not followed: for mknodat, symlinkat, unlinkat.
    ///
    /// # Errors
    /// EISDIR when the path has no last name; as openat2(2).
    pub fn parent_of(&self, path: impl AsRef<Path>) -> Result<(OwnedFd, OsString)> {
        let path = path.as_ref();
        let Some((parent, name)) = split_last(path) else {
            return Err(Errno::ISDIR);
        };
        let parent = self.open_at(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((parent, name.to_owned()))
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Parent and last name of a path; none if it ends in `..` or is the root.
fn split_last(path: &Path) -> Option<(&Path, &std::ffi::OsStr)> {
    let name = path.file_name()?;
    let parent = path.parent().unwrap_or(Path::new("."));
    Some((parent, name))
}

enum Step {
    Opened(OwnedFd),
    Entered,
}

/// A resolution by steps: the directories entered so far and the names left.
struct Walk {
    root: OwnedFd,
    stack: Vec<OwnedFd>,
    /// In reverse order.
    pending: Vec<OsString>,
    links: u32,
}

impl Walk {
    fn start(root: &OwnedFd, path: &Path) -> Result<Self> {
        let mut walk = Self {
            root: rustix::io::fcntl_dupfd_cloexec(root, 0)?,
            stack: Vec::new(),
            pending: Vec::new(),
            links: 0,
        };
        walk.push(path);
        Ok(walk)
    }

    fn push(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.pending.push(name.to_owned()),
                Component::ParentDir => self.pending.push("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().unwrap_or(&self.root).as_fd()
    }

    /// `..` is taken from the stack, never asked of the kernel, so that a
    /// directory moved away meanwhile does not lead out of the root.
    fn up(&mut self) {
        self.stack.pop();
    }

    /// Enters a component that is not the last.
    fn inner(&mut self, name: &OsString) -> Result<Step> {
        let fd = openat(
            self.here(),
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Directory => self.stack.push(fd),
            FileType::Symlink => self.follow(&fd)?,
            _ => return Err(Errno::NOTDIR),
        }
        Ok(Step::Entered)
    }

    /// Opens the last component as asked, or follows it.
    fn last(&mut self, name: &OsString, flags: OFlags, mode: Mode) -> Result<Step> {
        let probe = openat(
            self.here(),
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let is_link = match &probe {
            Ok(fd) => FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Symlink,
            Err(Errno::NOENT) => false,
            Err(error) => return Err(*error),
        };
        if let (true, Ok(fd)) = (is_link && !flags.contains(OFlags::NOFOLLOW), &probe) {
            self.follow(fd)?;
            return Ok(Step::Entered);
        }
        openat(self.here(), name, flags | OFlags::NOFOLLOW, mode).map(Step::Opened)
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, c"", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.as_os_str().as_bytes().first() == Some(&b'/') {
            self.stack.clear();
        }
        self.push(&target);
        Ok(())
    }
}

/// Whether `fd` is on procfs: a write to what should be a kernel file is
/// refused where a container has mounted something over it.
#[must_use]
pub fn is_procfs(fd: impl AsFd) -> bool {
    const PROC_SUPER_MAGIC: i128 = 0x9fa0;
    is_of_kind(fd, PROC_SUPER_MAGIC)
}

/// Whether `fd` is on sysfs.
#[must_use]
pub fn is_sysfs(fd: impl AsFd) -> bool {
    const SYSFS_MAGIC: i128 = 0x6265_6572;
    is_of_kind(fd, SYSFS_MAGIC)
}

/// Whether `fd` is a namespace of any kind: on nsfs.
#[must_use]
pub fn is_namespace(fd: impl AsFd) -> bool {
    const NSFS_MAGIC: i128 = 0x6e73_6673;
    is_of_kind(fd, NSFS_MAGIC)
}

/// By statfs(2), whose type has another width on every architecture.
fn is_of_kind(fd: impl AsFd, magic: i128) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| i128::from(stat.f_type) == magic)
}

/// Reads a file of /proc, whose length nobody knows before: in large pieces,
/// as the kernel makes up the text anew for each.
///
/// # Errors
/// As open(2) and read(2).
pub fn read_proc(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    const PIECE: usize = 4096;
    let file = openat(CWD, path.as_ref(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(PIECE);
    loop {
        if text.capacity() - text.len() < PIECE / 2 {
            text.reserve(text.capacity().max(PIECE));
        }
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)) {
            Ok(0) => return Ok(text),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-sys-path-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("root/etc")).expect("make tree");
            std::fs::write(path.join("secret"), "outside").expect("write secret");
            std::fs::write(path.join("root/etc/passwd"), "inside").expect("write passwd");
            Self(path)
        }

        fn roots(&self) -> [RootDir; 2] {
            [Resolver::Kernel, Resolver::Steps].map(|way| {
                RootDir::open(&self.0.join("root"))
                    .expect("open root")
                    .with_resolver(way)
            })
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn read(root: &RootDir, path: &str) -> Result<String> {
        let fd = root.open_at(path, OFlags::RDONLY, Mode::empty())?;
        let mut bytes = [0u8; 64];
        let length = rustix::io::read(&fd, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let tree = Tree::new("escape");
        let root = tree.0.join("root");
        symlink("/etc", root.join("absolute")).expect("link");
        symlink("../../../../etc", root.join("climbing")).expect("link");
        symlink("../secret", root.join("out")).expect("link");
        symlink("/proc/self/root", root.join("magic")).expect("link");
        symlink("loop", root.join("loop")).expect("link");
        for root in tree.roots() {
            for path in [
                "etc/passwd",
                "/etc/passwd",
                "absolute/passwd",
                "climbing/passwd",
                "../../etc/passwd",
            ] {
                assert_eq!(read(&root, path).as_deref(), Ok("inside"), "{path}");
            }
            assert_eq!(read(&root, "out"), Err(Errno::NOENT));
            assert_eq!(read(&root, "../secret"), Err(Errno::NOENT));
            assert_eq!(read(&root, "magic/etc/passwd"), Err(Errno::NOENT));
            assert_eq!(read(&root, "loop"), Err(Errno::LOOP));
            assert_eq!(read(&root, "etc/passwd/x"), Err(Errno::NOTDIR));
        }
    }

    #[test]
    fn what_is_made_stays_inside_the_root() {
        let tree = Tree::new("make");
        let root_path = tree.0.join("root");
        symlink("/run/resolve/stub.conf", root_path.join("etc/resolv.conf")).expect("link");
        symlink("../../../outside", root_path.join("leak")).expect("link");
        for root in tree.roots() {
            root.ensure_file("/etc/resolv.conf", Mode::from_raw_mode(0o644))
                .expect("make file");
            root.ensure_dir("/leak/deep", Mode::from_raw_mode(0o755))
                .expect("make dir");
            root.ensure_dir("/a/../b/c", Mode::from_raw_mode(0o755))
                .expect("make dir");
        }
        assert!(root_path.join("run/resolve/stub.conf").is_file());
        assert!(root_path.join("outside/deep").is_dir());
        assert!(root_path.join("b/c").is_dir());
        assert!(!tree.0.join("outside").exists());
    }
}
