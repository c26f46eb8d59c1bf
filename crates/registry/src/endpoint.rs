//! Which addresses a registry name stands for, and the HTTP clients to reach them.

use crate::error::{RegistryError, innermost};
use crate::options::Options;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

const HUB: &str = "docker.io";
const HUB_ADDRESS: &str = "https://registry-1.docker.io";

/// One address to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `scheme://host[:port]`, without a slash at its end.
    pub(crate) base: String,
    /// Certificates need not verify.
    pub(crate) lax: bool,
}

/// The addresses of a registry, in the order they are tried.
pub(crate) fn endpoints(domain: &str, options: &Options) -> Vec<Endpoint> {
    if domain == HUB {
        let mirrors = options.mirrors.iter().map(|m| m.trim_end_matches('/').to_owned());
        return mirrors
            .chain([HUB_ADDRESS.to_owned()])
            .map(|base| Endpoint { base, lax: false })
            .collect();
    }
    let secure = Endpoint {
        base: format!("https://{domain}"),
        lax: is_insecure(domain, &options.insecure),
    };
    if secure.lax {
        vec![
            secure,
            Endpoint {
                base: format!("http://{domain}"),
                lax: true,
            },
        ]
    } else {
        vec![secure]
    }
}

/// Whether plain HTTP is allowed: loopback, or named by the operator. COMPAT: localhost counts, as in Docker.
pub(crate) fn is_insecure(domain: &str, listed: &[String]) -> bool {
    let host = host_of(domain);
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    listed.iter().any(|entry| {
        entry == domain
            || entry == host
            || matches!((entry.parse::<ipnet::IpNet>(), address), (Ok(net), Some(a)) if net.contains(&a))
    })
}

fn host_of(domain: &str) -> &str {
    if let Some(rest) = domain.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    domain.rsplit_once(':').map_or(domain, |(host, _)| host)
}

/// HTTP clients: one that verifies, one that does not, and one for each host with certificates of its own.
pub(crate) struct Transports {
    /// None until the machine has certificates of authorities to verify by.
    strict: OnceLock<reqwest::Client>,
    /// In its place until then: trusts no one, which leaves plain HTTP.
    trustless: reqwest::Client,
    lax: reqwest::Client,
    special: Mutex<HashMap<String, reqwest::Client>>,
    agent: String,
}

impl Transports {
    pub(crate) fn new(options: &Options) -> Result<Self, RegistryError> {
        // Another part of the process may have chosen the provider already; both choices are aws-lc.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let build = |b: reqwest::ClientBuilder| b.build().map_err(|e| tls_error("TLS set-up", &e));
        let agent = &options.user_agent;
        Ok(Self {
            strict: OnceLock::new(),
            trustless: build(builder(agent).tls_backend_preconfigured(trust_no_one()))?,
            lax: build(builder(agent).danger_accept_invalid_certs(true))?,
            special: Mutex::default(),
            agent: agent.clone(),
        })
    }

    /// The client for addresses that are no registry's.
    pub(crate) fn plain(&self) -> &reqwest::Client {
        if let Some(client) = self.strict.get() {
            return client;
        }
        match builder(&self.agent).build() {
            Ok(client) => self.strict.get_or_init(|| client),
            // A machine without certificates of authorities (ca-certificates): they may come later.
            Err(error) => {
                tracing::warn!("no server can be verified: {}", tls_error("TLS set-up", &error));
                &self.trustless
            }
        }
    }

    /// The client for an endpoint; hosts with a folder of certificates get one of their own.
    pub(crate) fn of(
        &self,
        endpoint: &Endpoint,
        domain: &str,
        options: &Options,
    ) -> Result<reqwest::Client, RegistryError> {
        let folder = options.certificates.join(domain);
        if !folder.is_dir() {
            return Ok(if endpoint.lax {
                self.lax.clone()
            } else {
                self.plain().clone()
            });
        }
        let mut special = self.special.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = special.get(domain) {
            return Ok(client.clone());
        }
        let client = with_certificates(builder(&options.user_agent), &folder)?;
        special.insert(domain.to_owned(), client.clone());
        Ok(client)
    }
}

fn trust_no_one() -> rustls::ClientConfig {
    rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn builder(agent: &str) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(agent)
        .connect_timeout(Duration::from_secs(15))
        // A transfer may take hours, but not a minute without a byte.
        .read_timeout(Duration::from_secs(60))
        .pool_idle_timeout(Duration::from_secs(15))
}

fn with_certificates(mut builder: reqwest::ClientBuilder, folder: &Path) -> Result<reqwest::Client, RegistryError> {
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let what = || format!("certificates in {}", folder.display());
    if let Some(pem) = read("ca.crt") {
        for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| tls_error(&what(), &e))? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let (Some(mut pem), Some(key)) = (read("client.cert"), read("client.key")) {
        pem.push(b'\n');
        pem.extend(key);
        builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|e| tls_error(&what(), &e))?);
    }
    builder.build().map_err(|e| tls_error(&what(), &e))
}

fn tls_error(what: &str, error: &reqwest::Error) -> RegistryError {
    RegistryError::Invalid {
        what: what.to_owned(),
        reason: innermost(error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_the_list_only() {
        let listed = [
            "10.1.0.0/16".to_owned(),
            "lab.example:5000".to_owned(),
            "bare.example".to_owned(),
        ];
        let table = [
            ("127.0.0.1:5000", true),
            ("localhost:5000", true),
            ("[::1]:5000", true),
            ("10.1.2.3:5000", true),
            ("10.2.2.3:5000", false),
            ("lab.example:5000", true),
            ("lab.example", false),
            ("bare.example:81", true),
            ("ghcr.io", false),
        ];
        for (domain, expected) in table {
            assert_eq!(is_insecure(domain, &listed), expected, "{domain}");
        }
    }

    #[test]
    fn the_hub_has_mirrors_and_an_address_of_its_own() {
        let options = Options {
            mirrors: vec!["https://mirror.example/".into()],
            ..Options::default()
        };
        let bases: Vec<_> = endpoints("docker.io", &options).into_iter().map(|e| e.base).collect();
        assert_eq!(bases, ["https://mirror.example", HUB_ADDRESS]);
        assert_eq!(endpoints("ghcr.io", &options).len(), 1);
        assert_eq!(
            endpoints("localhost:5000", &options).last().map(|e| e.base.as_str()),
            Some("http://localhost:5000")
        );
    }
}
