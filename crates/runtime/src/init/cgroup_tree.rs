//! The container's view of its cgroup: the `cgroup` and `cgroup2` mounts.

use super::classic::{self, MountApi};
use crate::RuntimeError;
use crate::plan::mounts::{Attributes, MountPlan};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use wharf_cgroup::{Cgroup, Version};
use wharf_sys::fd::proc_path;
use wharf_sys::mount::{AttrChange, Depth, MOUNT_ATTR_RDONLY, Parameter, attach, clone_tree, new_filesystem, set_attr};
use wharf_sys::path::RootDir;

/// The directories of one cgroup, to be mounted.
#[derive(Debug, Default)]
pub(crate) struct CgroupTree {
    /// Version 2: the one directory.
    unified: Option<Directory>,
    /// Version 1: name of each hierarchy's mount, and the directory.
    hierarchies: Vec<(String, Directory)>,
    /// Version 1: controllers whose hierarchy has another name.
    links: Vec<(String, String)>,
}

#[derive(Debug)]
enum Directory {
    /// As a detached mount.
    Tree(OwnedFd),
    /// Bound by its path on the host, which init still sees.
    Path(PathBuf),
}

/// Opens the directories of a cgroup for the mounts of the container.
pub(crate) fn open_tree(cgroup: &Cgroup, api: MountApi) -> Result<CgroupTree, RuntimeError> {
    let mut tree = CgroupTree::default();
    let own = cgroup.path().trim_start_matches('/');
    for (controller, directory) in cgroup.directories() {
        let open = || {
            open_directory(&directory, api)
                .map_err(|errno| RuntimeError::system("cgroup mount", format!("open {}", directory.display()), errno))
        };
        if cgroup.version() == Version::V2 {
            tree.unified = Some(open()?);
            continue;
        }
        let mount = directory
            .to_str()
            .and_then(|path| path.strip_suffix(own))
            .unwrap_or_default();
        let Some(name) = Path::new(mount).file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !tree.hierarchies.iter().any(|(known, _)| known == name) {
            tree.hierarchies.push((name.to_owned(), open()?));
        }
        // `cpu,cpuacct` is reached as `cpu` and as `cpuacct` too.
        if name != controller && name.split(',').any(|part| part == controller) {
            tree.links.push((controller, name.to_owned()));
        }
    }
    Ok(tree)
}

fn open_directory(path: &Path, api: MountApi) -> Result<Directory, Errno> {
    if api == MountApi::Classic {
        return Ok(Directory::Path(path.to_owned()));
    }
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    clone_tree(rustix::fs::CWD, &path, Depth::Top).map(Directory::Tree)
}

/// Makes the planned cgroup mount out of the opened directories.
pub(crate) fn attach_cgroups(root: &RootDir, plan: &MountPlan, tree: &CgroupTree) -> Result<(), RuntimeError> {
    let made = match &tree.unified {
        Some(directory) => attach_unified(root, plan, directory),
        None => attach_hierarchies(root, plan, tree),
    };
    made.map_err(|errno| {
        RuntimeError::system(
            "cgroup mount",
            format!("mount the cgroups at {}", plan.destination.display()),
            errno,
        )
    })
}

fn attach_unified(root: &RootDir, plan: &MountPlan, directory: &Directory) -> Result<(), Errno> {
    let target = root.ensure_dir(&plan.destination, Mode::from_raw_mode(0o755))?;
    super::attach::refuse_proc(root, &target)?;
    directory.attach(&target, plan, || root.locate(&plan.destination))
}

fn attach_hierarchies(root: &RootDir, plan: &MountPlan, tree: &CgroupTree) -> Result<(), Errno> {
    let target = root.ensure_dir(&plan.destination, Mode::from_raw_mode(0o755))?;
    super::attach::refuse_proc(root, &target)?;
    let is_classic = matches!(tree.hierarchies.first(), Some((_, Directory::Path(_))));
    let flags = plan.top.set & !MOUNT_ATTR_RDONLY;
    let top = if is_classic {
        classic::mount_tmpfs(&target, flags, "mode=755")?;
        root.locate(&plan.destination)?
    } else {
        let parameters = [Parameter::Text("source", c"tmpfs"), Parameter::Text("mode", c"755")];
        let top = new_filesystem("tmpfs", &parameters, flags)?;
        attach(&top, &target)?;
        top
    };
    let open = |name: &str| rustix::fs::openat(&top, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    for (name, directory) in &tree.hierarchies {
        rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(0o755))?;
        directory.attach(&open(name)?, plan, || open(name))?;
    }
    for (name, to) in &tree.links {
        rustix::fs::symlinkat(to, &top, name)?;
    }
    match plan.top.set & MOUNT_ATTR_RDONLY {
        0 => Ok(()),
        _ if is_classic => classic::remount(&top, classic::read_only()),
        set => change(&top, set),
    }
}

impl Directory {
    /// Puts the directory on `target`; `again` finds the place once more,
    /// with what is mounted there.
    fn attach(
        &self,
        target: &OwnedFd,
        plan: &MountPlan,
        again: impl Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<(), Errno> {
        match self {
            Self::Tree(tree) => {
                change(tree, plan.top.set)?;
                attach(tree, target)
            }
            Self::Path(path) => {
                classic::bind(path, target, Depth::Top)?;
                let made = again()?;
                let attributes = Attributes {
                    set: plan.top.set,
                    clear: 0,
                };
                classic::remount(&made, attributes)?;
                mount_change(proc_path(&made), MountPropagationFlags::DOWNSTREAM)
            }
        }
    }
}

fn change(mount: &OwnedFd, set: u32) -> Result<(), Errno> {
    let propagation = u64::from(crate::plan::mounts::MS_SLAVE);
    set_attr(
        mount,
        Depth::Top,
        AttrChange {
            set: u64::from(set),
            propagation,
            ..AttrChange::default()
        },
    )
}
