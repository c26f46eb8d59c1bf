//! COPY and ADD.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use wharf_store::Digest;
use wharf_sys::path::RootDir;

use crate::BuildError;
use crate::cache::CacheKey;
use crate::dockerfile::Heredoc;
use crate::dockerfile::instruction::{Add, Copy, Transfer};
use crate::exec::{Executor, Stage, no_operation};
use crate::ignore::{Patterns, clean_path};
use crate::plan::{Base, resolve_from};
use crate::transfer::{
    Chmod, Copier, CopyOptions, Item, Origin, Ownership, Source, create_file, ensure_dirs, is_archive, is_dir,
    parse_chown, remove_leaf, reopen, unpack,
};

/// A COPY or ADD with everything that its key and its doing need.
struct Job<'a> {
    keyword: &'a str,
    transfer: &'a Transfer,
    source: &'a Source,
    items: Vec<Item>,
    /// Absolute, with a slash at the end where one was written.
    target: String,
    chmod: Option<Chmod>,
    excludes: Patterns,
    unpacks: bool,
}

impl Executor<'_> {
    /// `COPY`.
    pub(super) fn copy_step(&mut self, copy: &Copy, stage: &mut Stage) -> Result<(), BuildError> {
        let source = match &copy.from {
            None => self.context.source()?,
            Some(from) => self.other_source(from, stage.index)?,
        };
        self.transfer("COPY", &copy.transfer, &source, false, stage)
    }

    /// `ADD`.
    pub(super) fn add_step(&mut self, add: &Add, stage: &mut Stage) -> Result<(), BuildError> {
        for source in &add.transfer.sources {
            refuse_remote(source)?;
        }
        if let Some(checksum) = &add.checksum {
            return Err(BuildError::invalid(format!(
                "checksum can't be specified for non-HTTP(S) sources: {checksum}"
            )));
        }
        let source = self.context.source()?;
        let unpacks = add.unpack.unwrap_or(true);
        self.transfer("ADD", &add.transfer, &source, unpacks, stage)
    }

    /// The tree that `--from` names: a finished stage or an image.
    pub(super) fn other_source(&self, from: &str, index: usize) -> Result<Source, BuildError> {
        let root = match resolve_from(from, index, &self.plan.stages)? {
            Base::Stage(index) => self.open_state(self.finished_stage(index)?)?,
            Base::Image(name) => self.open_state(&self.image(&name, None)?)?,
            Base::Scratch => self.open_state(&crate::exec::StageState::scratch(self.plan.platform.clone()))?,
        };
        Ok(Source::new(root, Origin::Layers, Vec::new()))
    }

    /// What both do.
    fn transfer(
        &mut self,
        keyword: &str,
        transfer: &Transfer,
        source: &Source,
        unpacks: bool,
        stage: &mut Stage,
    ) -> Result<(), BuildError> {
        let mut items = Vec::new();
        for written in &transfer.sources {
            items.extend(source.resolve(written, keyword)?);
        }
        let job = Job {
            keyword,
            transfer,
            source,
            items,
            target: absolute(stage.state.working_dir(), &transfer.target),
            chmod: transfer.chmod.as_deref().map(Chmod::parse).transpose()?,
            excludes: Patterns::parse(transfer.excludes.iter().map(String::as_str))?,
            unpacks,
        };
        job.check_target()?;
        let digest = job.digest()?;
        let text = job.describe(&digest);
        let detail = format!("{transfer:?} {unpacks}");
        let key = CacheKey::of(&stage.state.identity()?, &[&text, &digest, &detail]);
        let created_by = no_operation(&stage.state, &text);
        self.layer(&key, created_by, stage, |root| job.write(root))
    }
}

impl Job<'_> {
    /// Many things need a directory to go to.
    fn check_target(&self) -> Result<(), BuildError> {
        let count = self.items.len() + self.transfer.heredocs.len();
        if count > 1 && !self.target.ends_with('/') {
            return Err(BuildError::invalid(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                self.keyword
            )));
        }
        Ok(())
    }

    /// What is copied, as 64 hex digits.
    fn digest(&self) -> Result<String, BuildError> {
        let mut parts = Vec::new();
        for item in &self.items {
            let digest = self.source.digest(item, &self.excludes)?;
            parts.push(format!("{} {} {digest}", item.path.display(), item.pivot.display()));
        }
        for heredoc in &self.transfer.heredocs {
            let digest = Digest::of(heredoc.body.as_bytes());
            parts.push(format!("<<{} {digest}", heredoc.name));
        }
        Ok(Digest::of(parts.join("\n").as_bytes()).hex().to_string())
    }

    /// As the history shows it. COMPAT: the classic builder's form, blank at the end included.
    fn describe(&self, digest: &str) -> String {
        let kind = match self.items.as_slice() {
            [item] if item.is_dir => "dir",
            [_] => "file",
            _ => "multi",
        };
        let chown = match &self.transfer.chown {
            Some(chown) => format!("--chown={chown} "),
            None => String::new(),
        };
        format!("{} {chown}{kind}:{digest} in {} ", self.keyword, self.target)
    }

    /// Writes everything into `root`.
    fn write(&self, root: &RootDir) -> Result<(), BuildError> {
        let fixed = match &self.transfer.chown {
            Some(chown) => Some(parse_chown(chown, root)?),
            None => None,
        };
        let ownership = match (fixed, self.source.origin) {
            (Some((uid, gid)), _) => Ownership::Fixed(uid, gid),
            (None, Origin::Context) => Ownership::Fixed(0, 0),
            (None, Origin::Layers) => Ownership::Kept,
        };
        let options = CopyOptions {
            ownership,
            chmod: self.chmod.clone(),
            excludes: self.excludes.clone(),
        };
        let new_dirs = fixed.unwrap_or((0, 0));
        let mut copier = Copier::new(self.source, root, &options);
        for item in &self.items {
            self.write_item(item, root, &mut copier, fixed, new_dirs)?;
        }
        for heredoc in &self.transfer.heredocs {
            self.write_heredoc(heredoc, root, new_dirs)?;
        }
        Ok(())
    }

    fn write_item(
        &self,
        item: &Item,
        root: &RootDir,
        copier: &mut Copier<'_>,
        fixed: Option<(u32, u32)>,
        new_dirs: (u32, u32),
    ) -> Result<(), BuildError> {
        let base = in_root(&self.target);
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
        if self.unpacks
            && let Some(mut file) = self.open_file(item)?
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

    /// The item as a readable file; `None` for anything but a regular one.
    fn open_file(&self, item: &Item) -> Result<Option<File>, BuildError> {
        let failed = |errno| BuildError::internal(format!("opening {}", item.path.display()), errno);
        let stat = self.source.stat(&item.path).map_err(failed)?;
        if !crate::transfer::is_regular(&stat) {
            return Ok(None);
        }
        let location = self.source.root.locate(&item.path).map_err(failed)?;
        reopen(location.as_fd()).map(Some).map_err(failed)
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

/// An absolute path from one that may be relative to `dir`; a slash (or dot) at the end stays a
/// slash.
pub(super) fn absolute(dir: &str, path: &str) -> String {
    let joined = match path.starts_with('/') {
        true => path.to_string(),
        false => format!("{dir}/{path}"),
    };
    let is_dir = joined.ends_with('/') || joined.ends_with("/.") || joined.ends_with("/..");
    let clean = clean_path(&joined);
    match is_dir && !clean.is_empty() {
        true => format!("/{clean}/"),
        false => format!("/{clean}"),
    }
}

/// The same path as the root's own functions take it.
pub(super) fn in_root(path: &str) -> PathBuf {
    PathBuf::from(path.trim_matches('/'))
}

/// ADD of addresses needs a client that this builder does not have.
fn refuse_remote(source: &str) -> Result<(), BuildError> {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@"];
    if !schemes.iter().any(|scheme| source.starts_with(scheme)) {
        return Ok(());
    }
    Err(BuildError::unsupported(format!(
        "ADD {source}: remote sources are not supported by this builder; fetch the file in a RUN step or put it into the build context"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_become_absolute_and_keep_their_slash() {
        let table = [
            ("/", "x", "/x"),
            ("/w", "x/", "/w/x/"),
            ("/w", ".", "/w/"),
            ("/w", "./", "/w/"),
            ("/w", "..", "/"),
            ("/w", "../../../x", "/x"),
            ("/w", "/a/./b", "/a/b"),
            ("/", "/", "/"),
            ("/", ".", "/"),
        ];
        for (dir, path, want) in table {
            assert_eq!(absolute(dir, path), want, "{dir} {path}");
        }
    }
}
