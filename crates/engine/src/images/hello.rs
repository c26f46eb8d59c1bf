//! The image `hello`: one layer with our own static shim binary as `/hello`, which says what a
//! container sees when it is called by that name. It is made from this machine's files on first
//! use, so a fresh engine can run a container without any registry.
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wharf_store::{History, Image, ImageConfig, NewImage, Platform, Reference, RunConfig, Store};

use crate::error::{Context, Error, Result};
use crate::model::Timestamp;

/// The name that is never fetched.
const NAME: &str = "docker.io/library/hello:latest";
/// More than enough for a tar of one small file.
const LEASE: Duration = Duration::from_secs(300);

/// Whether `text` means the embedded image.
pub(super) fn is_meant_by(text: &str) -> bool {
    Reference::parse(text).is_ok_and(|name| name.tagged().canonical() == NAME)
}

/// Puts the image into the store.
pub(super) fn make(store: &Store, shim_binary: &Path) -> Result<Arc<Image>> {
    let lease = store.lease("embedded image", LEASE)?;
    let tar = tar_of(shim_binary)?;
    let layer = store.import_layer(&lease, &mut tar.as_slice())?;
    let name = Reference::parse(NAME)?;
    let image = NewImage {
        config: configuration(),
        layers: &[layer],
        name: Some(&name),
        parent: None,
    };
    Ok(store.create_image(&lease, image)?)
}

fn configuration() -> ImageConfig {
    let platform = Platform::host();
    let created = Timestamp::now().to_string();
    ImageConfig {
        created: Some(created.clone()),
        architecture: platform.architecture,
        os: platform.os,
        config: RunConfig {
            cmd: Some(vec!["/hello".into()]),
            ..RunConfig::default()
        },
        history: vec![History {
            created: Some(created),
            created_by: Some("embedded in wharf".into()),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}

fn tar_of(shim_binary: &Path) -> Result<Vec<u8>> {
    let mut program = Vec::new();
    std::fs::File::open(shim_binary)
        .and_then(|mut file| file.read_to_end(&mut program))
        .internal(|| format!("read {}", shim_binary.display()))?;
    let mut builder = tar::Builder::new(Vec::with_capacity(program.len() + 4096));
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    builder
        .append_data(&mut header, "hello", program.as_slice())
        .and_then(|()| builder.into_inner())
        .map_err(|error| Error::internal("pack the embedded image").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_name_means_the_embedded_image() {
        for yes in [
            "hello",
            "hello:latest",
            "docker.io/library/hello",
            "docker.io/hello:latest",
        ] {
            assert!(is_meant_by(yes), "{yes}");
        }
        for no in [
            "hello:1",
            "me/hello",
            "localhost:5000/hello",
            "hello-world",
            "",
            "HELLO",
        ] {
            assert!(!is_meant_by(no), "{no}");
        }
    }
}
