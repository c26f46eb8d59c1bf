//! Removing names and images, in the words of Docker's containerd store.
//!
//! The engine plans first, refuses what its containers forbid, then applies; the plan is checked again in the
//! transaction that applies it.

use std::sync::Arc;

use rusqlite::Transaction;
use wharf_sys::failpoint;

use crate::database::{self, Durability};
use crate::error::DatabaseContext;
use crate::images::exists;
use crate::store::{Inner, lock};
use crate::{Digest, GcScope, Image, Reference, Result, Store, StoreError};

/// What removing something would do.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The image it is about.
    pub image: Arc<Image>,
    /// The name that was given; `None` if an id was.
    pub named: Option<Reference>,
    /// The names that go.
    pub untag: Vec<Reference>,
    /// Whether the image itself goes: its last names do, or it was given by id.
    pub deletes: bool,
}

/// What [`Store::remove`] does when the plan deletes the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveMode {
    /// Delete it.
    Delete,
    /// Take the names away and keep the image, dangling, because a container uses it.
    KeepDangling,
}

/// One line of Docker's answer to a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(Reference),
    /// An image is gone.
    Deleted(Digest),
}

impl Store {
    /// Plans the removal of what `text` names (as in [`Store::resolve`]).
    pub fn plan_removal(&self, text: &str) -> Result<Removal> {
        let image = self.resolve(text)?;
        let named = match Reference::parse(text) {
            Ok(reference) if !is_id_of(&image.id, text) => Some(reference.tagged()),
            _ => None,
        };
        let untag = match &named {
            Some(named) => same_references(named, &image.names),
            None => image.names.clone(),
        };
        let deletes = untag.len() == image.names.len();
        Ok(Removal {
            image,
            named,
            untag,
            deletes,
        })
    }

    /// Applies a plan and collects what nothing references any more. Fails with [`StoreError::NoSuchImage`] if the
    /// image is gone meanwhile; if it got more names meanwhile, only the planned names go.
    pub fn remove(&self, removal: &Removal, mode: RemoveMode) -> Result<Vec<Removed>> {
        self.remove_unless(removal, mode, || false)
    }

    /// As [`Store::remove`], but the image stays, dangling, if it is held ([`Store::hold_image`]) or if `is_used`
    /// says so. ORDER: `is_used` is asked after the holds are looked at; a user that becomes visible to `is_used`
    /// before it gives up its hold is therefore never overlooked.
    pub fn remove_unless(
        &self,
        removal: &Removal,
        mode: RemoveMode,
        is_used: impl FnOnce() -> bool,
    ) -> Result<Vec<Removed>> {
        let id = &removal.image.id;
        let gate = self.inner.writing();
        let removed = database::transact(&mut self.inner.database(), Durability::Power, |t| {
            if !exists(t, id)? {
                return Err(StoreError::NoSuchImage(id.to_string()));
            }
            let mut removed = untag(t, &removal.untag, id)?;
            let stays = mode == RemoveMode::KeepDangling || self.is_held(id) || is_used();
            if removal.deletes && !stays && !has_names(t, id)? {
                t.execute("DELETE FROM images WHERE id = ?1", [id.as_str()])
                    .during("deleting an image")?;
                removed.push(Removed::Deleted(id.clone()));
            }
            Ok(removed)
        })?;
        drop(gate);
        failpoint::reach("store/image/removed");
        if removed.iter().any(|r| matches!(r, Removed::Deleted(_))) {
            self.gc(GcScope::Unreferenced)?;
        }
        Ok(removed)
    }

    /// Keeps an image from being deleted (its names may go) while a container of it is being made. Fails with
    /// [`StoreError::NoSuchImage`] if it is gone already.
    pub fn hold_image(&self, id: &Digest) -> Result<ImageHold> {
        let hold = ImageHold {
            inner: self.inner.clone(),
            id: id.clone(),
        };
        *lock(&self.inner.held_images).entry(id.clone()).or_default() += 1;
        // ORDER: looked up after the hold is in place; a removal before it is seen here, one after it sees the hold.
        self.image(id)?;
        Ok(hold)
    }

    fn is_held(&self, id: &Digest) -> bool {
        lock(&self.inner.held_images).contains_key(id)
    }
}

/// Keeps an image from being deleted until it is dropped.
pub struct ImageHold {
    inner: Arc<Inner>,
    id: Digest,
}

impl Drop for ImageHold {
    fn drop(&mut self) {
        let mut held = lock(&self.inner.held_images);
        let count = held.get(&self.id).copied().unwrap_or(1) - 1;
        match count {
            0 => drop(held.remove(&self.id)),
            _ => drop(held.insert(self.id.clone(), count)),
        }
    }
}

fn untag(t: &Transaction<'_>, names: &[Reference], id: &Digest) -> Result<Vec<Removed>> {
    let mut removed = Vec::new();
    for name in names {
        let sql = "DELETE FROM image_names WHERE name = ?1 AND image = ?2";
        if t.execute(sql, [name.canonical().as_str(), id.as_str()])
            .during("removing an image name")?
            > 0
        {
            removed.push(Removed::Untagged(name.clone()));
        }
    }
    Ok(removed)
}

fn has_names(t: &Transaction<'_>, id: &Digest) -> Result<bool> {
    t.query_row(
        "SELECT EXISTS (SELECT 1 FROM image_names WHERE image = ?1)",
        [id.as_str()],
        |row| row.get(0),
    )
    .during("reading image names")
}

fn is_id_of(id: &Digest, text: &str) -> bool {
    id.as_str() == text || id.hex().starts_with(text.strip_prefix("sha256:").unwrap_or(text))
}

/// The names that mean the same as the given one: itself, and, if the repository has only one tag here, the name
/// by digest that a pull left beside it (or the reverse). COMPAT: Docker's `getSameReferences`.
fn same_references(named: &Reference, names: &[Reference]) -> Vec<Reference> {
    let siblings: Vec<&Reference> = names.iter().filter(|n| n.same_repository(named)).collect();
    let tags = siblings.iter().filter(|n| n.tag().is_some()).count();
    let same = |n: &&&Reference| match (named.tag(), n.tag()) {
        (Some(wanted), Some(found)) => wanted == found,
        (Some(_), None) => tags <= 1,
        (None, Some(_)) => tags == 1,
        (None, None) => true,
    };
    siblings.iter().filter(same).map(|n| (*n).clone()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_by_digest_goes_with_the_only_tag_of_its_repository() {
        let digest = Digest::of(b"x");
        let r = |t: &str| Reference::parse(t).unwrap();
        let by_digest = r("a").with_digest(digest);
        let names = [r("a:1"), by_digest.clone(), r("b:1")];
        assert_eq!(same_references(&r("a:1"), &names), [r("a:1"), by_digest.clone()]);
        assert_eq!(same_references(&by_digest, &names), [r("a:1"), by_digest.clone()]);
        let names = [r("a:1"), r("a:2"), by_digest.clone()];
        assert_eq!(same_references(&r("a:1"), &names), [r("a:1")]);
        assert_eq!(same_references(&by_digest, &names), [by_digest]);
    }
}
