//! `RUN --mount`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use wharf_store::Digest;
use wharf_sys::Errno;
use wharf_sys::path::RootDir;

use crate::dockerfile::instruction::{Mount, MountKind, Run, Sharing};
use crate::exec::files::absolute;
use crate::exec::{Executor, Stage, cancelled};
use crate::ignore::{Patterns, clean_path};
use crate::plan::{Base, resolve_from};
use crate::scratch::{StepDir, set_mode};
use crate::transfer::{Copier, CopyOptions, Item, Origin, Ownership, Source};
use crate::{BuildError, RunMount};

/// Cache directories kept at most.
const MAX_CACHES: usize = 100;

/// The mounts of one step, and the locks that hold while it runs.
#[derive(Default)]
pub(super) struct StepMounts {
    pub(super) binds: Vec<RunMount>,
    locks: Vec<File>,
}

impl Executor<'_> {
    /// What of the mounts decides the step's result: the files that are bound, not the caches.
    pub(super) fn mount_keys(&self, run: &Run, stage: &Stage) -> Result<String, BuildError> {
        let mut keys = String::new();
        for mount in &run.mounts {
            keys.push_str(&format!("{mount:?}\n"));
            if mount.kind != MountKind::Bind {
                continue;
            }
            let source = match &mount.from {
                None => self.context.source()?,
                Some(from) => self.other_source(from, stage.index)?,
            };
            let path = mount.source.as_deref().unwrap_or("/");
            for item in source.resolve(&clean_path(path), "RUN --mount")? {
                keys.push_str(&source.digest(&item, &Patterns::default())?);
            }
        }
        Ok(keys)
    }

    /// Makes what the mounts of `run` need.
    pub(super) fn prepare_mounts(&self, run: &Run, stage: &Stage, dir: &StepDir) -> Result<StepMounts, BuildError> {
        let mut mounts = StepMounts::default();
        for (index, mount) in run.mounts.iter().enumerate() {
            let target = mount.target.as_deref().unwrap_or_default();
            let target = absolute(stage.state.working_dir(), target);
            let target = target.trim_end_matches('/').to_string();
            match mount.kind {
                MountKind::Bind => {
                    let bind = self.bind(mount, target, stage, dir, index)?;
                    mounts.binds.push(bind);
                }
                MountKind::Cache => self.cache_mount(mount, target, dir, index, &mut mounts)?,
                MountKind::Tmpfs => mounts.binds.push(RunMount::Tmpfs {
                    target,
                    size_bytes: mount.size_bytes,
                }),
                MountKind::Secret | MountKind::Ssh => refuse_if_required(mount)?,
            }
        }
        Ok(mounts)
    }

    /// Files of the context, a stage or an image. What is in one directory is shown as it is; what
    /// is spread over layers, or may be written to, is a copy that ends with the step.
    fn bind(
        &self,
        mount: &Mount,
        target: String,
        stage: &Stage,
        dir: &StepDir,
        index: usize,
    ) -> Result<RunMount, BuildError> {
        let (source, lower) = match &mount.from {
            None => (self.context.source()?, vec![self.context.dir().to_path_buf()]),
            Some(from) => (
                self.other_source(from, stage.index)?,
                self.lower_dirs_of(from, stage.index)?,
            ),
        };
        let path = clean_path(mount.source.as_deref().unwrap_or("/"));
        let items = source.resolve(&path, "RUN --mount")?;
        let item = items.first().expect("invariant: a source without items is an error");
        let read_only = mount.read_only != Some(false);
        let source = match lower.as_slice() {
            [_] if read_only => real_path(&source, item)?,
            _ => copy_of(&source, item, dir.path(&format!("mount-{index}")))?,
        };
        Ok(RunMount::Bind {
            source,
            target,
            read_only,
        })
    }

    fn lower_dirs_of(&self, from: &str, index: usize) -> Result<Vec<PathBuf>, BuildError> {
        let store = self.services.store;
        let lower = match resolve_from(from, index, &self.plan.stages)? {
            Base::Stage(index) => self.finished_stage(index)?.lower_dirs(store),
            Base::Image(name) => self.image(&name, None)?.lower_dirs(store),
            Base::Scratch => Vec::new(),
        };
        match lower.is_empty() {
            true => Ok(vec![self.scratch.empty()]),
            false => Ok(lower),
        }
    }

    /// A directory that outlives the build.
    fn cache_mount(
        &self,
        mount: &Mount,
        target: String,
        dir: &StepDir,
        index: usize,
        mounts: &mut StepMounts,
    ) -> Result<(), BuildError> {
        if let Some(from) = &mount.from {
            return Err(BuildError::unsupported(format!(
                "RUN --mount=type=cache,from={from}: a cache that begins with files is not supported by this builder"
            )));
        }
        let id = mount.id.as_deref().unwrap_or(&target);
        let root = self.services.store.root();
        forget_oldest_cache(root);
        let hex = Digest::of(id.as_bytes()).hex().to_string();
        let kept = caches_dir(root).join(hex);
        let source = make_dir(kept.join("data"))?;
        let lock = open_lock(&kept.join("lock"))?;
        let source = match mount.sharing {
            Sharing::Shared => self
                .lock(&lock, FlockOperation::NonBlockingLockShared)
                .map(|()| source)?,
            Sharing::Locked => self
                .lock(&lock, FlockOperation::NonBlockingLockExclusive)
                .map(|()| source)?,
            Sharing::Private => match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => source,
                Err(_) => make_dir(dir.path(&format!("cache-{index}")))?,
            },
        };
        dress(&source, mount)?;
        mounts.locks.push(lock);
        mounts.binds.push(RunMount::Bind {
            source,
            target,
            read_only: mount.read_only.unwrap_or(false),
        });
        Ok(())
    }
}

impl Executor<'_> {
    /// Waits for a cache that another build holds, until this build is cancelled.
    fn lock(&self, file: &File, operation: FlockOperation) -> Result<(), BuildError> {
        const PAUSE: Duration = Duration::from_millis(50);
        loop {
            match flock(file, operation) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) if self.request.cancel.is_cancelled() => return Err(cancelled()),
                Err(Errno::AGAIN | Errno::INTR) => std::thread::sleep(PAUSE),
                Err(errno) => return Err(BuildError::internal("locking a build cache directory", errno)),
            }
        }
    }
}

/// Where an item is on the host. SECURITY: it was resolved inside its root, so that its links cannot
/// lead out of it.
fn real_path(source: &Source, item: &Item) -> Result<PathBuf, BuildError> {
    let failed = |error: std::io::Error| {
        let message = format!("RUN --mount: opening {}: {error}", item.path.display());
        BuildError::internal(message, error)
    };
    let location = source.root.locate(&item.path).map_err(|errno| failed(errno.into()))?;
    fs::read_link(wharf_sys::fd::proc_path(&location)).map_err(failed)
}

/// Copies an item, owners and all.
fn copy_of(source: &Source, item: &Item, place: PathBuf) -> Result<PathBuf, BuildError> {
    let place = make_dir(place)?;
    let root =
        RootDir::open(&place).map_err(|errno| BuildError::internal(format!("opening {}", place.display()), errno))?;
    let options = CopyOptions {
        ownership: match source.origin {
            Origin::Context => Ownership::Fixed(0, 0),
            Origin::Layers => Ownership::Kept,
        },
        chmod: None,
        excludes: Patterns::default(),
    };
    let mut copier = Copier::new(source, &root, &options);
    let inner = Path::new("copy");
    match item.is_dir {
        true => copier.copy_content(&item.path, inner)?,
        false => copier.copy_file(&item.path, inner)?,
    }
    Ok(place.join(inner))
}

/// The classic endpoint carries no secrets: one that is not required is left out, as BuildKit does.
fn refuse_if_required(mount: &Mount) -> Result<(), BuildError> {
    if !mount.required {
        return Ok(());
    }
    let id = mount.id.as_deref().unwrap_or("default");
    Err(BuildError::invalid(match mount.kind {
        MountKind::Secret => format!("secret {id}: not found"),
        _ => format!("ssh agent {id}: not found"),
    }))
}

/// Mode and owner of a cache's directory, at its first use.
fn dress(dir: &Path, mount: &Mount) -> Result<(), BuildError> {
    let is_new = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if !is_new {
        return Ok(());
    }
    let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    std::os::unix::fs::chown(dir, Some(uid), Some(gid))
        .map_err(|error| BuildError::internal(format!("setting the owner of {}", dir.display()), error))?;
    set_mode(dir, mount.mode.unwrap_or(0o755))
}

fn caches_dir(root: &Path) -> PathBuf {
    root.join("build-cache").join("mounts")
}

fn make_dir(path: PathBuf) -> Result<PathBuf, BuildError> {
    fs::create_dir_all(&path)
        .map_err(|error| BuildError::internal(format!("creating {}: {error}", path.display()), error))?;
    Ok(path)
}

fn open_lock(path: &Path) -> Result<File, BuildError> {
    // Opening for writing also marks the time of the last use.
    File::create(path).map_err(|error| BuildError::internal(format!("opening {}", path.display()), error))
}

/// Keeps the number of caches inside its cap: removes the one that was not used for longest.
fn forget_oldest_cache(root: &Path) {
    let mut caches = list_caches(root);
    caches.sort();
    if caches.len() >= MAX_CACHES
        && let Some((_, oldest)) = caches.first()
    {
        drop_cache(oldest);
    }
}

/// Removes every cache that no step uses now.
pub(crate) fn drop_cache_mounts(root: &Path) {
    for (_, dir) in list_caches(root) {
        drop_cache(&dir);
    }
}

/// Every cache with the time of its last use.
fn list_caches(root: &Path) -> Vec<(std::time::SystemTime, PathBuf)> {
    let Ok(entries) = fs::read_dir(caches_dir(root)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|dir| Some((fs::metadata(dir.join("lock")).ok()?.modified().ok()?, dir)))
        .collect()
}

/// Removes a cache unless a step holds it.
fn drop_cache(dir: &Path) {
    let Ok(lock) = File::open(dir.join("lock")) else {
        return;
    };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a build cache directory");
    }
}
