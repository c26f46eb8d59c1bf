//! Images on disk: content, layers, records, leases, garbage collection.
//!
//! The store owns `content/`, `ingest/` and `layers/` under the engine's root and the image tables of `wharf.db`;
//! nothing else writes there. It knows no network and no container: the registry client feeds it, the engine asks
//! it for the directories of an image's layers. The interface is synchronous; call it from a blocking thread.
//!
//! ```text
//! <root>/wharf.db                  images, names, leases (SQLite, WAL)
//! <root>/content/sha256/<hex>      verified blobs: manifests, configurations, compressed layers
//! <root>/ingest/sha256-<hex>       blobs still arriving; their length is the offset to resume from
//! <root>/ingest/.tmp-*             scratch of one operation; removed when the store is opened
//! <root>/layers/<hex>/fs           the tree of one unpacked layer, named by its diff id
//! <root>/layers/<hex>/layer.json   its unpacked size and number of entries
//! <root>/layers/.new-*, .gone-*    layers being written or deleted; removed when the store is opened
//! ```
//!
//! Two rules keep it consistent through any crash. Things become visible by rename after their data is durable, and
//! the record that names them is committed last. And whoever writes holds a [`Lease`] and protects a digest with it
//! *before* asking whether the content exists; the collector looks at leases and records under one lock.
#![allow(clippy::todo, missing_docs)]

mod archive;
mod config;
mod digest;
mod error;
pub mod extract;
mod facade;
mod manifest;
mod reference;

pub use archive::*;
pub use config::*;
pub use digest::*;
pub use error::*;
pub use facade::*;
pub use manifest::*;
pub use reference::*;
