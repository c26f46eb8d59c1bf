//! The published records of all networks: readers never wait for a change under way.
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::db::Db;
use crate::error::{Error, Result};
use crate::model::{NetworkId, NetworkRecord};

/// All networks by id; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NetworkTable {
    records: Arc<RwLock<BTreeMap<NetworkId, Arc<NetworkRecord>>>>,
    /// Held by whoever creates or removes one, from the check of names to the record.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
}

impl NetworkTable {
    /// The networks that `db` knows.
    pub fn load(db: &Db) -> Result<Self> {
        let table = Self::default();
        for record in db.networks()? {
            table.publish(record);
        }
        Ok(table)
    }

    /// All networks, by name.
    pub fn all(&self) -> Vec<Arc<NetworkRecord>> {
        let mut all: Vec<_> = self.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// One network by full id, name or unique start of its id, in this order.
    pub fn resolve(&self, text: &str) -> Result<Arc<NetworkRecord>> {
        let records = self.read();
        let exact = records.get(text).or_else(|| records.values().find(|r| r.name == text));
        if let Some(record) = exact {
            return Ok(Arc::clone(record));
        }
        let mut partial = records
            .values()
            .filter(|r| !text.is_empty() && r.id.as_str().starts_with(text));
        match (partial.next(), partial.count()) {
            (Some(record), 0) => Ok(Arc::clone(record)),
            (Some(_), more) => Err(Error::invalid(format!(
                "network {text} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
            (None, _) => Err(Error::not_found(format!("network {text} not found"))),
        }
    }

    /// The network of this name, if there is one.
    pub fn named(&self, name: &str) -> Option<Arc<NetworkRecord>> {
        self.read().values().find(|r| r.name == name).cloned()
    }

    /// Plans of all networks with kernel objects, for `Net::reconcile`.
    pub fn plans(&self) -> Vec<wharf_net::NetworkRecord> {
        self.read().values().filter_map(|r| r.plan.clone()).collect()
    }

    pub(super) fn publish(&self, record: NetworkRecord) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.insert(record.id.clone(), Arc::new(record));
    }

    pub(super) fn withdraw(&self, id: &NetworkId) {
        self.records.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<NetworkId, Arc<NetworkRecord>>> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::networks::predefined;

    fn table() -> NetworkTable {
        let table = NetworkTable::default();
        for (id, name) in [("aa11", "front"), ("aa22", "back"), ("bb33", "aa1")] {
            let mut record = predefined::without_bridge("none");
            record.id = NetworkId::new(id);
            record.name = name.into();
            table.publish(record);
        }
        table
    }

    #[test]
    fn networks_are_found_by_id_then_name_then_prefix() {
        let table = table();
        let check = |text: &str, id: &str| assert_eq!(table.resolve(text).expect(text).id.as_str(), id);
        check("aa11", "aa11");
        check("back", "aa22");
        check("aa1", "bb33");
        check("aa2", "aa22");
        check("b", "bb33");
        assert_eq!(table.resolve("aa").expect_err("two").kind(), ErrorKind::InvalidArgument);
        let missing = table.resolve("zz").expect_err("none");
        assert_eq!(
            (missing.kind(), missing.message()),
            (ErrorKind::NotFound, "network zz not found")
        );
        assert_eq!(table.resolve("").expect_err("empty").kind(), ErrorKind::NotFound);
    }
}
