//! Names of images as users type them, and what they stand for.

use crate::error::CliError;

/// A name taken apart: `registry/path:tag@digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The registry, `docker.io` when none is named.
    pub(crate) registry: String,
    /// The path, `library/` before Docker's own images.
    pub(crate) path: String,
    /// The tag.
    pub(crate) tag: Option<String>,
    /// The digest.
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// With the tag `latest` when neither a tag nor a digest is named.
    #[must_use]
    pub(crate) fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// Registry and path, `docker.io/library/busybox`.
    #[must_use]
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// The name as users write it, `busybox:latest`.
    #[must_use]
    pub(crate) fn familiar(&self) -> String {
        let mut text = self.familiar_repository();
        if let Some(tag) = &self.tag {
            text.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = &self.digest {
            text.push_str(&format!("@{digest}"));
        }
        text
    }

    /// The repository as users write it, `busybox`.
    #[must_use]
    pub(crate) fn familiar_repository(&self) -> String {
        if self.registry != "docker.io" {
            return self.repository();
        }
        match self.path.strip_prefix("library/") {
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }
}

/// Takes a name apart.
pub(crate) fn parse(text: &str) -> Result<Reference, CliError> {
    let invalid = || CliError::message(format!("invalid reference format: {text:?}"));
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (registry, path) = split_registry(name);
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(CliError::message(format!(
            "invalid reference format: repository name ({path}) must be lowercase"
        )));
    }
    let valid = is_registry(&registry)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
        && !(name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()));
    if !valid {
        return Err(invalid());
    }
    Ok(Reference {
        registry,
        path,
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

fn split_registry(name: &str) -> (String, String) {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("docker.io", name),
    };
    let registry = if registry == "index.docker.io" {
        "docker.io"
    } else {
        registry
    };
    let path = if registry == "docker.io" && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    (registry.to_owned(), path)
}

/// A host, or an address in brackets, and a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "0"),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let host_valid = bracketed || host.split('.').all(label);
    host_valid && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Lower case letters and digits, joined by one dot, up to two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separator = String::new();
    let mut letters = text.chars().peekable();
    if !letters.peek().copied().is_some_and(alphanumeric) {
        return false;
    }
    for letter in letters {
        if alphanumeric(letter) {
            let joined = matches!(separator.as_str(), "" | "." | "_" | "__") || separator.chars().all(|c| c == '-');
            if !joined {
                return false;
            }
            separator.clear();
        } else {
            separator.push(letter);
        }
    }
    separator.is_empty()
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=128).contains(&text.len()) && text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_whole_references() {
        let check = |text: &str, repository: &str, familiar: &str| {
            let reference = parse(text).unwrap().with_default_tag();
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        };
        check("busybox", "docker.io/library/busybox", "busybox:latest");
        check("me/app:1", "docker.io/me/app", "me/app:1");
        check("localhost:5000/a/b", "localhost:5000/a/b", "localhost:5000/a/b:latest");
        check("index.docker.io/library/x", "docker.io/library/x", "x:latest");
        let digest = format!("x@sha256:{}", "a".repeat(64));
        check(&digest, "docker.io/library/x", &digest);
    }

    #[test]
    fn wrong_names_are_refused() {
        for text in [
            "",
            "UPPER",
            "a:bad/tag",
            "a b",
            "a//b",
            "-a",
            "a:",
            "a@sha256:x",
            "a..b",
            &"a".repeat(64),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("a__b/c--d.e").is_ok());
    }
}
