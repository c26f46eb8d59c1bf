//! One COPY or ADD with everything that its key and its doing need.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use wharf_store::Digest;
use wharf_sys::path::RootDir;

use crate::BuildError;
use crate::dockerfile::Heredoc;
use crate::dockerfile::instruction::Transfer;
use crate::exec::files::in_root;
use crate::ignore::Patterns;
use crate::transfer::{
    Chmod, Copier, CopyOptions, Item, Origin, Ownership, Source, create_file, ensure_dirs, is_archive, is_dir,
    is_regular, parse_chown, remove_leaf, reopen, unpack,
};

/// What is copied, from where to where and how.
pub(super) struct Job<'a> {
    pub(super) keyword: &'a str,
    pub(super) transfer: &'a Transfer,
    /// In the order written.
    pub(super) groups: Vec<Group>,
    /// Absolute, with a slash at the end where one was written.
    pub(super) target: String,
    pub(super) chmod: Option<Chmod>,
    pub(super) excludes: Patterns,
}

/// Items of one source.
pub(super) struct Group {
    pub(super) source: Source,
    pub(super) items: Vec<Item>,
    /// Whether archives among them are unpacked.
    pub(super) unpacks: bool,
}

impl Job<'_> {
    /// Every item with the group it is in.
    fn items(&self) -> impl Iterator<Item = (&Group, &Item)> {
        let groups = self.groups.iter();
        groups.flat_map(|group| group.items.iter().map(move |item| (group, item)))
    }

    /// Many things need a directory to go to.
    pub(super) fn check_target(&self) -> Result<(), BuildError> {
        let count = self.items().count() + self.transfer.heredocs.len();
        if count > 1 && !self.target.ends_with('/') {
            return Err(BuildError::invalid(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                self.keyword
            )));
        }
        Ok(())
    }

    /// What is copied, as 64 hex digits.
    pub(super) fn digest(&self) -> Result<String, BuildError> {
        let mut parts = Vec::new();
        for (group, item) in self.items() {
            let digest = group.source.digest(item, &self.excludes)?;
            parts.push(format!("{} {} {digest}", item.path.display(), item.pivot.display()));
        }
        for heredoc in &self.transfer.heredocs {
            let digest = Digest::of(heredoc.body.as_bytes());
            parts.push(format!("<<{} {digest}", heredoc.name));
        }
        Ok(Digest::of(parts.join("\n").as_bytes()).hex().to_string())
    }

    /// As the history shows it. COMPAT: the classic builder's form, blank at the end included.
    pub(super) fn describe(&self, digest: &str) -> String {
        let mut items = self.items().map(|(_, item)| item);
        let kind = match (items.next(), items.next()) {
            (Some(item), None) if item.is_dir => "dir",
            (Some(_), None) => "file",
            _ => "multi",
        };
        let chown = match &self.transfer.chown {
            Some(chown) => format!("--chown={chown} "),
            None => String::new(),
        };
        format!("{} {chown}{kind}:{digest} in {} ", self.keyword, self.target)
    }

    /// Writes everything into `root`.
    pub(super) fn write(&self, root: &RootDir) -> Result<(), BuildError> {
        let fixed = match &self.transfer.chown {
            Some(chown) => Some(parse_chown(chown, root)?),
            None => None,
        };
        let new_dirs = fixed.unwrap_or((0, 0));
        for group in &self.groups {
            let options = self.copy_options(group, fixed);
            let mut copier = Copier::new(&group.source, root, &options);
            for item in &group.items {
                self.write_item(group, item, root, &mut copier, fixed)?;
            }
        }
        for heredoc in &self.transfer.heredocs {
            self.write_heredoc(heredoc, root, new_dirs)?;
        }
        Ok(())
    }

    /// Whose the files are and which modes they get.
    fn copy_options(&self, group: &Group, fixed: Option<(u32, u32)>) -> CopyOptions {
        CopyOptions {
            ownership: match (fixed, group.source.origin) {
                (Some((uid, gid)), _) => Ownership::Fixed(uid, gid),
                (None, Origin::Context) => Ownership::Fixed(0, 0),
                (None, Origin::Layers) => Ownership::Kept,
            },
            chmod: self.chmod.clone(),
            excludes: self.excludes.clone(),
        }
    }

    fn write_item(
        &self,
        group: &Group,
        item: &Item,
        root: &RootDir,
        copier: &mut Copier<'_>,
        fixed: Option<(u32, u32)>,
    ) -> Result<(), BuildError> {
        let base = in_root(&self.target);
        let new_dirs = fixed.unwrap_or((0, 0));
        if item.is_dir {
            let target = match self.transfer.parents {
                true => base.join(kept_path(item)),
                false => base,
            };
            if let Some(parent) = target.parent() {
                ensure_dirs(root, parent, new_dirs)?;
            }
            return copier.copy_content(&item.path, &target);
        }
        if group.unpacks
            && let Some(mut file) = open_file(&group.source, item)?
            && is_archive(&mut file)?
        {
            ensure_dirs(root, &base, new_dirs)?;
            let into = root
                .open_at(&base, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                .map_err(|errno| BuildError::internal(format!("opening {}", self.target), errno))?;
            let name = item.path.display().to_string();
            return unpack(&file, &name, into.as_fd(), fixed);
        }
        let target = self.file_target(item, root);
        if let Some(parent) = target.parent() {
            ensure_dirs(root, parent, new_dirs)?;
        }
        copier.copy_file(&item.path, &target)
    }

    /// Where one file goes: into the target if that is a directory, otherwise it is the target.
    fn file_target(&self, item: &Item, root: &RootDir) -> PathBuf {
        let base = in_root(&self.target);
        if self.transfer.parents {
            return base.join(kept_path(item));
        }
        match self.target.ends_with('/') || is_dir(root, &base) {
            true => base.join(item.path.file_name().unwrap_or_default()),
            false => base,
        }
    }

    fn write_heredoc(&self, heredoc: &Heredoc, root: &RootDir, owner: (u32, u32)) -> Result<(), BuildError> {
        let base = in_root(&self.target);
        let target = match self.target.ends_with('/') || is_dir(root, &base) {
            true => base.join(&heredoc.name),
            false => base,
        };
        let failed =
            |error: std::io::Error| BuildError::internal(format!("writing {}: {error}", target.display()), error);
        ensure_dirs(root, target.parent().unwrap_or(Path::new("")), owner)?;
        let (parent, name) = root.parent_of(&target).map_err(|errno| failed(errno.into()))?;
        remove_leaf(parent.as_fd(), &name, &target)?;
        let mut file = create_file(parent.as_fd(), &name, &target)?;
        file.write_all(heredoc.body.as_bytes()).map_err(failed)?;
        let mode = self.chmod.as_ref().map_or(0o644, |c| c.apply(0o644, false));
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&file, Some(uid), Some(gid))
            .and_then(|()| rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)))
            .map_err(|errno| failed(errno.into()))
    }
}

/// The path of an item below its pivot, for `--parents`.
fn kept_path(item: &Item) -> &Path {
    item.path.strip_prefix(&item.pivot).unwrap_or(&item.path)
}

/// The item as a readable file; `None` for anything but a regular one.
fn open_file(source: &Source, item: &Item) -> Result<Option<File>, BuildError> {
    let failed = |errno| BuildError::internal(format!("opening {}", item.path.display()), errno);
    let stat = source.stat(&item.path).map_err(failed)?;
    if !is_regular(&stat) {
        return Ok(None);
    }
    let location = source.root.locate(&item.path).map_err(failed)?;
    reopen(location.as_fd()).map(Some).map_err(failed)
}
