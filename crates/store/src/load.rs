//! `docker load`: OCI layouts and docker-archives, plain or compressed.
//!
//! The archive's files are first set aside in a scratch directory (their order in the tar is free), hashed on the
//! way; then the index or `manifest.json` decides which become blobs. Nothing is extracted by the archive's names.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use wharf_sys::failpoint;

use crate::error::FileContext;
use crate::extract::{Kind, Reader};
use crate::images::pair_layers;
use crate::{
    Algorithm, Descriptor, Digest, Digester, Document, ImageConfig, Index, Layer, Lease, MAX_DOCUMENT_BYTES, Manifest,
    Platform, Reference, Result, Store, StoreError, compression, inroot, media,
};

const LEASE_TIME: Duration = Duration::from_secs(3600);
const MAX_FILES: usize = 100_000;

/// One image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It has this name now (`Loaded image: ...`).
    Named(Reference),
    /// The archive gave it no name (`Loaded image ID: ...`).
    Id(Digest),
}

/// One file of the archive, set aside.
struct Aside {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// All files of the archive, by cleaned name; links resolved to what they name.
struct Archive {
    dir: PathBuf,
    taken: usize,
    files: HashMap<String, Aside>,
    links: HashMap<String, String>,
}

/// One line of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LegacyImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Err(error) = inroot::remove_path(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "the scratch of a load stays until the next start");
        }
    }
}

impl Store {
    /// Loads every image of the archive and unpacks it; with a platform, only that one's content. Images loaded
    /// before a failure stay.
    pub fn load(&self, tar: &mut (dyn Read + Send), platform: Option<&Platform>) -> Result<Vec<Loaded>> {
        let lease = self.lease("load", LEASE_TIME)?;
        let archive = self.set_aside(tar)?;
        failpoint::reach("store/load/aside");
        // ORDER: an archive of `save` is both; the layout knows more.
        let loaded = if archive.find("index.json").is_some() && archive.find("oci-layout").is_some() {
            self.load_layout(&lease, &archive, platform)?
        } else if archive.find("manifest.json").is_some() {
            self.load_legacy(&lease, &archive)?
        } else {
            return Err(bad("it has neither index.json nor manifest.json"));
        };
        if loaded.is_empty() {
            return Err(bad("it holds no image"));
        }
        Ok(loaded)
    }

    fn set_aside(&self, tar: &mut (dyn Read + Send)) -> Result<Archive> {
        let dir = self.inner.scratch(&self.inner.ingest_dir(), ".tmp-");
        DirBuilder::new().mode(0o700).create(&dir).at("creating", &dir)?;
        let mut archive = Archive {
            dir,
            taken: 0,
            files: HashMap::new(),
            links: HashMap::new(),
        };
        let source_error = |source| StoreError::Source {
            what: "the archive to load".to_owned(),
            source,
        };
        let (_, plain) = compression::decompress(tar).map_err(source_error)?;
        let mut reader = Reader::new(plain);
        while let Some(member) = reader.next()? {
            let name = clean(&member.name());
            match member.kind {
                Kind::File => {
                    let aside = archive.take_file(&mut reader)?;
                    archive.files.insert(name, aside);
                }
                // Old docker-archives link repeated layers to the first copy.
                Kind::Symlink => {
                    let target = resolve_link(&name, &String::from_utf8_lossy(&member.link));
                    archive.links.insert(name, target);
                }
                Kind::HardLink => {
                    archive
                        .links
                        .insert(name, clean(&String::from_utf8_lossy(&member.link)));
                }
                _ => {}
            }
        }
        Ok(archive)
    }

    fn load_layout(&self, lease: &Lease, archive: &Archive, platform: Option<&Platform>) -> Result<Vec<Loaded>> {
        let index: Index = parse("index.json", &archive.document("index.json")?)?;
        let legacy_names = archive.legacy_names();
        let mut loaded = Vec::new();
        for target in index.manifests.iter().filter(|m| !m.is_attestation()) {
            self.take_target(lease, archive, target, platform)?;
            let names = layout_names(target, &legacy_names);
            let mut found = target.clone();
            found.platform = None;
            found.annotations.clear();
            loaded.extend(self.record_loaded(lease, &found, names)?);
        }
        Ok(loaded)
    }

    /// Moves a target's blobs into the store. Parts of an index that the archive lacks are left out.
    fn take_target(
        &self,
        lease: &Lease,
        archive: &Archive,
        target: &Descriptor,
        platform: Option<&Platform>,
    ) -> Result<()> {
        let Some(bytes) = archive.blob_document(&target.digest)? else {
            return Err(bad(&format!("blob {} is missing", target.digest)));
        };
        let document = Document::parse(&bytes, &target.media_type).map_err(|source| StoreError::Manifest {
            digest: target.digest.clone(),
            source,
        })?;
        match document {
            Document::Index(index) => {
                for child in &index.manifests {
                    let wanted = match (platform, &child.platform) {
                        (Some(wanted), Some(offered)) => wanted.accepts(offered),
                        _ => true,
                    };
                    if wanted && archive.blob(&child.digest).is_some() {
                        self.take_target(lease, archive, child, platform)?;
                    }
                }
            }
            Document::Manifest(manifest) => self.take_manifest(lease, archive, &target.digest, &manifest)?,
        }
        self.write_blob_as(lease, &target.digest, &bytes)
    }

    fn take_manifest(&self, lease: &Lease, archive: &Archive, digest: &Digest, manifest: &Manifest) -> Result<()> {
        let config_bytes = archive
            .blob_document(&manifest.config.digest)?
            .ok_or_else(|| bad(&format!("configuration {} is missing", manifest.config.digest)))?;
        self.write_blob_as(lease, &manifest.config.digest, &config_bytes)?;
        if manifest.artifact_type.is_some() || !is_image_config(&manifest.config.media_type) {
            for part in &manifest.layers {
                self.take_plain_blob(lease, archive, part)?;
            }
            return Ok(());
        }
        let config: ImageConfig = parse("image configuration", &config_bytes)?;
        let layers = pair_layers(digest, manifest, &config)?;
        let sources = layers.iter().map(|l| (l.clone(), archive.blob(&l.blob.digest)));
        self.take_layers(lease, sources.collect())
    }

    /// Content of an artifact, such as an attestation: kept, not unpacked.
    fn take_plain_blob(&self, lease: &Lease, archive: &Archive, part: &Descriptor) -> Result<()> {
        let Some(aside) = archive.blob(&part.digest) else {
            return Ok(());
        };
        lease.protect(&part.digest)?;
        let path = self.inner.content_path(&part.digest);
        let file = File::open(&aside.path).at("opening", &aside.path)?;
        file.sync_data().at("syncing", &aside.path)?;
        fs::rename(&aside.path, &path).at("moving into place", &path)
    }

    fn take_layers(&self, lease: &Lease, layers: Vec<(Layer, Option<&Aside>)>) -> Result<()> {
        let mut pending = Vec::new();
        for (layer, aside) in layers {
            let missing = format!("layer {} is missing in the archive", layer.blob.digest);
            if let Some(aside) = aside {
                lease.protect(&layer.blob.digest)?;
                let partial = self.inner.partial_path(&layer.blob.digest);
                if aside.path.exists() && !self.has_blob(&layer.blob.digest)? {
                    fs::rename(&aside.path, &partial).at("moving into place", &partial)?;
                }
            }
            let mut open = |_| Err(std::io::Error::new(std::io::ErrorKind::NotFound, missing.clone()));
            pending.push(self.take_layer(lease, &layer, &mut open, &|_| {})?);
        }
        failpoint::reach("store/load/taken");
        self.publish(&pending)
    }

    fn load_legacy(&self, lease: &Lease, archive: &Archive) -> Result<Vec<Loaded>> {
        let images: Vec<LegacyImage> = parse("manifest.json", &archive.document("manifest.json")?)?;
        let mut loaded = Vec::new();
        for image in images {
            let config_bytes = archive.document(&image.config)?;
            let config: ImageConfig = parse(&image.config, &config_bytes)?;
            let names = image.layers.unwrap_or_default();
            if names.len() != config.rootfs.diff_ids.len() {
                return Err(bad("manifest.json and the configuration disagree about the layers"));
            }
            let mut layers = Vec::new();
            for (name, diff_id) in names.iter().zip(&config.rootfs.diff_ids) {
                let aside = archive
                    .find(name)
                    .ok_or_else(|| bad(&format!("layer {name} is missing")))?;
                let blob = Descriptor::new(aside.layer_type()?, aside.digest.clone(), aside.size);
                layers.push((
                    Layer {
                        diff_id: diff_id.clone(),
                        blob,
                    },
                    Some(aside),
                ));
            }
            let blobs: Vec<Descriptor> = layers.iter().map(|(l, _)| l.blob.clone()).collect();
            self.take_layers(lease, layers)?;
            let target = self.write_manifest(lease, &config_bytes, blobs)?;
            let tags = image.repo_tags.unwrap_or_default();
            let names: Result<Vec<Reference>, _> = tags.iter().map(|t| Reference::parse(t)).collect();
            loaded.extend(self.record_loaded(lease, &target, names?)?);
        }
        Ok(loaded)
    }

    fn write_manifest(&self, lease: &Lease, config: &[u8], layers: Vec<Descriptor>) -> Result<Descriptor> {
        let digest = self.write_blob(lease, config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: Descriptor::new(media::OCI_CONFIG, digest, config.len() as u64),
            layers,
            subject: None,
            annotations: Default::default(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|e| bad(&e.to_string()))?;
        let digest = self.write_blob(lease, &bytes)?;
        Ok(Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64))
    }

    fn record_loaded(&self, lease: &Lease, target: &Descriptor, names: Vec<Reference>) -> Result<Vec<Loaded>> {
        self.put_image(lease, target, None, None)?;
        if names.is_empty() {
            return Ok(vec![Loaded::Id(target.digest.clone())]);
        }
        let mut loaded = Vec::new();
        for name in names {
            let name = name.tagged();
            self.tag(&target.digest, &name)?;
            loaded.push(Loaded::Named(name));
        }
        Ok(loaded)
    }
}

impl Archive {
    fn take_file(&mut self, reader: &mut Reader<impl Read>) -> Result<Aside> {
        if self.taken >= MAX_FILES {
            return Err(bad("it has too many files"));
        }
        // Names may repeat in a tar; the number must not.
        let path = self.dir.join(self.taken.to_string());
        self.taken += 1;
        let mut file = File::create(&path).at("creating", &path)?;
        let mut digester = Digester::new(Algorithm::Sha256);
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0;
        loop {
            let n = reader.read_data(&mut buffer)?;
            if n == 0 {
                return Ok(Aside {
                    path,
                    digest: digester.finish(),
                    size,
                });
            }
            digester.update(&buffer[..n]);
            size += n as u64;
            file.write_all(&buffer[..n]).at("writing", &path)?;
        }
    }

    fn find(&self, name: &str) -> Option<&Aside> {
        let mut name = clean(name);
        for _ in 0..8 {
            if let Some(found) = self.files.get(&name) {
                return Some(found);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    fn blob(&self, digest: &Digest) -> Option<&Aside> {
        self.find(&format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()))
    }

    fn blob_document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        self.blob(digest).map(read_aside).transpose()
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        read_aside(self.find(name).ok_or_else(|| bad(&format!("{name} is missing")))?)
    }

    /// Names that `manifest.json` gives, by configuration digest: layouts of other tools name images only there.
    fn legacy_names(&self) -> Vec<LegacyImage> {
        let bytes = self.document("manifest.json").ok();
        bytes.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default()
    }
}

impl Aside {
    fn layer_type(&self) -> Result<&'static str> {
        let mut head = Vec::new();
        File::open(&self.path)
            .and_then(|f| f.take(8).read_to_end(&mut head))
            .at("reading", &self.path)?;
        match compression::Compression::detect(&head) {
            compression::Compression::Gzip => Ok(media::OCI_LAYER_GZIP),
            compression::Compression::Zstd => Ok(media::OCI_LAYER_ZSTD),
            compression::Compression::None => Ok(media::OCI_LAYER),
            other => Err(bad(&format!(
                "a layer is compressed by {other:?}, which images do not use"
            ))),
        }
    }
}

fn read_aside(aside: &Aside) -> Result<Vec<u8>> {
    if aside.size > MAX_DOCUMENT_BYTES {
        return Err(bad("a document in it is larger than 8 MiB"));
    }
    fs::read(&aside.path).at("reading", &aside.path)
}

fn parse<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| bad(&format!("{what}: {e}")))
}

fn bad(reason: &str) -> StoreError {
    StoreError::malformed("the archive is not a saved image", reason)
}

fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, media::OCI_CONFIG | media::DOCKER_CONFIG)
}

/// The names of a target: containerd's annotation, else a full name in the OCI one, else those of manifest.json.
fn layout_names(target: &Descriptor, legacy: &[LegacyImage]) -> Vec<Reference> {
    let annotation = |key: &str| target.annotations.get(key).map(String::as_str);
    if let Some(name) = annotation("io.containerd.image.name").and_then(|n| Reference::parse(n).ok()) {
        return vec![name];
    }
    let full = annotation("org.opencontainers.image.ref.name").filter(|n| n.contains([':', '/']));
    if let Some(name) = full.and_then(|n| Reference::parse(n).ok()) {
        return vec![name];
    }
    match legacy {
        [only] => only
            .repo_tags
            .iter()
            .flatten()
            .filter_map(|t| Reference::parse(t).ok())
            .collect(),
        _ => Vec::new(),
    }
}

fn clean(name: &str) -> String {
    name.split('/')
        .filter(|c| !matches!(*c, "" | "."))
        .collect::<Vec<_>>()
        .join("/")
}

/// What a symbolic link at `name` leads to, as an archive name.
fn resolve_link(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}
