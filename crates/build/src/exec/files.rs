//! COPY and ADD: from the instruction to a [`Job`].

use std::path::PathBuf;

use crate::BuildError;
use crate::cache::CacheKey;
use crate::dockerfile::instruction::{Add, Copy, Transfer};
use crate::exec::job::{Group, Job};
use crate::exec::{Executor, Stage, StageState, no_operation, remote};
use crate::ignore::{Patterns, clean_path};
use crate::plan::{Base, resolve_from};
use crate::transfer::{Chmod, Origin, Source};

impl Executor<'_> {
    /// `COPY`.
    pub(super) fn copy_step(&mut self, copy: &Copy, stage: &mut Stage) -> Result<(), BuildError> {
        let source = match &copy.from {
            None => self.context.source()?,
            Some(from) => self.other_source(from, stage.index)?,
        };
        let mut items = Vec::new();
        for written in &copy.transfer.sources {
            items.extend(source.resolve(written, "COPY")?);
        }
        let group = Group {
            source,
            items,
            unpacks: false,
        };
        self.transfer("COPY", &copy.transfer, vec![group], stage)
    }

    /// `ADD`.
    pub(super) fn add_step(&mut self, add: &Add, stage: &mut Stage) -> Result<(), BuildError> {
        let sources = &add.transfer.sources;
        if let Some(checksum) = &add.checksum
            && !sources.iter().all(|source| remote::is_address(source))
        {
            return Err(BuildError::invalid(format!(
                "checksum can't be specified for non-HTTP(S) sources: {checksum}"
            )));
        }
        // Holds what is fetched until it is copied.
        let dir = self.scratch.step()?;
        let mut groups = Vec::new();
        for (index, written) in sources.iter().enumerate() {
            if remote::is_address(written) {
                let place = dir.path(&format!("remote-{index}"));
                groups.push(self.fetch(written, add, &place)?);
                continue;
            }
            let source = self.context.source()?;
            groups.push(Group {
                items: source.resolve(written, "ADD")?,
                source,
                unpacks: add.unpack.unwrap_or(true),
            });
        }
        self.transfer("ADD", &add.transfer, groups, stage)
    }

    /// The tree that `--from` names: a finished stage or an image.
    pub(super) fn other_source(&self, from: &str, index: usize) -> Result<Source, BuildError> {
        let root = match resolve_from(from, index, &self.plan.stages)? {
            Base::Stage(index) => self.open_state(self.finished_stage(index)?)?,
            Base::Image(name) => self.open_state(&self.image(&name, None)?)?,
            Base::Scratch => self.open_state(&StageState::scratch(self.plan.platform.clone()))?,
        };
        Ok(Source::new(root, Origin::Layers, Vec::new()))
    }

    /// What both do: look in the cache, else copy into a new layer.
    fn transfer(
        &mut self,
        keyword: &str,
        transfer: &Transfer,
        groups: Vec<Group>,
        stage: &mut Stage,
    ) -> Result<(), BuildError> {
        let unpacks: Vec<bool> = groups.iter().map(|group| group.unpacks).collect();
        let job = Job {
            keyword,
            transfer,
            groups,
            target: absolute(stage.state.working_dir(), &transfer.target),
            chmod: transfer.chmod.as_deref().map(Chmod::parse).transpose()?,
            excludes: Patterns::parse(transfer.excludes.iter().map(String::as_str))?,
        };
        job.check_target()?;
        let digest = job.digest()?;
        let text = job.describe(&digest);
        let detail = format!("{transfer:?} {unpacks:?}");
        let key = CacheKey::of(&stage.state.identity()?, &[&text, &digest, &detail]);
        let created_by = no_operation(&stage.state, &text);
        self.layer(&key, created_by, stage, |root| job.write(root))
    }
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
