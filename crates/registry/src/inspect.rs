//! Looking without taking: what a name leads to, and whether credentials are good.

use crate::Client;
use crate::error::RegistryError;
use crate::options::Credentials;
use crate::pull::fetch_manifest;
use crate::session::{Access, Session};
use wharf_store::{Descriptor, Digest, Document, ImageConfig, Platform, Reference};

/// What a name leads to at its registry (`GET /distribution/{name}/json`).
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Its platforms.
    pub platforms: Vec<Platform>,
}

/// Credentials that the registry accepted.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// A refresh token to keep instead of the password; empty when the registry gives none.
    pub identity_token: String,
}

impl Client {
    /// What `reference` leads to.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub async fn inspect(
        &self,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Distribution, RegistryError> {
        let session = Session::open(self, reference, Access::Pull, credentials).await?;
        let tag = reference.tag().unwrap_or("latest");
        let wanted = reference.digest().map_or_else(|| tag.to_owned(), |d| d.to_string());
        let (media_type, bytes) = fetch_manifest(&session, reference, &wanted).await?;
        let digest = Digest::of(&bytes);
        let document = Document::parse(&bytes, &media_type).map_err(|source| wharf_store::StoreError::Manifest {
            digest: digest.clone(),
            source,
        })?;
        let descriptor = Descriptor::new(document.media_type(), digest, bytes.len() as u64);
        let platforms = match document {
            Document::Index(index) => index
                .manifests
                .into_iter()
                .filter(|m| !m.is_attestation())
                .filter_map(|m| m.platform)
                .collect(),
            Document::Manifest(manifest) => vec![config_platform(&session, &manifest.config).await?],
        };
        Ok(Distribution { descriptor, platforms })
    }

    /// Checks credentials against the registry `host` (`docker.io` for Docker Hub).
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] when they are refused; unavailable when nobody answers.
    pub async fn login(&self, host: &str, credentials: &Credentials) -> Result<Login, RegistryError> {
        let name = format!("{host}/login:check");
        let reference = Reference::parse(&name).map_err(wharf_store::StoreError::from)?;
        let session = Session::open(self, &reference, Access::Registry, credentials).await?;
        Ok(Login {
            identity_token: session.refresh_token(),
        })
    }
}

async fn config_platform(session: &Session, config: &Descriptor) -> Result<Platform, RegistryError> {
    let url = session.url(&format!("blobs/{}", config.digest));
    let answer = session.send("GET", &url, |r| r).await?;
    if !answer.status().is_success() {
        return Err(Session::status("GET", &url, answer).await);
    }
    let bytes = crate::session::read_document(&url, answer).await?;
    let config = ImageConfig::parse(&bytes).map_err(|e| RegistryError::Malformed {
        url,
        reason: e.to_string(),
    })?;
    Ok(config.platform())
}
