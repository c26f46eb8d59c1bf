//! Leases and pins: what keeps the collector away from content that no image names yet, or never will.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, params};

use crate::database::{self, Durability, from_ns, now_ns, to_ns};
use crate::error::DatabaseContext;
use crate::store::Inner;
use crate::{Digest, Result, Store, StoreError};

/// Protects content from the collector. Ends when dropped or at its deadline.
///
/// If the process is killed, the protection lasts until the deadline, so that the next engine can resume.
pub struct Lease {
    inner: Arc<Inner>,
    id: String,
    kept: bool,
}

/// A named protection without a deadline (build cache, containers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// What it protects.
    pub digests: Vec<Digest>,
    /// When it was set last.
    pub created: SystemTime,
}

impl Store {
    /// Starts a lease that ends after `time` at the latest.
    pub fn lease(&self, purpose: &str, time: Duration) -> Result<Lease> {
        let inner = &self.inner;
        let id = inner
            .scratch(std::path::Path::new(""), "lease-")
            .to_string_lossy()
            .into_owned();
        let deadline = to_ns(SystemTime::now() + time);
        let row = params![id, inner.session, purpose, now_ns(), deadline];
        inner
            .database()
            .execute(
                "INSERT INTO leases (id, session, purpose, created_ns, deadline_ns) VALUES (?1, ?2, ?3, ?4, ?5)",
                row,
            )
            .during("starting a lease")?;
        Ok(Lease {
            inner: inner.clone(),
            id,
            kept: false,
        })
    }

    /// Sets what the pin of this name protects: blobs, layers (diff ids) or images (their ids, with all they need).
    /// The content must be here already, protected by a lease of the caller.
    pub fn pin(&self, name: &str, digests: &[Digest]) -> Result<()> {
        let _gate = self.inner.writing();
        let id = pin_id(name);
        database::transact(&mut self.inner.database(), Durability::Process, |t| {
            t.execute("DELETE FROM leases WHERE id = ?1", [&id])
                .during("replacing a pin")?;
            t.execute(
                "INSERT INTO leases (id, session, purpose, created_ns) VALUES (?1, '', ?2, ?3)",
                params![id, name, now_ns()],
            )
            .during("setting a pin")?;
            for digest in digests {
                t.execute(
                    "INSERT OR IGNORE INTO lease_refs VALUES (?1, ?2)",
                    [&id, digest.as_str()],
                )
                .during("setting a pin")?;
            }
            Ok(())
        })
    }

    /// Removes a pin; none of this name is fine.
    pub fn unpin(&self, name: &str) -> Result<()> {
        self.inner
            .database()
            .execute("DELETE FROM leases WHERE id = ?1", [pin_id(name)])
            .map(drop)
            .during("removing a pin")
    }

    /// The pins whose names begin so, sorted by name.
    pub fn pins(&self, prefix: &str) -> Result<Vec<Pin>> {
        let database = self.inner.database();
        let mut statement = database
            .prepare_cached(
                "SELECT purpose, created_ns, digest FROM leases LEFT JOIN lease_refs ON lease = id
                 WHERE deadline_ns IS NULL AND substr(purpose, 1, length(?1)) = ?1 ORDER BY purpose, digest",
            )
            .during("listing pins")?;
        let mut rows = statement.query([prefix]).during("listing pins")?;
        let mut pins: Vec<Pin> = Vec::new();
        while let Some(row) = rows.next().during("listing pins")? {
            let name: String = row.get(0).during("listing pins")?;
            let created = from_ns(row.get(1).during("listing pins")?);
            let digest: Option<String> = row.get(2).during("listing pins")?;
            if pins.last().is_none_or(|p| p.name != name) {
                pins.push(Pin {
                    name,
                    digests: Vec::new(),
                    created,
                });
            }
            if let (Some(pin), Some(digest)) = (pins.last_mut(), digest) {
                pin.digests.push(Digest::parse(&digest)?);
            }
        }
        Ok(pins)
    }
}

fn pin_id(name: &str) -> String {
    format!("pin:{name}")
}

impl Lease {
    /// Moves the deadline to `time` from now.
    pub fn extend(&self, time: Duration) -> Result<()> {
        let deadline = to_ns(SystemTime::now() + time);
        let changed = self
            .inner
            .database()
            .execute(
                "UPDATE leases SET deadline_ns = ?2 WHERE id = ?1",
                params![self.id, deadline],
            )
            .during("extending a lease")?;
        if changed == 0 {
            Err(StoreError::LeaseEnded(self.id.clone()))
        } else {
            Ok(())
        }
    }

    /// Protects a blob, a layer (by its diff id) or an image (by its id). Do this before asking whether it exists:
    /// what is found afterwards stays.
    pub fn protect(&self, digest: &Digest) -> Result<()> {
        let _gate = self.inner.writing();
        let database = self.inner.database();
        let deadline: Option<i64> = database
            .query_row("SELECT deadline_ns FROM leases WHERE id = ?1", [&self.id], |row| {
                row.get(0)
            })
            .optional()
            .during("reading a lease")?;
        if deadline.is_none_or(|d| d < now_ns()) {
            return Err(StoreError::LeaseEnded(self.id.clone()));
        }
        database
            .prepare_cached("INSERT OR IGNORE INTO lease_refs VALUES (?1, ?2)")
            .and_then(|mut s| s.execute([self.id.as_str(), digest.as_str()]))
            .map(drop)
            .during("protecting content")
    }

    /// Ends the use of the lease, but leaves its protection until the deadline: for a failed pull that will be tried
    /// again.
    pub fn keep_until_deadline(mut self) {
        self.kept = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self
            .inner
            .database()
            .execute("DELETE FROM leases WHERE id = ?1", [&self.id])
        {
            tracing::warn!(lease = %self.id, %error, "a lease stays until its deadline");
        }
    }
}
