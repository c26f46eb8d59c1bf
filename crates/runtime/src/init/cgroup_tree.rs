//! The container's view of its cgroup: the `cgroup` and `cgroup2` mounts.

use crate::RuntimeError;
use crate::plan::mounts::MountPlan;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_cgroup::{Cgroup, Version};
use wharf_sys::mount::{AttrChange, Depth, MOUNT_ATTR_RDONLY, Parameter, attach, clone_tree, new_filesystem, set_attr};
use wharf_sys::path::RootDir;

/// The directories of one cgroup as detached mounts.
#[derive(Debug, Default)]
pub(crate) struct CgroupTree {
    /// Version 2: the one directory.
    unified: Option<OwnedFd>,
    /// Version 1: name of each hierarchy's mount, and the directory.
    hierarchies: Vec<(String, OwnedFd)>,
    /// Version 1: controllers whose hierarchy has another name.
    links: Vec<(String, String)>,
}

/// Opens the directories of a cgroup for the mounts of the container.
pub(crate) fn open_tree(cgroup: &Cgroup) -> Result<CgroupTree, RuntimeError> {
    let mut tree = CgroupTree::default();
    let own = cgroup.path().trim_start_matches('/');
    for (controller, directory) in cgroup.directories() {
        let failed = |errno| RuntimeError::system("cgroup mount", format!("open {}", directory.display()), errno);
        if cgroup.version() == Version::V2 {
            tree.unified = Some(clone_directory(&directory).map_err(failed)?);
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
            tree.hierarchies
                .push((name.to_owned(), clone_directory(&directory).map_err(failed)?));
        }
        // `cpu,cpuacct` is reached as `cpu` and as `cpuacct` too.
        if name != controller && name.split(',').any(|part| part == controller) {
            tree.links.push((controller, name.to_owned()));
        }
    }
    Ok(tree)
}

fn clone_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    clone_tree(rustix::fs::CWD, &path, Depth::Top)
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

fn attach_unified(root: &RootDir, plan: &MountPlan, directory: &OwnedFd) -> Result<(), Errno> {
    let target = root.ensure_dir(&plan.destination, Mode::from_raw_mode(0o755))?;
    change(directory, plan.top.set)?;
    attach(directory, &target)
}

fn attach_hierarchies(root: &RootDir, plan: &MountPlan, tree: &CgroupTree) -> Result<(), Errno> {
    let target = root.ensure_dir(&plan.destination, Mode::from_raw_mode(0o755))?;
    let parameters = [Parameter::Text("source", c"tmpfs"), Parameter::Text("mode", c"755")];
    let flags = plan.top.set & !MOUNT_ATTR_RDONLY;
    let top = new_filesystem("tmpfs", &parameters, flags)?;
    attach(&top, &target)?;
    for (name, directory) in &tree.hierarchies {
        rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(0o755))?;
        let place = rustix::fs::openat(&top, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        change(directory, plan.top.set)?;
        attach(directory, &place)?;
    }
    for (name, to) in &tree.links {
        rustix::fs::symlinkat(to, &top, name)?;
    }
    change(&top, plan.top.set & MOUNT_ATTR_RDONLY)
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
