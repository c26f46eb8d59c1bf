//! Names of images: `[host[:port]/]path[:tag][@digest]`.
//!
//! The grammar is the distribution specification's; the short forms ("familiar" names: `busybox` for
//! `docker.io/library/busybox`) follow Docker.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// The registry that names without a host mean.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that names without a tag mean.
pub const DEFAULT_TAG: &str = "latest";

const OFFICIAL_PREFIX: &str = "library/";
const LEGACY_DOMAIN: &str = "index.docker.io";
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// Why a text is no image name. The texts are Docker's, which clients match on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Outside the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper-case letters in the repository's path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// A name of 64 hexadecimal digits, which would be taken for an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// More than 255 characters.
    #[error("repository name must not be more than {MAX_NAME_BYTES} characters")]
    TooLong,
    /// A tag outside the grammar.
    #[error("invalid tag format")]
    Tag,
    /// An unusable digest after `@`.
    #[error("invalid reference format")]
    Digest(#[source] crate::DigestError),
}

/// A normalised image name: always with a domain, maybe with a tag, a digest or both.
///
/// Ordered and compared by its canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parses a name as people write it. A missing domain becomes `docker.io`, and there `library/` is added to a
    /// path of one component. A missing tag stays missing: see [`Reference::tagged`].
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if is_hex_id(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(ReferenceError::Digest)?)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        check_path(&path)?;
        if !is_domain(domain) || tag.is_some_and(|t| !is_tag(t)) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME_BYTES {
            return Err(ReferenceError::TooLong);
        }
        Ok(Reference {
            domain: domain.to_owned(),
            path,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The registry, `docker.io` or `host[:port]`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry, `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Whether there is neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same name, with the tag `latest` when there is neither tag nor digest.
    pub fn tagged(mut self) -> Reference {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The repository alone with this tag; fails on a tag outside the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The repository alone with this digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The repository without tag and digest.
    pub fn repository(&self) -> Reference {
        Reference {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    /// Whether both name the same repository.
    pub fn same_repository(&self, other: &Reference) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    /// The repository's full name, `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository's short name, `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The short form with tag and digest, `busybox:latest`, as it is shown to people.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    /// The full form with tag and digest, `docker.io/library/busybox:latest`.
    pub fn canonical(&self) -> String {
        self.name() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let mut text = String::new();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The familiar form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.canonical())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = String::deserialize(deserializer)?;
        Reference::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Whether the tag fits `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_TAG_BYTES
        && word(bytes[0])
        && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-')
}

fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Docker's rule: the part before the first slash is a registry if it has a dot, a colon or an upper-case letter,
/// or is `localhost`.
fn split_domain(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, text);
    };
    let has_upper = first.bytes().any(|b| b.is_ascii_uppercase());
    if !(first.contains(['.', ':']) || first == "localhost" || has_upper) {
        return (DEFAULT_DOMAIN, text);
    }
    if first == LEGACY_DOMAIN {
        (DEFAULT_DOMAIN, rest)
    } else {
        (first, rest)
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((v6, rest)) => {
            let address = !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    host.split('.').all(is_domain_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_domain_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.split('/').all(is_component) {
        return Ok(());
    }
    let lower = path.to_lowercase();
    if lower != path && lower.split('/').all(is_component) {
        return Err(ReferenceError::UpperCase(path.to_owned()));
    }
    Err(ReferenceError::Format)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = text.as_bytes();
    loop {
        let run = bytes.iter().take_while(|b| alnum(b)).count();
        if run == 0 {
            return false;
        }
        bytes = &bytes[run..];
        if bytes.is_empty() {
            return true;
        }
        let separator = bytes.iter().take_while(|b| !alnum(b)).count();
        let allowed =
            matches!(&bytes[..separator], b"." | b"_" | b"__") || bytes[..separator].iter().all(|&b| b == b'-');
        if !allowed {
            return false;
        }
        bytes = &bytes[separator..];
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(input: &str, canonical: &str, familiar: &str) {
        let reference = Reference::parse(input).unwrap_or_else(|e| panic!("{input}: {e}"));
        assert_eq!(reference.canonical(), canonical, "{input}");
        assert_eq!(reference.familiar(), familiar, "{input}");
        assert_eq!(Reference::parse(canonical).unwrap(), reference, "{input}");
        assert_eq!(Reference::parse(familiar).unwrap(), reference, "{input}");
    }

    #[test]
    fn short_names_mean_the_default_registry() {
        check("busybox", "docker.io/library/busybox", "busybox");
        check("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36");
        check("a/b", "docker.io/a/b", "a/b");
        check("docker.io/busybox", "docker.io/library/busybox", "busybox");
        check(
            "index.docker.io/library/busybox",
            "docker.io/library/busybox",
            "busybox",
        );
        check("localhost/x", "localhost/x", "localhost/x");
        check("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y");
        check(
            "127.0.0.1:5000/a/b/c:t",
            "127.0.0.1:5000/a/b/c:t",
            "127.0.0.1:5000/a/b/c:t",
        );
        check("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x");
        check("Host/x", "Host/x", "Host/x");
        check("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b");
        let full = format!("docker.io/library/x:t@sha256:{HEX}");
        check(&format!("x:t@sha256:{HEX}"), &full, &format!("x:t@sha256:{HEX}"));
        check("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f");
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for bad in [
            "",
            ":",
            "/",
            "x:",
            "x@",
            "a//b",
            "/x",
            "x/",
            "-x",
            "x-",
            "a___b",
            "a..b",
            "x:-t",
            "x:a/b",
            "a b",
            "x:é",
            "x@sha256:12",
            "localhost:port/x",
            "x:t:u",
            "..",
            "a/../b",
            "http://x",
            "x\n",
            "a._b",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Reference::parse("UPPER"),
            Err(ReferenceError::UpperCase("library/UPPER".to_owned()))
        );
        assert_eq!(Reference::parse(HEX), Err(ReferenceError::LooksLikeId(HEX.to_owned())));
        assert_eq!(Reference::parse(&"a".repeat(300)), Err(ReferenceError::TooLong));
        assert!(Reference::parse(&format!("x:{}", "t".repeat(129))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_parses_survives_both_of_its_texts(text in "[a-zA-Z0-9_.:/@\\[\\]-]{0,40}") {
            if let Ok(reference) = Reference::parse(&text) {
                proptest::prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
                // A short name may read as an id or a host; then only the full one is safe.
                if let Ok(short) = Reference::parse(&reference.familiar()) {
                    proptest::prop_assert_eq!(&short, &reference);
                }
            }
        }
    }
}
