//! A plain file from a web server: what `ADD` and `import` name by an address.

use std::io;

use reqwest::header::{HeaderName, LAST_MODIFIED};

use crate::Client;
use crate::error::RegistryError;

/// What the server said about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The `Last-Modified` header as it came.
    pub last_modified: Option<String>,
    /// The last name of the address that answered, redirects followed.
    pub file_name: Option<String>,
    /// Bytes received.
    pub size: u64,
}

impl Client {
    /// Fetches `address` (`http` or `https`, certificates verified) and hands its bytes to `sink` as they come. A
    /// failing sink ends the transfer.
    ///
    /// # Errors
    /// When the address is none, nobody answers, the answer is no success, the transfer breaks, or `sink` fails.
    pub async fn fetch(
        &self,
        address: &str,
        sink: &mut (dyn FnMut(&[u8]) -> io::Result<()> + Send),
    ) -> Result<Fetched, RegistryError> {
        let broken = |error: reqwest::Error| RegistryError::unreachable("Get", address, &error);
        let http = self.inner.transports.plain();
        let mut answer = http.get(address).send().await.map_err(broken)?;
        if !answer.status().is_success() {
            return Err(RegistryError::Status {
                method: "Get",
                url: address.to_owned(),
                status: answer.status().as_u16(),
                detail: answer.status().canonical_reason().unwrap_or_default().to_owned(),
            });
        }
        let text = |name: HeaderName| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let mut fetched = Fetched {
            last_modified: text(LAST_MODIFIED),
            file_name: last_name(&answer),
            size: 0,
        };
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            sink(&chunk).map_err(|source| RegistryError::Write {
                url: address.to_owned(),
                source,
            })?;
            fetched.size += chunk.len() as u64;
        }
        Ok(fetched)
    }
}

/// The last name in the path of the address that answered.
fn last_name(answer: &reqwest::Response) -> Option<String> {
    let name = answer.url().path_segments()?.next_back()?;
    (!name.is_empty()).then(|| name.to_owned())
}
