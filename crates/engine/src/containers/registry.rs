//! All containers of an engine by id and name.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use super::handle::Handle;
use crate::error::{Error, Result};
use crate::model::{ContainerId, ContainerRecord, ExecId, NetworkMode};

/// Finds containers; readers never wait for an operation.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    index: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: BTreeMap<ContainerId, Arc<Handle>>,
    by_name: HashMap<String, ContainerId>,
    by_exec: HashMap<ExecId, ContainerId>,
    /// Those that use others: by a link, or in their network namespace. Usually few.
    dependent: BTreeMap<ContainerId, Arc<Handle>>,
}

impl Registry {
    /// Takes a name for a container that is about to exist.
    pub(crate) fn reserve_name(&self, name: &str, id: &ContainerId) -> Result<()> {
        let mut index = self.write();
        if let Some(owner) = index.by_name.get(name) {
            return Err(Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
            )));
        }
        index.by_name.insert(name.to_owned(), id.clone());
        Ok(())
    }

    /// Gives a name back, if this container has it.
    pub(crate) fn release_name(&self, name: &str, id: &ContainerId) {
        let mut index = self.write();
        if index.by_name.get(name) == Some(id) {
            index.by_name.remove(name);
        }
    }

    pub(crate) fn insert(&self, handle: Arc<Handle>) {
        let mut index = self.write();
        let record = handle.record();
        index.by_name.insert(record.name.clone(), handle.id.clone());
        if depends_on_others(&record) {
            index.dependent.insert(handle.id.clone(), Arc::clone(&handle));
        }
        index.by_id.insert(handle.id.clone(), handle);
    }

    pub(crate) fn remove(&self, id: &ContainerId) {
        let mut index = self.write();
        let Some(handle) = index.by_id.remove(id) else { return };
        index.dependent.remove(id);
        let name = &handle.record().name;
        if index.by_name.get(name) == Some(id) {
            index.by_name.remove(name);
        }
        index.by_exec.retain(|_, owner| owner != id);
    }

    /// Finds a container by name, id or unique id prefix.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Handle>> {
        let index = self.read();
        let name = text.strip_prefix('/').unwrap_or(text);
        if let Some(handle) = index.by_id.get(name) {
            return Ok(Arc::clone(handle));
        }
        if let Some(handle) = index.by_name.get(name).and_then(|id| index.by_id.get(id)) {
            return Ok(Arc::clone(handle));
        }
        let unknown = || Error::not_found(format!("No such container: {text}"));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let from = ContainerId::new(name);
        let mut matching = index
            .by_id
            .range(from..)
            .map(|(_, h)| h)
            .take_while(|h| h.id.as_str().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(handle), None) => Ok(Arc::clone(handle)),
            (Some(_), Some(_)) => Err(Error::invalid(format!(
                "multiple IDs found with provided prefix: {text}"
            ))),
            _ => Err(unknown()),
        }
    }

    /// All containers.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        self.read().by_id.values().cloned().collect()
    }

    /// All containers that have a link to another or are in its network namespace, which both are
    /// settled when they are created.
    pub(crate) fn dependent(&self) -> Vec<Arc<Handle>> {
        self.read().dependent.values().cloned().collect()
    }

    pub(crate) fn add_exec(&self, exec: ExecId, container: ContainerId) {
        self.write().by_exec.insert(exec, container);
    }

    pub(crate) fn forget_exec(&self, exec: &ExecId) {
        self.write().by_exec.remove(exec);
    }

    /// The container of an exec session.
    pub(crate) fn find_exec(&self, exec: &str) -> Result<Arc<Handle>> {
        let index = self.read();
        let handle = index.by_exec.get(exec).and_then(|id| index.by_id.get(id));
        handle
            .cloned()
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {exec}")))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn depends_on_others(record: &ContainerRecord) -> bool {
    let is_linked = record.host.links.as_ref().is_some_and(|links| !links.is_empty());
    is_linked || matches!(record.host.network(), NetworkMode::Container(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn handle(id: &str, network: &str, links: &[&str]) -> Arc<Handle> {
        let record = serde_json::json!({
            "id": id, "name": format!("name-{id}"), "created": Timestamp::now(), "config": {},
            "host": {"network_mode": network, "links": links}, "image_id": "", "path": "", "args": [], "state": {}, "dir": "",
        });
        let record = serde_json::from_value(record).expect("a record");
        Handle::new(record, tokio::sync::mpsc::channel(1).0)
    }

    #[test]
    fn those_that_use_others_are_known_and_nothing_is_left_of_a_removed_one() {
        let registry = Registry::default();
        registry.insert(handle("a", "bridge", &[]));
        registry.insert(handle("b", "bridge", &["a:db"]));
        registry.insert(handle("c", "container:a", &[]));
        let dependent = || -> Vec<String> { registry.dependent().iter().map(|h| h.id.to_string()).collect() };
        assert_eq!(dependent(), ["b", "c"]);
        let (b, d) = (ContainerId::new("b"), ContainerId::new("d"));
        assert!(registry.reserve_name("name-b", &d).is_err());
        registry.remove(&b);
        assert_eq!(dependent(), ["c"]);
        assert!(registry.reserve_name("name-b", &d).is_ok() && registry.find("name-a").is_ok());
        // Its name is another's by now.
        registry.remove(&b);
        assert!(registry.reserve_name("name-b", &b).is_err());
    }
}
