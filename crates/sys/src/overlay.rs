//! Overlay mounts that are attached nowhere: an open directory that shows
//! several layers as one, and goes away with its last descriptor.

use crate::mount::{Parameter, new_filesystem};
use crate::namespace::unshare;
use crate::{Errno, Result, is_unavailable};
use linux_raw_sys::general::CLONE_NEWNS;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where the changes of an overlay go; both on one file system.
#[derive(Debug, Clone, Copy)]
pub struct Writable<'a> {
    /// Receives what changes.
    pub upper: &'a Path,
    /// The kernel's own, empty.
    pub work: &'a Path,
}

/// How the mount is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// By fsopen(2), or mount(2) where the kernel has not enough of the former.
    #[default]
    Newest,
    /// Always by mount(2) (for tests of the fallback).
    Classic,
}

/// Mounts `lower` (topmost first, at least one; at least two where nothing is
/// writable) and opens it. Layers come to hold plain files only: no index, no
/// redirects, no metadata-only copies.
///
/// KERNEL(6.8): one `lowerdir+` per layer; before, mount(2) in the private
/// mount namespace of a thread that ends at once, where the descriptor keeps
/// the mount alive and short names keep 500 layers inside the one page that
/// the call takes.
///
/// # Errors
/// As fsconfig(2) and mount(2).
pub fn open_overlay(lower: &[PathBuf], writable: Option<Writable<'_>>, way: Way) -> Result<OwnedFd> {
    if way == Way::Newest {
        match open_newest(lower, writable) {
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
            other => return other,
        }
    }
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("overlay".into());
        let thread = worker
            .spawn_scoped(scope, || open_classic(lower, writable))
            .map_err(|_| Errno::AGAIN)?;
        thread.join().unwrap_or(Err(Errno::IO))
    })
}

fn open_newest(lower: &[PathBuf], writable: Option<Writable<'_>>) -> Result<OwnedFd> {
    let mut texts: Vec<(&str, CString)> = Vec::new();
    for path in lower {
        texts.push(("lowerdir+", c_string(path)?));
    }
    if let Some(Writable { upper, work }) = writable {
        texts.push(("upperdir", c_string(upper)?));
        texts.push(("workdir", c_string(work)?));
    }
    for option in ["index", "metacopy", "redirect_dir"] {
        texts.push((option, c"off".to_owned()));
    }
    let parameters: Vec<Parameter<'_>> = texts.iter().map(|(k, v)| Parameter::Text(k, v)).collect();
    new_filesystem("overlay", &parameters, 0)
}

/// Mounts the same kind of overlay on `target`, in the caller's mount namespace.
///
/// KERNEL(6.8): before, by mount(2) with short names, as in [`open_overlay`];
/// the caller's working directory is another one meanwhile.
///
/// # Errors
/// As [`open_overlay`] and move_mount(2).
pub fn mount_overlay(lower: &[PathBuf], writable: Writable<'_>, target: &Path) -> Result<()> {
    let place = |path: &Path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match open_newest(lower, Some(writable)) {
        Ok(made) => match crate::mount::attach(made, place(target)?) {
            Err(errno) if is_unavailable(errno) => {}
            other => return other,
        },
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let here = place(Path::new("."))?;
    let mounted = mount_by_numbers(lower, Some(writable), target);
    rustix::process::fchdir(here).and(mounted)
}

/// To be called in a thread that ends afterwards.
fn open_classic(lower: &[PathBuf], writable: Option<Writable<'_>>) -> Result<OwnedFd> {
    // ORDER: first, because the kernel takes no layer that was opened in
    // another mount namespace. It also gives the thread a working directory
    // of its own.
    unshare(CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let target = lower.first().ok_or(Errno::INVAL)?;
    mount_by_numbers(lower, writable, target)?;
    open(
        target,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// By mount(2), with the numbers of open directories as their names; leaves
/// the working directory changed.
fn mount_by_numbers(lower: &[PathBuf], writable: Option<Writable<'_>>, target: &Path) -> Result<()> {
    let place = |path: &Path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let target = std::path::absolute(target).map_err(|_| Errno::INVAL)?;
    let layers = lower.iter().map(|path| place(path)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = layers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut options = format!("index=off,metacopy=off,redirect_dir=off,lowerdir={}", names.join(":"));
    let mut held = Vec::new();
    if let Some(Writable { upper, work }) = writable {
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            let fd = place(path)?;
            options.push_str(&format!(",{key}={}", fd.as_raw_fd()));
            held.push(fd);
        }
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::process::chdir("/proc/thread-self/fd")?;
    let flags = MountFlags::empty();
    mount("overlay", target, "overlay", flags, Some(options.as_c_str()))
}

fn c_string(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RootDir;
    use std::fs;

    fn read(root: &RootDir, path: &str) -> Result<String> {
        let fd = root.open_at(path, OFlags::RDONLY, Mode::empty())?;
        let mut bytes = [0u8; 64];
        let length = rustix::io::read(&fd, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn many_layers_are_one_directory_by_either_way() {
        let dir = std::env::temp_dir().join(format!("wharf-sys-overlay-{}", std::process::id()));
        // Long names, so that they do not fit into one page together.
        let long = dir.join("x".repeat(100));
        let lower: Vec<PathBuf> = (0..120).map(|n| long.join(n.to_string())).collect();
        for (n, path) in lower.iter().enumerate() {
            fs::create_dir_all(path).expect("make layer");
            fs::write(path.join("top"), n.to_string()).expect("write");
            fs::write(path.join(format!("own-{n}")), n.to_string()).expect("write");
        }
        for (way, name) in [(Way::Newest, "newest"), (Way::Classic, "classic")] {
            let (upper, work) = (dir.join(name).join("upper"), dir.join(name).join("work"));
            fs::create_dir_all(&upper).expect("make upper");
            fs::create_dir_all(&work).expect("make work");
            let writable = Writable {
                upper: &upper,
                work: &work,
            };
            let fd = open_overlay(&lower, Some(writable), way).expect("mount");
            let root = RootDir::from_fd(fd);
            assert_eq!(read(&root, "top").as_deref(), Ok("0"), "{name}");
            assert_eq!(read(&root, "own-119").as_deref(), Ok("119"), "{name}");
            let flags = OFlags::WRONLY | OFlags::CREATE;
            root.open_at("new", flags, Mode::from_raw_mode(0o644)).expect("create");
            drop(root);
            assert!(upper.join("new").exists(), "{name}");
            let fd = open_overlay(&lower[..2], None, way).expect("mount");
            assert_eq!(read(&RootDir::from_fd(fd), "own-1").as_deref(), Ok("1"), "{name}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mounts");
        assert!(!mounts.contains(&*dir.to_string_lossy()), "a mount is left");
        fs::remove_dir_all(&dir).expect("clean up");
    }
}
