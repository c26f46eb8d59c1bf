//! Mount points that exist only because something was mounted on them while a step ran: an image
//! must not gain an empty `/proc` or `/etc/hosts` from being built.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wharf_sys::path::RootDir;

use crate::exec::files::in_root;
use crate::{BuildError, RunMount};

/// What every container has mounted.
const ALWAYS: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// What a step's mount points change besides the step itself.
pub(super) struct Stubs {
    /// Paths that did not exist before, deepest first.
    missing: Vec<PathBuf>,
    /// Directories that get such a path into them: owner and mode before.
    touched: Vec<(PathBuf, Metadata)>,
}

/// Mode, user and group.
type Metadata = (u32, u32, u32);

impl Stubs {
    /// Notes which mount points are missing in `root`.
    pub(super) fn record(root: &RootDir, mounts: &[RunMount]) -> Self {
        let targets = mounts.iter().map(|mount| match mount {
            RunMount::Bind { target, .. } | RunMount::Tmpfs { target, .. } => in_root(target),
        });
        let mut missing: Vec<PathBuf> = ALWAYS
            .iter()
            .map(PathBuf::from)
            .chain(targets)
            .flat_map(|path| path.ancestors().map(Path::to_path_buf).collect::<Vec<_>>())
            .filter(|path| !path.as_os_str().is_empty() && root.locate(path).is_err())
            .collect();
        missing.sort();
        missing.dedup();
        missing.reverse();
        let parents = missing.iter().filter_map(|path| path.parent());
        let mut touched: Vec<(PathBuf, Metadata)> = parents
            .filter(|parent| !parent.as_os_str().is_empty())
            .filter_map(|parent| Some((parent.to_path_buf(), metadata_in(root, parent)?)))
            .collect();
        touched.sort();
        touched.dedup();
        Self { missing, touched }
    }

    /// Removes from `upper` the mount points that are there now and empty. What the step itself
    /// filled stays. So does a directory that it changed; one that is in `upper` only because a
    /// mount point was made in it goes too.
    pub(super) fn clear(&self, upper: &Path) -> Result<(), BuildError> {
        for path in &self.missing {
            remove_if_empty(upper, path, |_| true)?;
        }
        for (path, before) in self.touched.iter().rev() {
            remove_if_empty(upper, path, |meta| {
                meta.is_dir() && (meta.mode(), meta.uid(), meta.gid()) == *before && !is_opaque(&upper.join(path))
            })?;
        }
        Ok(())
    }
}

/// Owner and mode of a directory in `root`.
fn metadata_in(root: &RootDir, path: &Path) -> Option<Metadata> {
    let stat = rustix::fs::fstat(root.locate(path).ok()?).ok()?;
    Some((stat.st_mode, stat.st_uid, stat.st_gid))
}

/// Whether the step emptied the directory: it hides what lower layers have in it.
fn is_opaque(path: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::lgetxattr(path, *name, &mut value[..]).is_ok_and(|n| n == 1 && value[0] == b'y')
    })
}

/// Removes an empty file or directory that `fits`.
fn remove_if_empty(upper: &Path, path: &Path, fits: impl Fn(&fs::Metadata) -> bool) -> Result<(), BuildError> {
    // SECURITY: the step may have put a link on the way; such a path is left alone.
    if has_link(upper, path) {
        return Ok(());
    }
    let path = upper.join(path);
    let Ok(meta) = fs::symlink_metadata(&path) else {
        return Ok(());
    };
    let removed = match (meta.is_dir(), meta.is_file() && meta.len() == 0) {
        (true, _) if fits(&meta) => fs::remove_dir(&path),
        (_, true) if fits(&meta) => fs::remove_file(&path),
        _ => Ok(()),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
            let message = format!("removing {}: {error}", path.display());
            Err(BuildError::internal(message, error))
        }
        _ => Ok(()),
    }
}

/// Whether a directory above the path is a symbolic link.
fn has_link(upper: &Path, path: &Path) -> bool {
    let parents = path.ancestors().skip(1);
    parents
        .filter(|parent| !parent.as_os_str().is_empty())
        .any(|parent| fs::symlink_metadata(upper.join(parent)).is_ok_and(|meta| meta.is_symlink()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_new_and_empty_mount_points_go() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        for path in ["proc", "run", "srv", "opt"] {
            fs::create_dir_all(lower.join(path)).unwrap();
        }
        let mounts = ["/a/b/c", "/run/x", "/srv/x", "/opt/x"].map(|target| RunMount::Tmpfs {
            target: target.into(),
            size_bytes: None,
        });
        let stubs = Stubs::record(&RootDir::open(&lower).unwrap(), &mounts);
        for path in [
            "run/x", "srv/x", "opt/x", "proc", "sys", "dev/kept", "etc", "a/b/c", "outside",
        ] {
            fs::create_dir_all(upper.join(path)).unwrap();
        }
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("etc/hostname"), "named").unwrap();
        fs::set_permissions(upper.join("srv"), fs::Permissions::from_mode(0o700)).unwrap();
        let opaque = "trusted.overlay.opaque";
        rustix::fs::lsetxattr(upper.join("opt"), opaque, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        stubs.clear(&upper).unwrap();
        for (path, stays) in [
            ("proc", true),
            ("sys", false),
            ("dev/kept", true),
            ("etc/hosts", false),
            ("etc/hostname", true),
            ("a", false),
            ("outside", true),
            ("run", false),
            ("srv/x", false),
            ("srv", true),
            ("opt", true),
        ] {
            assert_eq!(upper.join(path).exists(), stays, "{path}");
        }
    }

    #[test]
    fn a_link_left_by_the_step_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper, outside) = ["lower", "upper", "outside"].map(|n| dir.path().join(n)).into();
        for path in [&lower, &upper, &outside] {
            fs::create_dir(path).unwrap();
        }
        fs::write(outside.join("hosts"), "").unwrap();
        let stubs = Stubs::record(&RootDir::open(&lower).unwrap(), &[]);
        std::os::unix::fs::symlink(&outside, upper.join("etc")).unwrap();
        stubs.clear(&upper).unwrap();
        assert!(outside.join("hosts").exists() && upper.join("etc").is_symlink());
    }
}
