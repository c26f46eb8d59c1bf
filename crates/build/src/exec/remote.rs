//! Files that ADD fetches.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use wharf_store::{Algorithm, Digester};
use wharf_sys::path::RootDir;

use crate::BuildError;
use crate::dockerfile::instruction::Add;
use crate::exec::Executor;
use crate::exec::job::Group;
use crate::scratch::set_mode;
use crate::source::REMOTE_HINT;
use crate::transfer::{Item, Origin, Source};

/// Whether a source is no path of the context.
pub(super) fn is_address(source: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@"];
    schemes.iter().any(|scheme| source.starts_with(scheme))
}

impl Executor<'_> {
    /// Fetches one file into a directory of its own below `place`.
    pub(super) fn fetch(&self, address: &str, add: &Add, place: &Path) -> Result<Group, BuildError> {
        refuse_git(address)?;
        let io = |what: &str, error: std::io::Error| {
            BuildError::internal(format!("ADD failed: {what} {address}: {error}"), error)
        };
        fs::create_dir(place).map_err(|error| io("storing", error))?;
        let arriving = place.join(".arriving");
        let mut file = File::create_new(&arriving).map_err(|error| io("storing", error))?;
        let got = self
            .services
            .images
            .download(address, &mut file, &self.request.cancel)
            .map_err(|error| BuildError::new(error.kind, error.message.clone()).with_source(error))?;
        if let Some(time) = got.last_modified {
            file.set_modified(time).map_err(|error| io("storing", error))?;
        }
        if let Some(checksum) = &add.checksum {
            verify(&arriving, checksum)?;
        }
        let name = file_name(address, got.file_name.as_deref(), &add.transfer.target)?;
        let path = place.join(&name);
        fs::rename(&arriving, &path).map_err(|error| io("storing", error))?;
        set_mode(&path, 0o600)?;
        let root = RootDir::open(place).map_err(|errno| io("storing", errno.into()))?;
        Ok(Group {
            source: Source::new(root, Origin::Context, Vec::new()),
            items: vec![Item {
                path: PathBuf::from(name),
                is_dir: false,
                pivot: PathBuf::new(),
            }],
            unpacks: add.unpack.unwrap_or(false),
        })
    }
}

/// Repositories are another kind of source.
fn refuse_git(address: &str) -> Result<(), BuildError> {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let fetched = address.starts_with("http://") || address.starts_with("https://");
    match fetched && !path.ends_with(".git") {
        true => Ok(()),
        false => Err(BuildError::unsupported(format!("ADD {address}: {REMOTE_HINT}"))),
    }
}

/// The name that the server suggests, or the last one of the address. Into a file of another name
/// any will do. SECURITY: it is one name, so it cannot lead anywhere.
fn file_name(address: &str, suggested: Option<&str>, target: &str) -> Result<String, BuildError> {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let last = path.split_once('/').and_then(|(_, rest)| rest.rsplit('/').next());
    let fits = |name: &&str| !name.is_empty() && !name.contains(['/', '\0']) && *name != "." && *name != "..";
    match suggested.filter(fits).or(last.filter(fits)) {
        Some(name) => Ok(name.into()),
        None if !target.ends_with('/') => Ok("download".into()),
        None => Err(BuildError::invalid(format!(
            "cannot determine filename from url: {address}"
        ))),
    }
}

/// Compares the file's digest with the wanted one.
fn verify(path: &Path, wanted: &str) -> Result<(), BuildError> {
    let Some(hex) = wanted.strip_prefix("sha256:") else {
        return Err(BuildError::invalid(format!(
            "unsupported checksum digest {wanted}: use sha256"
        )));
    };
    let failed = |error| BuildError::internal(format!("reading {}", path.display()), error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Digester::new(Algorithm::Sha256);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    let got = hash.finish();
    match got.hex() == hex.to_ascii_lowercase() {
        true => Ok(()),
        false => Err(BuildError::invalid(format!("digest mismatch {got}: {wanted}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_server_or_the_address() {
        let table = [
            ("http://h/a/b.tar?x=/y#z", None, "/d/", Ok("b.tar")),
            ("http://h/a", Some("real.txt"), "/d/", Ok("real.txt")),
            ("http://h/a", Some("../evil"), "/d/", Ok("a")),
            ("http://h/..", None, "/d/f", Ok("download")),
            ("http://h/", None, "/d/f", Ok("download")),
            (
                "http://h",
                None,
                "/d/",
                Err("cannot determine filename from url: http://h"),
            ),
        ];
        for (address, suggested, target, want) in table {
            let got = file_name(address, suggested, target).map_err(|error| error.to_string());
            assert_eq!(got, want.map(String::from).map_err(String::from), "{address}");
        }
    }
}
