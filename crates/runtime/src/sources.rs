//! The sources of binds: opened as detached trees and their ids mapped, with the rights of the host.
//!
//! Most are opened before the clone. One that an earlier mount of the container brings is there
//! only in init's mounts: init opens that and lends it to the runtime, as ids of a file system can
//! be mapped only by who has rights over it.

use crate::channel::{Channel, Message, unexpected};
use crate::init::attach::describe;
use crate::init::c_text;
use crate::init::classic::MountApi;
use crate::plan::mounts::{Kind, MountPlan};
use crate::{Rootfs, RuntimeError, user_namespace};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use wharf_sys::mount::{AttrChange, Depth, clone_tree, set_attr};
use wharf_sys::namespace;

/// Opens the source of every bind as a detached tree, before init has mounts
/// of its own: a missing source fails here, and `rshared` ones stay peers of
/// the host's mount.
///
/// None for what init opens. The classic interface binds by path, in init.
pub(crate) fn open_sources(
    mounts: &[MountPlan],
    rootfs: &Rootfs,
    api: MountApi,
) -> Result<Vec<Option<OwnedFd>>, RuntimeError> {
    mounts
        .iter()
        .enumerate()
        .map(|(index, plan)| {
            let (Kind::Bind { .. }, Some(source)) = (&plan.kind, &plan.source) else {
                return Ok(None);
            };
            if is_left_to_init(plan, &mounts[..index], rootfs) {
                return Ok(None);
            }
            if api == MountApi::Classic {
                let failed = |errno| RuntimeError::system("mounts", describe(plan), errno);
                return rustix::fs::stat(source).map(|_| None).map_err(failed);
            }
            let tree = open_tree(plan)?;
            map_ids(plan, &tree)?;
            Ok(Some(tree))
        })
        .collect()
}

/// What lies below the root may be there only when earlier mounts are. Where ids are mapped it is
/// left to init only if one of them surely brings it: the root of a user namespace may not be let
/// through to what the host can open.
fn is_left_to_init(plan: &MountPlan, earlier: &[MountPlan], rootfs: &Rootfs) -> bool {
    let (Some(source), Rootfs::Directory(root)) = (&plan.source, rootfs) else {
        return false;
    };
    let Ok(inside) = source.strip_prefix(root) else {
        return false;
    };
    let inside = Path::new("/").join(inside);
    plan.id_map.is_none() || earlier.iter().any(|mount| inside.starts_with(&mount.destination))
}

/// Opens the source of a bind as a tree that is attached nowhere.
fn open_tree(plan: &MountPlan) -> Result<OwnedFd, RuntimeError> {
    let depth = match plan.kind {
        Kind::Bind { recursive: true } => Depth::Recursive,
        _ => Depth::Top,
    };
    let source = plan.source.as_deref().unwrap_or(Path::new(""));
    clone_tree(rustix::fs::CWD, &c_text(&source.to_string_lossy()), depth)
        .map_err(|errno| RuntimeError::system("mounts", describe(plan), errno))
}

/// Maps the ids of an opened source as its mount asks.
fn map_ids(plan: &MountPlan, tree: &OwnedFd) -> Result<(), RuntimeError> {
    let Some(map) = &plan.id_map else { return Ok(()) };
    let userns = match &map.namespace {
        Some(path) => namespace::open(path)
            .map_err(|errno| RuntimeError::system("mounts", format!("open {}", path.display()), errno))?,
        None => user_namespace::with_maps(&map.uids, &map.gids)?,
    };
    let depth = if map.recursive { Depth::Recursive } else { Depth::Top };
    let change = AttrChange {
        id_map: Some(userns.as_fd()),
        ..AttrChange::default()
    };
    set_attr(tree, depth, change).map_err(|errno| {
        let text = format!("map the ids of {}", plan.destination.display());
        RuntimeError::system("mounts", text, errno)
    })
}

/// In init: the tree of a bind whose ids are mapped and which the runtime could not open. None for
/// any other mount.
pub(crate) fn open_lent(
    (index, plan): (usize, &MountPlan),
    source: Option<&OwnedFd>,
    channel: &Channel,
) -> Result<Option<OwnedFd>, RuntimeError> {
    if source.is_some() || plan.id_map.is_none() {
        return Ok(None);
    }
    let failed = |errno| RuntimeError::system("channel", "lend a tree to the runtime", errno);
    let tree = open_tree(plan)?;
    let lent = rustix::io::fcntl_dupfd_cloexec(&tree, 0).map_err(failed)?;
    channel.send(&Message::MapIds(index, lent)).map_err(failed)?;
    match channel.receive()? {
        Some(Message::IdsMapped) => Ok(Some(tree)),
        _ => Err(unexpected("something else than that the ids are mapped")),
    }
}

/// The mounts whose sources init lends, each with its index.
#[derive(Debug, Default)]
pub(crate) struct Lent(Vec<(usize, MountPlan)>);

impl Lent {
    /// Those of these mounts that have no opened source and yet ids to map.
    pub(crate) fn of(mounts: &[MountPlan], sources: &[Option<OwnedFd>]) -> Self {
        let both = mounts.iter().zip(sources).enumerate();
        let lent = both.filter(|(_, (plan, source))| plan.id_map.is_some() && source.is_none());
        Self(lent.map(|(index, (plan, _))| (index, plan.clone())).collect())
    }

    /// How often init will ask.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// In the runtime: maps the ids of the tree that init has opened for the mount with this index.
    ///
    /// # Errors
    /// No such mount is lent; a mapping or file system that the kernel refuses.
    pub(crate) fn map_ids(&self, index: usize, tree: &OwnedFd) -> Result<(), RuntimeError> {
        let found = self.0.iter().find(|(number, _)| *number == index);
        let (_, plan) = found.ok_or_else(|| unexpected("a tree that nobody asked for"))?;
        map_ids(plan, tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::plan_mounts;
    use serde_json::json;

    #[test]
    fn only_what_an_earlier_mount_brings_is_left_to_init_when_ids_are_mapped() {
        let root = Rootfs::Directory("/r".into());
        let check = |source: &str, option: &str, expected: bool| {
            let map = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
            let mapped = json!({
                "destination": "/d", "source": source, "options": ["bind", option],
                "uidMappings": if option == "idmap" { map.clone() } else { json!([]) },
                "gidMappings": if option == "idmap" { map } else { json!([]) },
            });
            let earlier = json!({ "destination": "/mnt", "source": "/x", "options": ["bind"] });
            let mounts = serde_json::from_value::<Vec<_>>(json!([earlier, mapped])).expect("mounts");
            let plans = plan_mounts(Path::new("/b"), &mounts).expect("a plan");
            assert_eq!(
                is_left_to_init(&plans[1], &plans[..1], &root),
                expected,
                "{source} {option}"
            );
        };
        check("/r/mnt", "idmap", true);
        check("/r/mnt/below", "idmap", true);
        check("/r/mntx", "idmap", false);
        check("/r/other", "idmap", false);
        check("/r/other", "ro", true);
        check("/mnt", "idmap", false);
        check("/mnt", "ro", false);
    }
}
