//! Containers, networks and volumes: one JSON record per row.
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Db;
use crate::error::{Context, Error, Result};
use crate::model::{ContainerId, ContainerRecord, NetworkId, NetworkRecord, VolumeName, VolumeRecord};

impl Db {
    /// Writes a new or changed container. A taken name is a conflict.
    pub fn put_container(&self, record: &ContainerRecord) -> Result<()> {
        let json = to_json(record)?;
        let done = self
            .lock()
            .prepare_cached(
                "INSERT INTO containers (id, name, record) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET name = ?2, record = ?3",
            )
            .and_then(|mut s| s.execute(params![record.id.as_str(), record.name, json]));
        match done {
            Ok(_) => Ok(()),
            Err(e) if is_constraint(&e) => Err(Error::conflict(format!(
                "the container name {:?} is taken",
                record.name
            ))),
            Err(e) => Err(e).internal(|| format!("write container {}", record.id)),
        }
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

    /// Writes a new or changed volume.
    pub fn put_volume(&self, record: &VolumeRecord) -> Result<()> {
        let json = to_json(record)?;
        self.durably(|c| {
            c.execute(
                "INSERT INTO volumes (name, record) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET record = ?2",
                params![record.name.as_str(), json],
            )
        })
        .internal(|| format!("write volume {}", record.name))?;
        Ok(())
    }

    /// One volume.
    pub fn volume(&self, name: &VolumeName) -> Result<Option<VolumeRecord>> {
        let json: Option<String> = self
            .lock()
            .query_row("SELECT record FROM volumes WHERE name = ?1", [name.as_str()], |r| {
                r.get(0)
            })
            .optional()
            .internal(|| format!("read volume {name}"))?;
        json.map(|text| from_json(&text)).transpose()
    }

    /// All volumes.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>> {
        all(&self.lock(), "SELECT record FROM volumes ORDER BY name")
            .internal(|| "read the volumes".into())
            .and_then(from_json_rows)
    }

    /// Forgets a volume; nothing when it is unknown.
    pub fn delete_volume(&self, name: &VolumeName) -> Result<()> {
        self.durably(|c| c.execute("DELETE FROM volumes WHERE name = ?1", [name.as_str()]))
            .internal(|| format!("delete volume {name}"))?;
        Ok(())
    }
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
