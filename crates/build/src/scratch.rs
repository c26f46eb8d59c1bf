//! The working directory of one build: recognisable and removable after a crash.
//!
//! ```text
//! <root>/build-work/<id>/lock      held with flock by the build's process
//! <root>/build-work/<id>/empty     stands in for the layers of scratch
//! <root>/build-work/<id>/<n>/      upper and work directories of one step
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::BuildError;

/// A build's directory; removed when dropped.
pub(crate) struct Scratch {
    dir: PathBuf,
    _lock: File,
    steps: usize,
}

/// The directories of one step; removed when dropped.
pub(crate) struct StepDir {
    dir: PathBuf,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

impl Scratch {
    /// Makes a directory below `root`.
    pub(crate) fn create(root: &Path) -> Result<Self, BuildError> {
        let dir = root.join("build-work").join(&random_hex(8)?);
        let make = |path: &Path| {
            fs::create_dir_all(path)
                .map_err(|error| BuildError::internal(format!("creating {}: {error}", path.display()), error))
        };
        make(&dir)?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path)
            .map_err(|error| BuildError::internal(format!("creating {}", lock_path.display()), error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| BuildError::internal(format!("locking {}", lock_path.display()), errno))?;
        make(&dir.join("empty"))?;
        Ok(Self {
            dir,
            _lock: lock,
            steps: 0,
        })
    }

    /// An empty directory.
    pub(crate) fn empty(&self) -> PathBuf {
        self.dir.join("empty")
    }

    /// Fresh directories for a step.
    pub(crate) fn step(&mut self) -> Result<StepDir, BuildError> {
        self.steps += 1;
        let dir = self.dir.join(self.steps.to_string());
        let step = StepDir {
            upper: dir.join("upper"),
            work: dir.join("work"),
            dir,
        };
        for path in [&step.upper, &step.work] {
            fs::create_dir_all(path)
                .map_err(|error| BuildError::internal(format!("creating {}: {error}", path.display()), error))?;
        }
        // The upper directory is the root that processes see, whatever the umask is.
        set_mode(&step.upper, 0o755)?;
        Ok(step)
    }
}

impl StepDir {
    /// A path for one more thing of this step.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether the step changed nothing.
    pub(crate) fn is_unchanged(&self) -> Result<bool, BuildError> {
        let mut entries = fs::read_dir(&self.upper)
            .map_err(|error| BuildError::internal(format!("listing {}", self.upper.display()), error))?;
        Ok(entries.next().is_none())
    }
}

impl Drop for StepDir {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// Removes everything that builds of a killed process left half made: directories, records and pins of the cache.
/// Only for a process in which no build runs yet, and that alone uses the store. What cannot be removed is told and left.
pub fn sweep_after_death(store: &wharf_store::Store) {
    let entries = fs::read_dir(store.root().join("build-work"));
    for dir in entries.into_iter().flatten().flatten() {
        remove(&dir.path());
    }
    if let Err(error) = crate::BuildCache::new(store).clear_after_death() {
        tracing::warn!(%error, "the build cache keeps what a killed build left");
    }
}

/// Removes what builds of killed processes left below `root`. Safe beside running builds.
pub(crate) fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root.join("build-work")) else {
        return;
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let lock = File::open(dir.join("lock"));
        let held = lock
            .as_ref()
            .is_ok_and(|lock| flock(lock, FlockOperation::NonBlockingLockExclusive).is_err());
        // A directory without its lock is being made at this moment, or was left just then.
        if !held && (lock.is_ok() || is_old(&dir)) {
            remove(&dir);
        }
    }
}

fn is_old(dir: &Path) -> bool {
    let modified = fs::metadata(dir).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 60))
}

/// Deletes a tree; what cannot be deleted is found again by [`sweep`].
fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a build's directory");
    }
}

/// Sets permission bits of a path of ours.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), BuildError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| BuildError::internal(format!("setting mode of {}", path.display()), error))
}

/// `bytes` random bytes as hex digits.
pub(crate) fn random_hex(bytes: usize) -> Result<String, BuildError> {
    let mut buffer = vec![0; bytes];
    rustix::rand::getrandom(&mut buffer[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| BuildError::internal("reading random bytes", errno))?;
    Ok(hex::encode(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_the_dead_and_spares_the_living() {
        let root = tempfile::tempdir().unwrap();
        let mut alive = Scratch::create(root.path()).unwrap();
        let step = alive.step().unwrap();
        let dead = root.path().join("build-work/dead");
        fs::create_dir_all(dead.join("1/upper")).unwrap();
        fs::write(dead.join("lock"), "").unwrap();
        sweep(root.path());
        assert!(!dead.exists());
        assert!(step.upper.is_dir());
        drop(step);
        drop(alive);
        assert_eq!(fs::read_dir(root.path().join("build-work")).unwrap().count(), 0);
    }
}
