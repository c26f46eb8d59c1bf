//! The root file system: opened by the runtime, attached by init, pivoted to.

use super::classic::{self, MountApi};
use crate::{Rootfs, RuntimeError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_move, unmount,
};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use wharf_sys::mount::{self as mounts, AttrChange, Depth, Parameter};
use wharf_sys::path::RootDir;

/// Makes the root file system as a mount that is attached nowhere.
///
/// None where only the classic interface works: init then mounts it itself.
pub(crate) fn open_rootfs(rootfs: &Rootfs, api: MountApi) -> Result<Option<OwnedFd>, RuntimeError> {
    if let Rootfs::Directory(path) = rootfs {
        let stat = rustix::fs::stat(path)
            .map_err(|errno| RuntimeError::system("root.path", format!("open {}", path.display()), errno))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
            return Err(RuntimeError::invalid(
                "root.path",
                format!("root.path: {} is not a directory", path.display()),
            ));
        }
    }
    if api == MountApi::Classic {
        return Ok(None);
    }
    let opened = match rootfs {
        Rootfs::Directory(path) => open_directory(path),
        Rootfs::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => open_overlay(lower, (upper, work), volatility(*volatile)),
    };
    match opened {
        Ok(fd) => Ok(Some(fd)),
        // KERNEL(6.8): no `lowerdir+`.
        Err(Errno::INVAL) => Ok(None),
        Err(errno) => Err(RuntimeError::system(
            "rootfs",
            format!("mount {}", describe(rootfs)),
            errno,
        )),
    }
}

fn describe(rootfs: &Rootfs) -> String {
    match rootfs {
        Rootfs::Directory(path) => path.display().to_string(),
        Rootfs::Overlay { lower, upper, .. } => format!("overlay of {} layers under {}", lower.len(), upper.display()),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let tree = mounts::clone_tree(rustix::fs::CWD, &path, Depth::Recursive)?;
    // What is mounted below must not travel to where the directory came from.
    let change = AttrChange {
        propagation: u64::from(crate::plan::mounts::MS_SLAVE),
        ..AttrChange::default()
    };
    mounts::set_attr(&tree, Depth::Recursive, change)?;
    Ok(tree)
}

/// The option of an overlay that need not survive a crash.
fn volatility(is_volatile: bool) -> Option<&'static str> {
    is_volatile.then_some("volatile")
}

fn open_overlay(
    lower: &[PathBuf],
    (upper, work): (&Path, &Path),
    option: Option<&'static str>,
) -> Result<OwnedFd, Errno> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
    let lower = lower.iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (text(upper)?, text(work)?);
    let mut parameters = vec![Parameter::Text("source", c"overlay")];
    parameters.extend(lower.iter().map(|path| Parameter::Text("lowerdir+", path)));
    parameters.push(Parameter::Text("upperdir", &upper));
    parameters.push(Parameter::Text("workdir", &work));
    parameters.extend(option.map(Parameter::Flag));
    mounts::new_filesystem("overlay", &parameters, 0)
}

/// Makes what init mounts invisible to the host.
pub(crate) fn isolate_mounts() -> Result<(), RuntimeError> {
    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|errno| RuntimeError::system("mounts", "make the mounts of the host slaves", errno))
}

/// The same for a root that the host sees too: what is mounted below it
/// must not travel to the peers of the mount it lies on.
pub(crate) fn isolate_root(root: &RootDir, api: MountApi) -> Result<(), RuntimeError> {
    let change = AttrChange {
        propagation: u64::from(crate::plan::mounts::MS_PRIVATE),
        ..AttrChange::default()
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match api {
        MountApi::New => mounts::set_attr(root.as_fd(), Depth::Recursive, change),
        MountApi::Classic => mount_change(wharf_sys::fd::proc_path(root.as_fd()), private),
    }
    .map_err(|errno| RuntimeError::system("mounts", "make the root private", errno))
}

/// Opens the directory that the root is attached to.
pub(crate) fn open_place(place: &Path) -> Result<OwnedFd, RuntimeError> {
    rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| RuntimeError::system("rootfs", format!("open {}", place.display()), errno))
}

/// Puts the root file system on `place` and returns it as a root.
pub(crate) fn attach_rootfs(
    opened: Option<OwnedFd>,
    rootfs: &Rootfs,
    (place, directory): (&Path, OwnedFd),
) -> Result<RootDir, RuntimeError> {
    let failed = |errno| RuntimeError::system("rootfs", format!("attach it at {}", place.display()), errno);
    let fd = match opened {
        Some(fd) => {
            mounts::attach(&fd, &directory).map_err(failed)?;
            fd
        }
        None => {
            mount_classic(rootfs, place)?;
            open_place(place)?
        }
    };
    Ok(RootDir::from_fd(fd))
}

fn mount_classic(rootfs: &Rootfs, place: &Path) -> Result<(), RuntimeError> {
    let failed = |errno| RuntimeError::system("rootfs", format!("mount {}", describe(rootfs)), errno);
    match rootfs {
        Rootfs::Directory(path) => {
            mount_bind_recursive(path, place).map_err(failed)?;
            mount_change(place, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).map_err(failed)
        }
        Rootfs::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => {
            let writable: (&Path, &Path) = (upper, work);
            let mounted = match volatility(*volatile) {
                None => Err(Errno::INVAL),
                option => overlay_classic(lower, writable, option, place),
            };
            // KERNEL(5.10): an unknown option.
            let mounted = match mounted {
                Err(Errno::INVAL) => overlay_classic(lower, writable, None, place),
                other => other,
            };
            mounted.map_err(failed)
        }
    }
}

/// KERNEL(before 6.8): all options share one page, which long paths of many
/// layers do not fit. Numbers of descriptors, as names in /proc/self/fd,
/// stand for them: the kernel resolves them once, at the mount.
fn overlay_classic(
    lower: &[PathBuf],
    (upper, work): (&Path, &Path),
    option: Option<&'static str>,
    place: &Path,
) -> Result<(), Errno> {
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let layers = lower.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let names: Vec<String> = layers.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let (upper_name, work_name) = (upper.as_raw_fd(), work.as_raw_fd());
    let option = option.map(|name| format!(",{name}")).unwrap_or_default();
    let layers_data = names.join(":");
    let data = format!("lowerdir={layers_data},upperdir={upper_name},workdir={work_name}{option}");
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::process::chdir(c"/proc/self/fd")?;
    let made = mount(
        c"overlay",
        place,
        c"overlay",
        MountFlags::empty(),
        Some(data.as_c_str()),
    );
    rustix::process::chdir(c"/")?;
    made
}

/// Makes `root` the root of the process and lets go of the host's mounts.
pub(crate) fn pivot(root: &RootDir, no_pivot: bool) -> Result<(), RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("pivot_root", what, errno);
    rustix::process::fchdir(root.as_fd()).map_err(failed("enter the root"))?;
    if no_pivot {
        hide_kernel_views(root).map_err(failed("hide the host's proc and sysfs"))?;
        mount_move(c".", c"/").map_err(failed("move the root"))?;
        rustix::process::chroot(c".").map_err(failed("change the root"))?;
        return rustix::process::chdir(c"/").map_err(failed("enter the new root"));
    }
    rustix::process::pivot_root(c".", c".").map_err(failed("exchange the roots"))?;
    // The old root now lies over the new one, at the current directory.
    unmount(c".", UnmountFlags::DETACH).map_err(failed("let go of the old root"))?;
    rustix::process::chdir(c"/").map_err(failed("enter the new root"))
}

/// SECURITY: mounts of the host stay below a moved root. A whole proc or
/// sysfs among them would let a user namespace inside mount an unmasked one.
fn hide_kernel_views(root: &RootDir) -> Result<(), Errno> {
    let own = rustix::fs::readlink(wharf_sys::fd::proc_path(root.as_fd()), Vec::new())?;
    let own = PathBuf::from(own.to_string_lossy().into_owned());
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(|_| Errno::IO)?;
    for place in kernel_views(&table).filter(|place| !place.starts_with(&own)) {
        match unmount(&place, UnmountFlags::DETACH) {
            // Gone with the one it lay on.
            Ok(()) | Err(Errno::NOENT) => {}
            // One that a user namespace may not take away is covered.
            Err(Errno::INVAL | Errno::PERM) => {
                mount(c"tmpfs", &place, c"tmpfs", MountFlags::RDONLY, Some(c"nr_blocks=1"))?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Where proc and sysfs are mounted (proc(5), mountinfo).
fn kernel_views(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let kind = filesystem.split(' ').next()?;
        let place = mount.split(' ').nth(4)?;
        (kind == "proc" || kind == "sysfs").then(|| PathBuf::from(place.replace("\\040", " ")))
    })
}

/// Makes `root` the root of the process alone, whose mounts are the host's.
pub(crate) fn change_root(root: &RootDir) -> Result<(), RuntimeError> {
    let failed = |what: &'static str| move |errno| RuntimeError::system("chroot", what, errno);
    rustix::process::fchdir(root.as_fd()).map_err(failed("enter the root"))?;
    rustix::process::chroot(c".").map_err(failed("change the root"))?;
    rustix::process::chdir(c"/").map_err(failed("enter the new root"))
}

/// Sets the propagation of the new root, as `linux.rootfsPropagation` says.
pub(crate) fn propagate_root(word: &str) -> Result<(), RuntimeError> {
    let propagation = crate::plan::mounts::parse_propagation(word).ok_or_else(|| {
        RuntimeError::invalid(
            "linux.rootfsPropagation",
            format!("linux.rootfsPropagation: unknown value {word:?}"),
        )
    })?;
    let mut flags = MountPropagationFlags::from_bits_retain(propagation.flag);
    let failed = |errno| RuntimeError::system("linux.rootfsPropagation", format!("make the root {word}"), errno);
    if flags == MountPropagationFlags::SHARED {
        // It has been a slave of the host's mount, and would stay one beside.
        mount_change(c"/", MountPropagationFlags::PRIVATE).map_err(failed)?;
    }
    if propagation.recursive {
        flags |= MountPropagationFlags::REC;
    }
    mount_change(c"/", flags).map_err(failed)
}

/// Makes the root mount read-only.
pub(crate) fn make_root_read_only(root: &RootDir, api: MountApi) -> Result<(), RuntimeError> {
    set_read_only(root.as_fd(), api)
        .map_err(|errno| RuntimeError::system("root.readonly", "make the root read-only", errno))
}

/// Makes the mount at `path` read-only.
pub(crate) fn make_read_only(root: &RootDir, path: &Path, api: MountApi) -> Result<(), RuntimeError> {
    root.locate(path)
        .and_then(|place| set_read_only(place.as_fd(), api))
        .map_err(|errno| RuntimeError::system("mounts", format!("make {} read-only", path.display()), errno))
}

fn set_read_only(mount: BorrowedFd<'_>, api: MountApi) -> Result<(), Errno> {
    let change = AttrChange {
        set: u64::from(mounts::MOUNT_ATTR_RDONLY),
        ..AttrChange::default()
    };
    match api {
        MountApi::New => mounts::set_attr(mount, Depth::Top, change),
        MountApi::Classic => classic::remount(mount, classic::read_only()),
    }
}
