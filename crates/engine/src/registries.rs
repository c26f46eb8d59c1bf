//! What the engine's configuration says about registries, and the client that follows from it.
use std::num::NonZeroU32;
use std::sync::{PoisonError, RwLock};

use crate::error::{Context, Error, Result};

/// Settings about registries; what is `None` is left to the product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Registries spoken to over http or with unverified TLS: `host:port` or CIDR.
    pub insecure: Vec<String>,
    /// Addresses asked before Docker Hub, in order.
    pub mirrors: Vec<String>,
    /// Layers of one image downloaded at once.
    pub downloads: Option<NonZeroU32>,
    /// Layers of one image uploaded at once.
    pub uploads: Option<NonZeroU32>,
    /// How often a transfer that broke off is taken up again.
    pub attempts: Option<NonZeroU32>,
}

impl RegistrySettings {
    /// Refuses mirrors that are no addresses, in Docker's words.
    pub fn validate(&self) -> Result<()> {
        self.mirrors.iter().try_for_each(|mirror| check_mirror(mirror))
    }

    /// As the registry crate wants them.
    pub(crate) fn options(&self) -> wharf_registry::Options {
        let usual = wharf_registry::Options::default();
        let or = |wanted: Option<NonZeroU32>, usual| wanted.map_or(usual, |n| n.get() as usize);
        wharf_registry::Options {
            insecure: self.insecure.clone(),
            mirrors: self.mirrors.clone(),
            parallel_downloads: or(self.downloads, usual.parallel_downloads),
            parallel_uploads: or(self.uploads, usual.parallel_uploads),
            attempts: self.attempts.map_or(usual.attempts, NonZeroU32::get),
            ..usual
        }
    }
}

/// COMPAT: a mirror is an address of http or https, without user, path, query or fragment.
fn check_mirror(mirror: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("invalid mirror: {why} in {mirror:?}")));
    let address = mirror
        .strip_prefix("https://")
        .or_else(|| mirror.strip_prefix("http://"));
    let Some(address) = address else {
        return refuse("no scheme (use https:// or http://)");
    };
    let host = address.strip_suffix('/').unwrap_or(address);
    match host.find(['/', '?', '#', '@']).map(|at| host.as_bytes()[at]) {
        _ if host.is_empty() => refuse("no host"),
        None => Ok(()),
        Some(b'@') => refuse("username/password not allowed"),
        Some(_) => refuse("path, query, or fragment at end of the URI"),
    }
}

/// The present client for registries; a reload puts another in its place, transfers under way keep theirs.
pub(crate) struct RegistryClient(RwLock<wharf_registry::Client>);

impl RegistryClient {
    pub(crate) fn new(settings: &RegistrySettings) -> Result<Self> {
        Ok(Self(RwLock::new(client(settings)?)))
    }

    /// The one of this moment; cheap.
    pub(crate) fn now(&self) -> wharf_registry::Client {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, with: wharf_registry::Client) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = with;
    }
}

/// Makes a client; nothing is contacted.
pub(crate) fn client(settings: &RegistrySettings) -> Result<wharf_registry::Client> {
    wharf_registry::Client::new(settings.options()).internal(|| "prepare the registry client".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_an_address_and_nothing_more() {
        let check = |mirror: &str, words: &str| {
            let settings = RegistrySettings {
                mirrors: vec![mirror.to_owned()],
                ..RegistrySettings::default()
            };
            match settings.validate() {
                Ok(()) => assert_eq!(words, "", "{mirror}"),
                Err(error) => assert!(
                    !words.is_empty() && error.message().contains(words),
                    "{mirror}: {}",
                    error.message()
                ),
            }
        };
        check("https://mirror.example", "");
        check("http://10.0.0.1:5000/", "");
        check("mirror.example", "no scheme");
        check("ftp://mirror.example", "no scheme");
        check("https://", "no host");
        check("https://a:b@mirror.example", "username/password");
        check("https://mirror.example/v2", "path, query");
        check("https://mirror.example?x", "path, query");
    }

    #[test]
    fn what_is_not_said_is_the_products() {
        let usual = wharf_registry::Options::default();
        let settings = RegistrySettings {
            downloads: NonZeroU32::new(9),
            ..RegistrySettings::default()
        };
        let options = settings.options();
        assert_eq!(
            (options.parallel_downloads, options.parallel_uploads, options.attempts),
            (9, usual.parallel_uploads, usual.attempts)
        );
    }
}
