//! Checking the store against its records, and mending what can be mended.

use std::collections::BTreeSet;
use std::fs;

use crate::collect::blobs_in;
use crate::error::FileContext;
use crate::{Digest, Digester, Result, Store, inroot};

/// Whether [`Store::fsck`] changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Only report.
    No,
    /// Remove damaged blobs and incomplete layers: a pull fetches the former again, the next use of an image unpacks
    /// the latter again.
    Yes,
}

/// One finding of [`Store::fsck`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: a blob, a layer, an image.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// Whether it was mended.
    pub mended: bool,
}

impl Store {
    /// Hashes every blob and checks every layer and image record. Takes as long as reading the whole store.
    pub fn fsck(&self, mend: Mend) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        self.check_blobs(mend, &mut findings)?;
        self.check_layers(mend, &mut findings)?;
        self.check_images(&mut findings)?;
        Ok(findings)
    }

    fn check_blobs(&self, mend: Mend, findings: &mut Vec<Finding>) -> Result<()> {
        for name in ["sha256", "sha512"] {
            for (digest, path, _) in blobs_in(&self.root().join("content").join(name))? {
                let actual = match self.hash_blob(&digest) {
                    Ok(actual) => actual,
                    // Collected since it was listed.
                    Err(crate::StoreError::NoSuchContent(_)) => continue,
                    Err(error) => return Err(error),
                };
                if actual == digest {
                    continue;
                }
                if mend == Mend::Yes {
                    inroot::remove_path(&path).at("removing", &path)?;
                    self.forget(&digest);
                }
                let problem = format!("its bytes have the digest {actual}");
                findings.push(Finding {
                    subject: format!("blob {digest}"),
                    problem,
                    mended: mend == Mend::Yes,
                });
            }
        }
        Ok(())
    }

    fn hash_blob(&self, digest: &Digest) -> Result<Digest> {
        use std::io::Read;
        let mut file = self.open_blob(digest)?;
        let mut digester = Digester::new(digest.algorithm());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer).at("reading", &self.inner.content_path(digest))?;
            if n == 0 {
                return Ok(digester.finish());
            }
            digester.update(&buffer[..n]);
        }
    }

    fn check_layers(&self, mend: Mend, findings: &mut Vec<Finding>) -> Result<()> {
        for diff_id in self.inner.unpacked_layers()? {
            let whole = self.layer_dir(&diff_id).is_dir() && self.layer_size(&diff_id).is_ok();
            if whole {
                continue;
            }
            if mend == Mend::Yes {
                let path = self.inner.layer_path(&diff_id);
                let gone = self.inner.scratch(&self.inner.layers_dir(), ".gone-");
                fs::rename(&path, &gone).at("moving away", &path)?;
                inroot::remove_path(&gone).at("removing", &gone)?;
                self.forget(&diff_id);
            }
            let problem = "its tree or its note is missing".to_owned();
            findings.push(Finding {
                subject: format!("layer {diff_id}"),
                problem,
                mended: mend == Mend::Yes,
            });
        }
        Ok(())
    }

    /// Images whose content is incomplete are reported only: removing one is for its owner to decide.
    fn check_images(&self, findings: &mut Vec<Finding>) -> Result<()> {
        for image in self.images()? {
            let subject = match image.names.first() {
                Some(name) => format!("image {name}"),
                None => format!("image {}", image.id),
            };
            if image.platforms.is_empty() {
                let problem = "no platform of it is complete; pull it again".to_owned();
                findings.push(Finding {
                    subject,
                    problem,
                    mended: false,
                });
                continue;
            }
            let (blobs, _) = self.parts(&image)?;
            let here: BTreeSet<Digest> = image
                .platforms
                .iter()
                .flat_map(|p| p.layers.iter().map(|l| l.blob.digest.clone()))
                .collect();
            for blob in blobs.intersection(&here) {
                if !self.has_blob(blob)? {
                    let problem = format!("its blob {blob} is missing; it runs, but cannot be pushed or saved");
                    findings.push(Finding {
                        subject: subject.clone(),
                        problem,
                        mended: false,
                    });
                }
            }
        }
        Ok(())
    }
}
