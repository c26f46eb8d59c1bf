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

mod config;
mod digest;
mod error;
mod manifest;
mod reference;

mod attributes;
mod compression;
pub mod extract;
mod inroot;
mod overlay;
mod pack;

mod changes;
mod collect;
mod commit;
mod content;
mod database;
mod fsck;
mod image;
mod images;
mod layers;
mod lease;
mod load;
mod removal;
mod save;
mod store;
mod take;

pub use changes::{Change, ChangeKind, changes};
pub use collect::{Collected, GcScope};
pub use commit::{LayerSource, NewImage};
pub use compression::{Compression, decompress};
pub use config::{History, ImageConfig, RootFs, RunConfig};
pub use digest::{Algorithm, Digest, DigestError, Digester, Hashing};
pub use error::{StoreError, StoreErrorKind};
pub use fsck::{Finding, Mend};
pub use image::{HistoryRow, Image, Layer, PlatformImage};
pub use images::pair_layers;
pub use layers::stack;
pub use lease::{Lease, Pin};
pub use load::Loaded;
pub use manifest::{
    Descriptor, Document, Index, MAX_DOCUMENT_BYTES, MAX_LAYERS, Manifest, ManifestError, Platform, PlatformError,
    media,
};
pub use pack::{PackError, export_tree, pack_path};
pub use reference::{DEFAULT_DOMAIN, DEFAULT_TAG, Reference, ReferenceError, is_tag};
pub use removal::{ImageHold, Removal, RemoveMode, Removed};
pub use save::SaveItem;
pub use store::{Store, keep_apart};
pub use take::{LayerProgress, OpenSource, PendingLayer};

type Result<T, E = StoreError> = std::result::Result<T, E>;
