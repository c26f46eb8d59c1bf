//! Mounts that plugins may have: a row from before the plugin is asked until it was told that the mount is over.
use rusqlite::params;

use super::Db;
use super::records::to_json;
use crate::error::{Context, Result};
use crate::volumes::MountRow;

impl Db {
    /// Commits the row of a mount, before the plugin is asked for it.
    pub(crate) fn put_mount(&self, row: &MountRow) -> Result<()> {
        let record = to_json(row)?;
        self.lock()
            .prepare_cached("INSERT OR REPLACE INTO volume_mounts (id, record) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![row.id, record]))
            .internal(|| format!("note a mount of volume {}", row.volume))?;
        Ok(())
    }

    /// Forgets a mount that is over.
    pub(crate) fn delete_mount(&self, id: &str) -> Result<()> {
        self.lock()
            .prepare_cached("DELETE FROM volume_mounts WHERE id = ?1")
            .and_then(|mut s| s.execute([id]))
            .internal(|| format!("forget the mount {id}"))?;
        Ok(())
    }

    /// All mounts that plugins may have.
    pub(crate) fn mounts(&self) -> Result<Vec<MountRow>> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare("SELECT record FROM volume_mounts ORDER BY id")?;
            let rows = statement.query_map([], |r| r.get(0))?;
            rows.collect()
        };
        let rows = read().internal(|| "read the mounts of volumes".into())?;
        let parse = |text: String| serde_json::from_str(&text).internal(|| "read the mount of a volume".into());
        rows.into_iter().map(parse).collect()
    }
}
