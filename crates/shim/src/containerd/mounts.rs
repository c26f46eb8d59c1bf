//! The mounts that containerd wants a root file system made of.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use wharf_sys::overlay::Writable;

use crate::task_api::envelope::{Code, Status};
use crate::task_api::messages::Mount;

/// Words for flags; the second is what the word sets, the third what it takes away.
const FLAGS: [(&str, MountFlags, MountFlags); 16] = {
    const NONE: MountFlags = MountFlags::empty();
    [
        ("ro", MountFlags::RDONLY, NONE),
        ("rw", NONE, MountFlags::RDONLY),
        ("nosuid", MountFlags::NOSUID, NONE),
        ("suid", NONE, MountFlags::NOSUID),
        ("nodev", MountFlags::NODEV, NONE),
        ("dev", NONE, MountFlags::NODEV),
        ("noexec", MountFlags::NOEXEC, NONE),
        ("exec", NONE, MountFlags::NOEXEC),
        ("noatime", MountFlags::NOATIME, NONE),
        ("nodiratime", MountFlags::NODIRATIME, NONE),
        ("relatime", MountFlags::RELATIME, NONE),
        ("strictatime", MountFlags::STRICTATIME, NONE),
        ("sync", MountFlags::SYNCHRONOUS, NONE),
        ("bind", MountFlags::BIND, NONE),
        ("rbind", MountFlags::BIND.union(MountFlags::REC), NONE),
        ("defaults", NONE, NONE),
    ]
};

/// Mounts everything at `root`, in order; on failure nothing stays mounted.
pub(super) fn mount_all(mounts: &[Mount], root: &Path) -> Result<(), Status> {
    for mount in mounts {
        if let Err((what, errno)) = mount_one(mount, root) {
            unmount_all(root);
            let text = format!(
                "{what} {} ({}) at {}: {errno}",
                mount.source,
                mount.kind,
                root.display()
            );
            return Err(Status::new(Code::Internal, text));
        }
    }
    Ok(())
}

/// Undoes [`mount_all`]; nothing mounted is fine.
pub(super) fn unmount_all(root: &Path) {
    while rustix::mount::unmount(root, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}

type Failed = (&'static str, Errno);

fn mount_one(mount: &Mount, root: &Path) -> Result<(), Failed> {
    // No snapshotter of containerd asks for it.
    if !mount.target.trim_matches('/').is_empty() {
        return Err(("mount below the root", Errno::OPNOTSUPP));
    }
    std::fs::create_dir_all(root).map_err(|error| ("make the place of", errno_of(&error)))?;
    if let Some((lower, upper, work)) = plain_overlay(mount) {
        let writable = Writable {
            upper: &upper,
            work: &work,
        };
        return wharf_sys::overlay::mount_overlay(&lower, writable, root).map_err(|errno| ("mount", errno));
    }
    let (flags, data) = flags_and_data(&mount.options);
    let data = CString::new(data).map_err(|_| ("spell the options of", Errno::INVAL))?;
    let is_bind = flags.contains(MountFlags::BIND);
    let first = if is_bind {
        flags & (MountFlags::BIND | MountFlags::REC)
    } else {
        flags
    };
    rustix::mount::mount(&mount.source, root, &mount.kind, first, Some(data.as_c_str())).map_err(|e| ("mount", e))?;
    // A bind takes its flags only when it is mounted again.
    let rest = flags - (MountFlags::BIND | MountFlags::REC);
    if is_bind && !rest.is_empty() {
        let again = MountFlags::BIND | rest;
        rustix::mount::mount_remount(root, again, c"").map_err(|errno| ("set the flags of", errno))?;
    }
    Ok(())
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// An overlay that says nothing but its layers is mounted by the calls that have no limit of one page.
fn plain_overlay(mount: &Mount) -> Option<(Vec<PathBuf>, PathBuf, PathBuf)> {
    if mount.kind != "overlay" {
        return None;
    }
    let (mut lower, mut upper, mut work) = (None, None, None);
    for option in &mount.options {
        match option.split_once('=') {
            // A colon in a name is escaped: such a one is left to mount(2).
            Some(("lowerdir", dirs)) if !dirs.contains('\\') => {
                lower = Some(dirs.split(':').map(PathBuf::from).collect());
            }
            Some(("upperdir", dir)) => upper = Some(PathBuf::from(dir)),
            Some(("workdir", dir)) => work = Some(PathBuf::from(dir)),
            Some(("index", "off")) => {}
            _ => return None,
        }
    }
    Some((lower?, upper?, work?))
}

fn flags_and_data(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        match FLAGS.iter().find(|(word, _, _)| word == option) {
            Some((_, set, cleared)) => flags = flags.union(*set).difference(*cleared),
            None => data.push(option),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_are_flags_or_data_for_the_file_system() {
        let check = |words: &[&str], flags: MountFlags, data: &str| {
            assert_eq!(flags_and_data(&options(words)), (flags, data.to_owned()), "{words:?}");
        };
        check(
            &["rbind", "ro"],
            MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY,
            "",
        );
        check(&["ro", "rw"], MountFlags::empty(), "");
        check(
            &["nosuid", "size=1m", "mode=755"],
            MountFlags::NOSUID,
            "size=1m,mode=755",
        );
    }

    #[test]
    fn only_an_overlay_of_layers_alone_takes_the_new_calls() {
        let overlay = |words: &[&str]| Mount {
            kind: "overlay".into(),
            options: options(words),
            ..Mount::default()
        };
        let plain = plain_overlay(&overlay(&["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/a:/b"]));
        assert_eq!(plain, Some((vec!["/a".into(), "/b".into()], "/u".into(), "/w".into())));
        for other in [
            &["lowerdir=/a:/b"][..],
            &["workdir=/w", "upperdir=/u", "lowerdir=/a", "volatile"],
        ] {
            assert_eq!(plain_overlay(&overlay(other)), None, "{other:?}");
        }
    }
}
