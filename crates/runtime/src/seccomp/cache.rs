//! Compiled filters, kept by the content they were compiled from: engines
//! start thousands of containers with the same profile.
//!
//! ```text
//! <directory>/<hash of the source>   magic, program, lengths, check sum | source | instructions
//! ```
//!
//! A filter is taken only from a file that this user alone can have written,
//! and only if the whole source in it is equal to what was asked for: the
//! hash finds the file, it proves nothing. Whatever is wrong with the cache
//! costs the time of a compilation and nothing else.

use super::Filter;
use crate::RuntimeError;
use crate::spec::Seccomp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use wharf_sys::seccomp::Instruction;

/// First bytes of a file; another number for another layout.
const MAGIC: &[u8; 16] = b"wharf filter  1\n";
/// As many files may be kept; beyond, the older half goes.
const MAX_FILES: usize = 64;
/// Larger files are neither written nor read.
const MAX_BYTES: usize = 512 * 1024;
const HEADER: usize = MAGIC.len() + 8 * IDENTITY + 3 * 8;
/// Numbers that tell one program from another.
const IDENTITY: usize = 5;

/// Compiles a filter, or takes it from the cache in `directory`, which is
/// made if need be.
///
/// # Errors
/// As [`super::compile`].
pub fn compile_cached(seccomp: &Seccomp, directory: Option<&Path>) -> Result<Filter, RuntimeError> {
    // What the instructions do not show is checked each time.
    super::policy::check_notify(seccomp)?;
    let Some(cache) = directory.and_then(|directory| Cache::open(directory, seccomp)) else {
        return super::compile(seccomp);
    };
    if let Some(filter) = cache.load() {
        return Ok(filter);
    }
    let filter = super::compile(seccomp)?;
    // A cache that cannot be written to is one that is not there.
    let _ = cache.store(&filter);
    Ok(filter)
}

/// The place of one filter.
struct Cache {
    directory: OwnedFd,
    name: String,
    /// What must stand before the instructions, lengths and check sum apart.
    identity: [u64; IDENTITY],
    source: Vec<u8>,
}

impl Cache {
    fn open(directory: &Path, seccomp: &Seccomp) -> Option<Self> {
        // What decides about the instructions, and nothing else: a listener's metadata may differ each time.
        let source = serde_json::to_vec(&(
            &seccomp.default_action,
            seccomp.default_errno_ret,
            &seccomp.architectures,
            &seccomp.syscalls,
        ))
        .ok()?;
        if source.len() > MAX_BYTES / 2 {
            return None;
        }
        let identity = program_identity()?;
        let name = format!("{:016x}", hash(&source));
        let directory = open_directory(directory).ok()?;
        Some(Self {
            directory,
            name,
            identity,
            source,
        })
    }

    fn load(&self) -> Option<Filter> {
        // SECURITY: neither through a link nor blocking on a pipe, and only what nobody else can have written.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let size = usize::try_from(stat.st_size).ok().filter(|size| *size <= MAX_BYTES)?;
        if !is_ours(&stat, FileType::RegularFile) {
            return None;
        }
        let mut bytes = Vec::with_capacity(size + 1);
        while rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)).ok()? > 0 {
            if bytes.len() > size {
                return None;
            }
        }
        self.parse(&bytes)
    }

    /// The instructions of a file that holds exactly this source.
    fn parse(&self, bytes: &[u8]) -> Option<Filter> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let (source, code) = rest.split_at_checked(self.source.len())?;
        if header != self.header(code) || source != self.source {
            return None;
        }
        let (chunks, []) = code.as_chunks::<8>() else {
            return None;
        };
        let code: Vec<Instruction> = chunks.iter().map(|chunk| Instruction::from_bytes(*chunk)).collect();
        (1..=super::program::MAX_INSTRUCTIONS)
            .contains(&code.len())
            .then_some(Filter(code))
    }

    fn header(&self, code: &[u8]) -> Vec<u8> {
        let lengths = [self.source.len() as u64, code.len() as u64, hash(code)];
        let numbers = self.identity.iter().chain(&lengths).flat_map(|n| n.to_le_bytes());
        MAGIC.iter().copied().chain(numbers).collect()
    }

    /// Writes the filter in one step; a file cut short by a crash of the
    /// machine is told by its check sum.
    fn store(&self, filter: &Filter) -> Result<(), Errno> {
        let code = filter.bytes();
        let bytes = [&self.header(&code)[..], &self.source, &code].concat();
        if bytes.len() > MAX_BYTES {
            return Err(Errno::FBIG);
        }
        let fresh = format!(".{}.{}", self.name, rustix::process::getpid());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &fresh, flags, Mode::from_raw_mode(0o600));
        let written = file
            .and_then(|file| write_all(&file, &bytes))
            .and_then(|()| rustix::fs::renameat(&self.directory, &fresh, &self.directory, &self.name));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.directory, &fresh, AtFlags::empty());
        }
        written?;
        self.prune()
    }

    /// Removes the older half of too many files, unfinished ones included.
    fn prune(&self) -> Result<(), Errno> {
        let mut files = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            files.extend(stat.map(|stat| ((stat.st_mtime, stat.st_mtime_nsec), name.to_owned())));
        }
        if files.len() > MAX_FILES {
            files.sort();
            for (_, name) in files.drain(..MAX_FILES / 2) {
                let _ = rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty());
            }
        }
        Ok(())
    }
}

/// Another program may compile the same source to something else. None where
/// the program's file has no name, as a copy in memory has none.
fn program_identity() -> Option<[u64; IDENTITY]> {
    let stat = rustix::fs::stat(c"/proc/self/exe").ok()?;
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let nanoseconds = stat.st_mtime_nsec;
    let size = u64::try_from(stat.st_size).ok()?;
    (stat.st_nlink > 0).then_some([stat.st_dev, stat.st_ino, size, seconds, nanoseconds])
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    let directory = match open() {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            open()?
        }
        other => other?,
    };
    // SECURITY: who can write here can hand any filter to any container.
    match is_ours(&rustix::fs::fstat(&directory)?, FileType::Directory) {
        true => Ok(directory),
        false => Err(Errno::PERM),
    }
}

/// Whether this user owns it and nobody else may write to it.
fn is_ours(stat: &Stat, kind: FileType) -> bool {
    let is_kind = FileType::from_raw_mode(stat.st_mode) == kind;
    is_kind && stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o022 == 0
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// FNV-1a: names files and notices torn ones.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{compile, default_profile};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    /// The cache of a test and the one file in it.
    fn filled() -> (tempfile::TempDir, Seccomp, PathBuf) {
        let place = tempfile::tempdir().expect("a directory");
        let profile = default_profile(&[]);
        let directory = place.path().join("cache");
        assert_eq!(compile_cached(&profile, Some(&directory)), compile(&profile));
        let file = files(&directory).pop().expect("one file");
        (place, profile, file)
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).expect("list");
        entries.map(|entry| entry.expect("entry").path()).collect()
    }

    fn cached(file: &Path, profile: &Seccomp) -> Option<Filter> {
        Cache::open(file.parent().expect("a directory"), profile)?.load()
    }

    #[test]
    fn what_was_compiled_once_is_taken_from_its_file() {
        let (_place, profile, file) = filled();
        assert_eq!(cached(&file, &profile), compile(&profile).ok());
        let mode = |path: &Path| path.metadata().expect("stat").permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().expect("directory"))), (0o600, 0o700));
        // Only what decides about the instructions is looked at.
        let listened = Seccomp {
            listener_path: Some("/x".into()),
            listener_metadata: Some("x".into()),
            flags: vec!["SECCOMP_FILTER_FLAG_LOG".into()],
            ..profile
        };
        assert!(cached(&file, &listened).is_some());
    }

    #[test]
    fn another_profile_under_the_same_name_is_not_taken() {
        let (_place, profile, file) = filled();
        let other = Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            syscalls: Vec::new(),
            ..profile
        };
        let bytes = std::fs::read(&file).expect("read");
        let cache = Cache::open(file.parent().expect("a directory"), &other).expect("a cache");
        std::fs::write(file.with_file_name(&cache.name), bytes).expect("plant");
        assert_eq!(cache.load(), None);
    }

    #[test]
    fn damaged_files_are_compiled_anew_and_replaced() {
        let (_place, profile, file) = filled();
        let good = std::fs::read(&file).expect("read");
        let mut torn = vec![Vec::new(), good[..good.len() - 8].to_vec(), good[..40].to_vec()];
        for position in [0, 20, HEADER - 1, HEADER + 3, good.len() - 1] {
            let mut bytes = good.clone();
            bytes[position] ^= 1;
            torn.push(bytes);
        }
        torn.push([&good[..], &[0u8; 8]].concat());
        for bytes in torn {
            std::fs::write(&file, &bytes).expect("damage");
            assert_eq!(cached(&file, &profile), None, "{} bytes", bytes.len());
            assert_eq!(compile_cached(&profile, file.parent()), compile(&profile));
            assert_eq!(std::fs::read(&file).expect("read"), good);
        }
    }

    #[test]
    fn what_others_could_have_written_is_not_trusted() {
        let (place, profile, file) = filled();
        let directory = file.parent().expect("a directory");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        };
        set(&file, 0o620);
        assert_eq!(cached(&file, &profile), None);
        set(&file, 0o600);
        set(directory, 0o777);
        assert_eq!(cached(&file, &profile), None);
        set(directory, 0o700);
        assert!(cached(&file, &profile).is_some());
        let moved = place.path().join("moved");
        std::fs::rename(&file, &moved).expect("move");
        symlink(&moved, &file).expect("link");
        assert_eq!(cached(&file, &profile), None);
        symlink(directory, place.path().join("link")).expect("link");
        assert!(Cache::open(&place.path().join("link"), &profile).is_none());
    }

    #[test]
    fn a_cache_that_cannot_be_had_costs_only_time() {
        let (_place, profile, file) = filled();
        assert_eq!(compile_cached(&profile, Some(&file)), compile(&profile));
        assert_eq!(
            compile_cached(&profile, Some(Path::new("/no/such/place"))),
            compile(&profile)
        );
        assert_eq!(compile_cached(&profile, None), compile(&profile));
        let wrong = Seccomp {
            default_action: "SCMP_ACT_X".into(),
            ..profile
        };
        assert_eq!(compile_cached(&wrong, file.parent()), compile(&wrong));
        let unheard = Seccomp {
            listener_metadata: Some("x".into()),
            ..default_profile(&[])
        };
        assert!(compile_cached(&unheard, file.parent()).is_err());
    }

    #[test]
    fn the_cache_does_not_grow_without_bound() {
        let place = tempfile::tempdir().expect("a directory");
        for errno in 0..200 {
            let profile = Seccomp {
                default_action: "SCMP_ACT_ERRNO".into(),
                default_errno_ret: Some(errno),
                ..Seccomp::default()
            };
            compile_cached(&profile, Some(place.path())).expect("compiles");
        }
        let count = files(place.path()).len();
        assert!((1..=MAX_FILES).contains(&count), "{count} files");
    }
}
