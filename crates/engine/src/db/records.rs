//! Containers and networks: one JSON record per row.
use rusqlite::{Connection, ErrorCode, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Db, JournalId};
use crate::error::{Context, Error, Result};
use crate::model::{ContainerId, ContainerRecord, NetworkId, NetworkRecord};

const PUT_CONTAINER: &str = "INSERT INTO containers (id, name, record) VALUES (?1, ?2, ?3)
     ON CONFLICT (id) DO UPDATE SET name = ?2, record = ?3";

impl Db {
    /// Writes a new or changed container. A taken name is a conflict.
    pub fn put_container(&self, record: &ContainerRecord) -> Result<()> {
        let json = to_json(record)?;
        let done = self
            .lock()
            .prepare_cached(PUT_CONTAINER)
            .and_then(|mut s| s.execute(params![record.id.as_str(), record.name, json]));
        match done {
            Ok(_) => Ok(()),
            Err(e) if is_constraint(&e) => Err(taken(record)),
            Err(e) => Err(e).internal(|| format!("write container {}", record.id)),
        }
    }

    /// Writes a new or changed container and ends rows of the journal, in one transaction. A taken name is a conflict.
    pub fn put_container_ending(&self, record: &ContainerRecord, rows: &[JournalId]) -> Result<()> {
        let json = to_json(record)?;
        let mut connection = self.lock();
        let mut write = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            transaction
                .prepare_cached(PUT_CONTAINER)?
                .execute(params![record.id.as_str(), record.name, json])?;
            for row in rows {
                transaction
                    .prepare_cached("DELETE FROM journal WHERE id = ?1")?
                    .execute([row.0])?;
            }
            transaction.commit()
        };
        match write() {
            Ok(()) => Ok(()),
            Err(e) if is_constraint(&e) => Err(taken(record)),
            Err(e) => Err(e).internal(|| format!("write container {}", record.id)),
        }
    }

    /// Forgets a container and every row of the journal about it, in one transaction.
    pub fn delete_container_ending(&self, id: &ContainerId) -> Result<()> {
        let mut connection = self.lock();
        let mut write = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            transaction
                .prepare_cached("DELETE FROM containers WHERE id = ?1")?
                .execute([id.as_str()])?;
            transaction
                .prepare_cached("DELETE FROM journal WHERE target = ?1")?
                .execute([id.as_str()])?;
            transaction.commit()
        };
        write().internal(|| format!("delete container {id}"))
    }

    /// All containers.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>> {
        all(&self.lock(), "SELECT record FROM containers")
            .internal(|| "read the containers".into())
            .and_then(from_json_rows)
    }

    /// Forgets a container; nothing when it is unknown.
    pub fn delete_container(&self, id: &ContainerId) -> Result<()> {
        self.lock()
            .execute("DELETE FROM containers WHERE id = ?1", [id.as_str()])
            .internal(|| format!("delete container {id}"))?;
        Ok(())
    }

    /// Writes a new or changed network. A taken name is a conflict.
    pub fn put_network(&self, record: &NetworkRecord) -> Result<()> {
        let json = to_json(record)?;
        let done = self.durably(|c| {
            c.execute(
                "INSERT INTO networks (id, name, record) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET name = ?2, record = ?3",
                params![record.id.as_str(), record.name, json],
            )
        });
        match done {
            Ok(_) => Ok(()),
            Err(e) if is_constraint(&e) => Err(Error::conflict(format!(
                "network with name {} already exists",
                record.name
            ))),
            Err(e) => Err(e).internal(|| format!("write network {}", record.id)),
        }
    }

    /// All networks.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>> {
        all(&self.lock(), "SELECT record FROM networks ORDER BY name")
            .internal(|| "read the networks".into())
            .and_then(from_json_rows)
    }

    /// Forgets a network; nothing when it is unknown.
    pub fn delete_network(&self, id: &NetworkId) -> Result<()> {
        self.durably(|c| c.execute("DELETE FROM networks WHERE id = ?1", [id.as_str()]))
            .internal(|| format!("delete network {id}"))?;
        Ok(())
    }
}

fn taken(record: &ContainerRecord) -> Error {
    Error::conflict(format!("the container name {:?} is taken", record.name))
}

fn is_constraint(e: &rusqlite::Error) -> bool {
    e.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn all(connection: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

fn from_json_rows<T: DeserializeOwned>(rows: Vec<String>) -> Result<Vec<T>> {
    rows.iter().map(|text| from_json(text)).collect()
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).internal(|| "write a record as JSON".into())
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).internal(|| "read a record's JSON".into())
}
