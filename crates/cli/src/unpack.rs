//! Archives from containers, extracted on this machine. Their entries are not trusted.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use tar::{Archive, EntryType};
use tokio::sync::mpsc;
use wharf_api::client::Response;

use crate::copy_plan::{Plan, renamed};
use crate::error::CliError;

/// Extracts the body of an answer by the plan, while it arrives; the bytes received.
pub(crate) async fn extract(mut response: Response, plan: Plan) -> Result<u64, CliError> {
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let worker = tokio::task::spawn_blocking(move || {
        let mut reader = Pieces {
            receiver,
            rest: Bytes::new(),
        };
        let result = extract_from(&mut reader, &plan);
        // What follows the end of an archive is read and dropped, so that the sender can end.
        let drained = io::copy(&mut reader, &mut io::sink());
        result.and_then(|()| drained.map(drop))
    });
    let mut received = 0;
    while let Some(bytes) = response.chunk().await? {
        received += bytes.len() as u64;
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    drop(sender);
    match worker.await {
        Ok(result) => result.map(|()| received).map_err(CliError::io("extracting")),
        Err(error) => Err(CliError::message(format!("extracting: {error}"))),
    }
}

struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.rest = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

fn extract_from(reader: &mut dyn Read, plan: &Plan) -> io::Result<()> {
    let root = fs::canonicalize(&plan.dir)?;
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = renamed(&entry.path()?.to_string_lossy(), plan.rename.as_ref());
        let target = safe_target(&root, &name)?;
        check_overwrite(&target, entry.header().entry_type())?;
        match entry.header().entry_type() {
            EntryType::Link => {
                let link = entry.link_name()?.map(|link| link.to_string_lossy().into_owned());
                let source = safe_target(&root, &renamed(&link.unwrap_or_default(), plan.rename.as_ref()))?;
                remove_file(&target)?;
                fs::hard_link(source, &target)?;
            }
            EntryType::Directory => {
                fs::create_dir_all(&target)?;
                directories.push((target, entry.header().mode()?));
            }
            EntryType::XGlobalHeader => {}
            _ => {
                entry.unpack(&target)?;
            }
        }
    }
    // ORDER: a directory that may not be written to must be filled first.
    for (path, mode) in directories.into_iter().rev() {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    Ok(())
}

/// The path of an entry below `root`.
///
/// SECURITY: a container may put `..` and links into its archive to write elsewhere on this
/// machine; `entries_cannot_leave_the_directory` tests both.
fn safe_target(root: &Path, name: &str) -> io::Result<PathBuf> {
    let refused = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("entry {name:?} leaves the directory"),
        )
    };
    let mut target = root.to_owned();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => target.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    let parent = if target == root {
        root
    } else {
        target.parent().ok_or_else(refused)?
    };
    fs::create_dir_all(parent)?;
    if fs::canonicalize(parent)?.starts_with(root) {
        Ok(target)
    } else {
        Err(refused())
    }
}

fn check_overwrite(target: &Path, kind: EntryType) -> io::Result<()> {
    let Ok(existing) = fs::symlink_metadata(target) else {
        return Ok(());
    };
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    let is_dir = kind == EntryType::Directory;
    if existing.is_dir() && !is_dir {
        return refused(format!(
            "cannot overwrite directory {:?} with non-directory",
            target.display()
        ));
    }
    if !existing.is_dir() && is_dir {
        return refused(format!(
            "cannot overwrite non-directory {:?} with directory",
            target.display()
        ));
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_entry_type(*kind);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if *kind == EntryType::Symlink {
                header.set_size(0);
                header.set_link_name(content).unwrap();
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn entries_cannot_leave_the_directory() {
        for entries in [
            vec![("../evil", EntryType::Regular, "x")],
            vec![
                ("l", EntryType::Symlink, "/tmp"),
                ("l/wharf-evil", EntryType::Regular, "x"),
            ],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let inner = dir.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let plan = Plan {
                dir: inner.display().to_string(),
                rename: None,
            };
            assert!(
                extract_from(&mut archive(&entries).as_slice(), &plan).is_err(),
                "{entries:?}"
            );
            assert!(!dir.path().join("evil").exists());
            assert!(!Path::new("/tmp/wharf-evil").exists());
        }
    }

    #[test]
    fn entries_are_renamed_and_directories_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            dir: dir.path().display().to_string(),
            rename: Some(("f".into(), "g".into())),
        };
        extract_from(&mut archive(&[("f", EntryType::Regular, "text")]).as_slice(), &plan).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("g")).unwrap(), "text");
        fs::create_dir(dir.path().join("d")).unwrap();
        let plan = Plan {
            dir: dir.path().display().to_string(),
            rename: None,
        };
        assert!(extract_from(&mut archive(&[("d", EntryType::Regular, "x")]).as_slice(), &plan).is_err());
    }
}
