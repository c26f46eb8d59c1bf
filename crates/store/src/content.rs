//! Blobs: verified bytes named by their digest.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use wharf_sys::failpoint;

use crate::error::FileContext;
use crate::store::lock;
use crate::{Digest, Document, Lease, MAX_DOCUMENT_BYTES, Result, Store, StoreError};

impl Store {
    /// The size of a blob that is here.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.inner.content_path(digest);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("looking at", &path),
        }
    }

    /// Whether a blob is here.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.inner.content_path(digest);
        match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(StoreError::NoSuchContent(digest.clone())),
            other => other.at("opening", &path),
        }
    }

    /// Reads a small document, at most [`MAX_DOCUMENT_BYTES`], and verifies it.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT_BYTES + 1)
            .read_to_end(&mut bytes)
            .at("reading", &self.inner.content_path(digest))?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(StoreError::malformed(
                format!("document {digest}"),
                "it is larger than 8 MiB",
            ));
        }
        verify(digest, &bytes)?;
        Ok(bytes)
    }

    /// Stores a small document under its sha256 digest and protects it.
    pub fn write_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.write_blob_as(lease, &digest, bytes)?;
        Ok(digest)
    }

    /// Stores a small document whose digest was promised by somebody else, after verifying it.
    pub fn write_blob_as(&self, lease: &Lease, digest: &Digest, bytes: &[u8]) -> Result<()> {
        verify(digest, bytes)?;
        lease.protect(digest)?;
        if self.has_blob(digest)? {
            return Ok(());
        }
        let temporary = self.inner.scratch(&self.inner.ingest_dir(), ".tmp-");
        write_durably(&temporary, bytes)?;
        failpoint::reach("store/blob/written");
        let path = self.inner.content_path(digest);
        fs::rename(&temporary, &path).at("moving into place", &path)
    }

    /// How many bytes of a blob are already here, as a partial download or whole.
    pub fn partial_size(&self, digest: &Digest) -> Result<u64> {
        if let Some(size) = self.blob_size(digest)? {
            return Ok(size);
        }
        Ok(fs::metadata(self.inner.partial_path(digest)).map_or(0, |m| m.len()))
    }

    /// The parsed manifest or index of this digest.
    pub fn document(&self, digest: &Digest, media_type: &str) -> Result<Arc<Document>> {
        if let Some(found) = lock(&self.inner.documents).get(digest) {
            return Ok(found.clone());
        }
        let bytes = self.read_blob(digest)?;
        let parsed = Document::parse(&bytes, media_type);
        let document = Arc::new(parsed.map_err(|source| StoreError::Manifest {
            digest: digest.clone(),
            source,
        })?);
        lock(&self.inner.documents).insert(digest.clone(), document.clone());
        Ok(document)
    }
}

fn verify(digest: &Digest, bytes: &[u8]) -> Result<()> {
    let actual = Digest::of_as(digest.algorithm(), bytes);
    if actual == *digest {
        Ok(())
    } else {
        Err(StoreError::DigestMismatch {
            expected: digest.clone(),
            actual,
        })
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).at("creating", path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_data())
        .at("writing", path)
}
