//! Mount points that exist only because something was mounted on them while a step ran: an image
//! must not gain an empty `/proc` or `/etc/hosts` from being built.

use std::fs;
use std::path::{Path, PathBuf};

use wharf_sys::path::RootDir;

use crate::exec::files::in_root;
use crate::{BuildError, RunMount};

/// What every container has mounted.
const ALWAYS: [&str; 6] = ["proc", "sys", "dev", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// Paths that did not exist before a step, deepest first.
pub(super) struct Stubs {
    missing: Vec<PathBuf>,
}

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
        Self { missing }
    }

    /// Removes from `upper` those that are there now and empty. What the step itself filled stays.
    pub(super) fn clear(&self, upper: &Path) -> Result<(), BuildError> {
        for path in &self.missing {
            // SECURITY: the step may have put a link on the way; such a path is left alone.
            if has_link(upper, path) {
                continue;
            }
            let path = upper.join(path);
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            let removed = match (meta.is_dir(), meta.is_file() && meta.len() == 0) {
                (true, _) => fs::remove_dir(&path),
                (_, true) => fs::remove_file(&path),
                _ => Ok(()),
            };
            match removed {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => {
                    let message = format!("removing {}: {error}", path.display());
                    return Err(BuildError::internal(message, error));
                }
            }
        }
        Ok(())
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

    #[test]
    fn only_new_and_empty_mount_points_go() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
        fs::create_dir_all(lower.join("proc")).unwrap();
        let mount = RunMount::Tmpfs {
            target: "/a/b/c".into(),
            size_bytes: None,
        };
        let stubs = Stubs::record(&RootDir::open(&lower).unwrap(), &[mount]);
        for path in ["proc", "sys", "dev/kept", "etc", "a/b/c", "outside"] {
            fs::create_dir_all(upper.join(path)).unwrap();
        }
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("etc/hostname"), "named").unwrap();
        stubs.clear(&upper).unwrap();
        for (path, stays) in [
            ("proc", true),
            ("sys", false),
            ("dev/kept", true),
            ("etc/hosts", false),
            ("etc/hostname", true),
            ("a", false),
            ("outside", true),
        ] {
            assert_eq!(upper.join(path).exists(), stays, "{path}");
        }
    }
}
