//! The volumes of one engine.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use wharf_sys::failpoint;

use crate::error::FileContext;
use crate::plugin::Scope;
use crate::{VolumeError, fill, mounting, naming, options};

type Result<T, E = VolumeError> = std::result::Result<T, E>;

/// The label that Docker gives to volumes that nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// The driver of volumes that are directories of the engine's own.
pub const LOCAL_DRIVER: &str = "local";

/// One volume's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `local`, or a plugin's name.
    pub driver: String,
    /// Options of the driver: `type`, `device`, `o`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Whether nobody named it.
    #[serde(default)]
    pub anonymous: bool,
    /// Where its files are on the host; empty for one of a plugin that is not mounted.
    #[serde(skip)]
    pub mountpoint: PathBuf,
    /// Of a plugin's: what its driver says.
    #[serde(skip)]
    pub scope: Scope,
    /// Of a plugin's: what the plugin tells besides, if it was asked.
    #[serde(skip)]
    pub status: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Volume {
    /// Whether it is the engine's own, not a plugin's.
    pub fn is_local(&self) -> bool {
        self.driver == LOCAL_DRIVER
    }

    /// What is known of a new volume before it is made.
    pub fn planned(new: NewVolume, name: String) -> Self {
        let mut labels = new.labels;
        if new.anonymous {
            labels.entry(ANONYMOUS_LABEL.to_owned()).or_default();
        }
        Self {
            name,
            driver: new.driver,
            options: new.options,
            labels,
            created_at: now(),
            anonymous: new.anonymous,
            mountpoint: PathBuf::new(),
            scope: Scope::Local,
            status: None,
        }
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What to create.
#[derive(Clone, Debug, Default)]
pub struct NewVolume {
    /// Empty: a fresh name of 64 digits, and the volume counts as anonymous.
    pub name: String,
    /// It counts as anonymous although it has a name (chosen by the engine, to find it after a crash).
    pub anonymous: bool,
    /// Empty: `local`.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The volumes below one root; cheap to clone, safe to share between threads.
#[derive(Clone, Debug)]
pub struct Volumes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    counter: AtomicU64,
    /// One lock per volume that is being mounted, filled or removed, with its number of users.
    volumes: Mutex<HashMap<String, Arc<Mutex<usize>>>>,
}

impl Volumes {
    /// Opens or creates `<root>/volumes` and clears what a killed process left half-done. Mounts stay: containers
    /// may be using them.
    pub fn open(root: &Path) -> Result<Volumes> {
        let dir = root.join("volumes");
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&dir)
            .at("creating", &dir)?;
        for entry in fs::read_dir(&dir).at("listing", &dir)? {
            let path = entry.at("listing", &dir)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(".new-") || name.starts_with(".gone-") {
                discard(&path)?;
            }
        }
        let inner = Inner {
            dir,
            counter: AtomicU64::new(0),
            volumes: Mutex::default(),
        };
        Ok(Volumes { inner: Arc::new(inner) })
    }

    /// Creates a volume. Idempotent by name: one that exists is returned as it is, whatever its options.
    pub fn create(&self, new: NewVolume) -> Result<Volume> {
        let anonymous = new.anonymous || new.name.is_empty();
        let name = match new.name.is_empty() {
            true => random_name()?,
            false => new.name.clone(),
        };
        naming::check_local(&name)?;
        if !matches!(new.driver.as_str(), "" | LOCAL_DRIVER) {
            let driver = new.driver;
            return Err(VolumeError::Invalid(format!(
                "create {name}: unknown volume driver {driver:?}"
            )));
        }
        if let Ok(found) = self.inspect(&name) {
            return Ok(found);
        }
        options::check(&new.options)?;
        let driver = LOCAL_DRIVER.to_owned();
        let volume = Volume::planned(
            NewVolume {
                anonymous,
                driver,
                ..new
            },
            name,
        );
        self.write(&volume)?;
        self.inspect(&volume.name)
    }

    /// Writes the record of a plugin's volume; one of this name that is there stays. What it names is the plugin's.
    pub fn note(&self, volume: &Volume) -> Result<()> {
        self.write(volume)
    }

    /// Forgets the record of a plugin's volume; not there is fine.
    pub fn forget(&self, name: &str) -> Result<()> {
        match self.inspect(name) {
            Ok(volume) if !volume.is_local() => self.remove(name),
            Ok(_) | Err(VolumeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The record of a volume.
    pub fn inspect(&self, name: &str) -> Result<Volume> {
        let not_found = || VolumeError::NotFound(name.to_owned());
        let path = self.dir_of(name).ok_or_else(not_found)?.join("volume.json");
        let bytes = match fs::read(&path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(not_found());
            }
            other => other.at("reading", &path)?,
        };
        let parsed: serde_json::Result<Volume> = serde_json::from_slice(&bytes);
        let volume = parsed.map_err(io::Error::from).at("parsing", &path)?;
        let mountpoint = match volume.is_local() {
            true => self.data(name),
            false => PathBuf::new(),
        };
        Ok(Volume {
            mountpoint,
            name: name.to_owned(),
            ..volume
        })
    }

    /// Every volume, sorted by name.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let dir = &self.inner.dir;
        let mut volumes = Vec::new();
        for entry in fs::read_dir(dir).at("listing", dir)? {
            let directory = entry.at("listing", dir)?.file_name().to_string_lossy().into_owned();
            let Some(name) = naming::name_of(&directory) else {
                continue;
            };
            match self.inspect(&name) {
                Ok(volume) => volumes.push(volume),
                Err(VolumeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Removes a volume with its files; of a plugin's only the record. That no container uses it is the caller's
    /// business.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.inspect(name)?;
        let lock = self.lock_of(name);
        let _held = hold(&lock);
        let not_found = || VolumeError::NotFound(name.to_owned());
        let path = self.dir_of(name).ok_or_else(not_found)?;
        mounting::unmount(&path.join("data"))?;
        failpoint::reach("volume/remove/unmounted");
        let gone = self.scratch(".gone-");
        match fs::rename(&path, &gone) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_found()),
            other => other.at("moving away", &path)?,
        }
        failpoint::reach("volume/remove/moved");
        hold(&self.inner.volumes).remove(name);
        discard(&gone)
    }

    /// Makes the data directory usable (mounts `type`/`device` volumes) and returns the host path to bind. Counted
    /// in this process: undo with [`Volumes::release`]. An engine that starts while containers run attaches their
    /// volumes again, otherwise the first release would unmount what the others still share.
    pub fn attach(&self, name: &str) -> Result<PathBuf> {
        let lock = self.lock_of(name);
        let mut users = hold(&lock);
        let volume = self.inspect(name)?;
        mounting::ensure_mounted(&volume.mountpoint, &volume.options)?;
        *users += 1;
        Ok(volume.mountpoint)
    }

    /// Undoes one [`Volumes::attach`] of this process; with the last one, the volume is unmounted from the host.
    /// Containers that are running keep their own mount of it. Without an attach before, nothing happens: others
    /// may be using what an earlier process mounted.
    pub fn release(&self, name: &str) -> Result<()> {
        let lock = self.lock_of(name);
        let mut users = hold(&lock);
        let Some(left) = users.checked_sub(1) else {
            return Ok(());
        };
        *users = left;
        if left > 0 {
            return Ok(());
        }
        match self.inspect(name) {
            Ok(volume) if volume.is_local() && !volume.options.is_empty() => mounting::unmount(&volume.mountpoint),
            Ok(_) | Err(VolumeError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unmounts what an earlier process mounted and nobody has attached in this one: for an engine that has attached
    /// the volumes of all containers that still run. Goes on past failures and returns the first.
    pub fn unmount_unused(&self) -> Result<()> {
        let with_options = self
            .list()?
            .into_iter()
            .filter(|volume| volume.is_local() && !volume.options.is_empty());
        let results: Vec<Result<()>> = with_options
            .map(|volume| {
                let lock = self.lock_of(&volume.name);
                let users = hold(&lock);
                if *users > 0 {
                    Ok(())
                } else {
                    mounting::unmount(&volume.mountpoint)
                }
            })
            .collect();
        results.into_iter().collect()
    }

    /// Unmounts every volume from the host (reset). Goes on past failures and returns the first.
    pub fn unmount_all(&self) -> Result<()> {
        let results: Vec<Result<()>> = self
            .list()?
            .iter()
            .filter(|volume| volume.is_local())
            .map(|volume| mounting::unmount(&volume.mountpoint))
            .collect();
        results.into_iter().collect()
    }

    /// Copy-up: if the volume is empty, copies the directory `path` of an image into it, with owners, modes, times,
    /// attributes and links; the volume's own directory takes that directory's owner and mode. `path` is resolved
    /// inside `rootfs`; if it names no directory there, nothing happens.
    ///
    /// A fill that was interrupted is completed by the next one, without touching what is there.
    pub fn fill(&self, name: &str, rootfs: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let volume = self.inspect(name)?;
        self.fill_at(name, &volume.mountpoint, rootfs, path)
    }

    /// As [`Volumes::fill`], for a volume whose files are at `data` now: a plugin's.
    pub fn fill_at(&self, name: &str, data: &Path, rootfs: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let lock = self.lock_of(name);
        let _held = hold(&lock);
        let not_found = || VolumeError::NotFound(name.to_owned());
        let marker = self.dir_of(name).ok_or_else(not_found)?.join("filling");
        let is_empty = fs::read_dir(data).at("listing", data)?.next().is_none();
        if !is_empty && !marker.exists() {
            return Ok(());
        }
        let Some(source) = fill::open_source(rootfs, path).at("opening", path)? else {
            return Ok(());
        };
        File::create(&marker)
            .and_then(|f| f.sync_all())
            .at("creating", &marker)?;
        let target = File::open(data).at("opening", data)?;
        fill::copy_tree(source.as_fd(), target.as_fd()).at("filling", data)?;
        fs::remove_file(&marker).at("removing", &marker)
    }

    /// Bytes of its files; a file with several names counts once.
    pub fn size(&self, name: &str) -> Result<u64> {
        let volume = self.inspect(name)?;
        let data = File::open(&volume.mountpoint).at("opening", &volume.mountpoint)?;
        fill::size_of(data.as_fd()).at("measuring", &volume.mountpoint)
    }

    /// The directory of a volume of this name; `None` if there can be none.
    fn dir_of(&self, name: &str) -> Option<PathBuf> {
        Some(self.inner.dir.join(naming::directory_of(name)?))
    }

    fn data(&self, name: &str) -> PathBuf {
        self.inner.dir.join(name).join("data")
    }

    fn scratch(&self, prefix: &str) -> PathBuf {
        let n = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        self.inner.dir.join(format!("{prefix}{}-{n}", std::process::id()))
    }

    fn lock_of(&self, name: &str) -> Arc<Mutex<usize>> {
        hold(&self.inner.volumes).entry(name.to_owned()).or_default().clone()
    }

    /// Makes the volume complete under another name, then shows it. ORDER: record and directory are durable before
    /// the rename; the rename is before this returns.
    fn write(&self, volume: &Volume) -> Result<()> {
        let too_long = || VolumeError::Invalid(format!("create {}: the name is too long", volume.name));
        let path = self.dir_of(&volume.name).ok_or_else(too_long)?;
        let new = self.scratch(".new-");
        let make = |path: &Path, mode| DirBuilder::new().mode(mode).create(path).at("creating", path);
        make(&new, 0o711)?;
        if volume.is_local() {
            make(&new.join("data"), 0o755)?;
        }
        let record = new.join("volume.json");
        let text = serde_json::to_vec_pretty(volume)
            .map_err(io::Error::from)
            .at("writing", &record)?;
        let mut file = File::create_new(&record).at("creating", &record)?;
        file.write_all(&text)
            .and_then(|()| file.sync_all())
            .at("writing", &record)?;
        sync_dir(&new)?;
        failpoint::reach("volume/create/written");
        match fs::rename(&new, &path) {
            // Somebody else made it at the same time: theirs counts.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                discard(&new)
            }
            other => {
                other.at("moving into place", &path)?;
                failpoint::reach("volume/create/visible");
                sync_dir(&self.inner.dir)
            }
        }
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).at("syncing", path)
}

/// Removes a volume's directory for good; a mount that is still in it goes first.
fn discard(path: &Path) -> Result<()> {
    let data = path.join("data");
    if data.exists() {
        mounting::unmount(&data)?;
    }
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("removing", path),
    }
}

/// A name for a volume that nobody named.
pub fn random_name() -> Result<String> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0u8; 32];
    File::open(source)
        .and_then(|mut f| f.read_exact(&mut bytes))
        .at("reading", source)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
