//! What the store's tests share: a store in a temporary root, and tars made by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wharf_store::{
    Algorithm, Descriptor, Digest, Hashing, Image, ImageConfig, Layer, Lease, NewImage, PendingLayer, Reference, Store,
    StoreError, media,
};

pub struct Sandbox {
    pub store: Store,
    pub dir: tempfile::TempDir,
}

impl Sandbox {
    pub fn new() -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Sandbox { store, dir }
    }

    /// The same root as a new process would open it.
    pub fn reopen(self) -> Sandbox {
        let Sandbox { store, dir } = self;
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        Sandbox { store, dir }
    }

    pub fn lease(&self) -> Lease {
        self.store.lease("test", Duration::from_secs(60)).unwrap()
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Takes a tar in as a layer, compressed by `compress`.
    pub fn take(&self, lease: &Lease, tar: &[u8], compress: fn(&[u8]) -> Vec<u8>) -> Result<Layer, StoreError> {
        let (layer, blob) = layer_of(tar, compress);
        let pending = self.take_as(lease, &layer, blob)?;
        self.store.publish(&[pending])?;
        Ok(layer)
    }

    pub fn take_as(&self, lease: &Lease, layer: &Layer, blob: Vec<u8>) -> Result<Arc<PendingLayer>, StoreError> {
        let mut open = move |offset: u64| {
            let rest = blob[offset as usize..].to_vec();
            Ok(Box::new(std::io::Cursor::new(rest)) as Box<dyn std::io::Read + Send>)
        };
        self.store.take_layer(lease, layer, &mut open, &|_| {})
    }

    /// An image with one file per layer.
    pub fn image(&self, lease: &Lease, name: Option<&str>, files: &[(&str, &str)]) -> Arc<Image> {
        let layers: Vec<Layer> = files
            .iter()
            .map(|(path, text)| self.take(lease, &tar_of(&[file(path, text)]), gzip).unwrap())
            .collect();
        let name = name.map(|n| Reference::parse(n).unwrap());
        let new = NewImage {
            config: config(),
            layers: &layers,
            name: name.as_ref(),
            parent: None,
        };
        self.store.create_image(lease, new).unwrap()
    }
}

pub fn config() -> ImageConfig {
    ImageConfig {
        architecture: wharf_store::Platform::host().architecture,
        os: "linux".to_owned(),
        created: Some("2026-01-02T03:04:05Z".to_owned()),
        ..ImageConfig::default()
    }
}

pub fn layer_of(tar: &[u8], compress: fn(&[u8]) -> Vec<u8>) -> (Layer, Vec<u8>) {
    let blob = compress(tar);
    let descriptor = Descriptor::new(media::OCI_LAYER_GZIP, Digest::of(&blob), blob.len() as u64);
    (
        Layer {
            diff_id: Digest::of(tar),
            blob: descriptor,
        },
        blob,
    )
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// One tar member.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: String,
    pub kind: tar::EntryType,
    pub link: String,
    pub mode: u32,
    pub owner: (u64, u64),
    pub device: (u32, u32),
    pub data: Vec<u8>,
    pub pax: Vec<(String, Vec<u8>)>,
}

pub fn entry(path: &str, kind: tar::EntryType) -> Entry {
    Entry {
        path: path.to_owned(),
        kind,
        link: String::new(),
        mode: 0o755,
        owner: (0, 0),
        device: (0, 0),
        data: Vec::new(),
        pax: Vec::new(),
    }
}

pub fn file(path: &str, text: &str) -> Entry {
    Entry {
        mode: 0o644,
        data: text.as_bytes().to_vec(),
        ..entry(path, tar::EntryType::Regular)
    }
}

pub fn dir(path: &str) -> Entry {
    entry(path, tar::EntryType::Directory)
}

pub fn symlink(path: &str, target: &str) -> Entry {
    Entry {
        link: target.to_owned(),
        ..entry(path, tar::EntryType::Symlink)
    }
}

pub fn hard_link(path: &str, target: &str) -> Entry {
    Entry {
        link: target.to_owned(),
        ..entry(path, tar::EntryType::Link)
    }
}

pub fn device(path: &str, kind: tar::EntryType, major: u32, minor: u32) -> Entry {
    Entry {
        device: (major, minor),
        ..entry(path, kind)
    }
}

/// Writes members without any of the checks that a tar library makes.
pub fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        if !entry.pax.is_empty() {
            let body: Vec<u8> = entry.pax.iter().flat_map(|(k, v)| record(k, v)).collect();
            member(
                &mut out,
                &Entry {
                    data: body,
                    ..self::entry("pax", tar::EntryType::XHeader)
                },
            );
        }
        member(&mut out, entry);
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

fn member(out: &mut Vec<u8>, entry: &Entry) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(entry.kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(1_700_000_000);
    header.set_size(entry.data.len() as u64);
    header.set_device_major(entry.device.0).unwrap();
    header.set_device_minor(entry.device.1).unwrap();
    let old = header.as_old_mut();
    let n = entry.path.len().min(100);
    old.name[..n].copy_from_slice(&entry.path.as_bytes()[..n]);
    let n = entry.link.len().min(100);
    old.linkname[..n].copy_from_slice(&entry.link.as_bytes()[..n]);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&entry.data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// The digest of a whole reader.
pub fn digest_of(mut reader: impl std::io::Read) -> Digest {
    let mut hashing = Hashing::new(std::io::sink(), Algorithm::Sha256);
    std::io::copy(&mut reader, &mut hashing).unwrap();
    hashing.finish().1
}

/// Names directly in `dir`, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
