//! Addresses of log targets: the part of URLs that options use, with Go's words for wrong ones.

use crate::error::{Error, Result};

/// `scheme://authority/path`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let wrong = |why: &str| Error::invalid(format!("parse {text:?}: {why}"));
        if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return Err(wrong("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some(("", _)) => return Err(wrong("missing protocol scheme")),
            Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
            Some((first, _)) if !first.contains('/') => {
                return Err(wrong("first path segment in URL cannot contain colon"));
            }
            _ => ("", text),
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return Ok(Self {
                scheme,
                authority: "",
                path: rest,
            });
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        Ok(Self {
            scheme,
            authority,
            path,
        })
    }

    /// Host and port; a missing port is none.
    pub(super) fn host_and_port(&self) -> Result<(&'a str, Option<u16>)> {
        let text = self.authority;
        let wrong = |why: &str| Error::invalid(format!("address {text}: {why}"));
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| wrong("missing ']' in address"))?;
                (host, after.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(wrong("too many colons in address")),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        match port {
            None => Ok((host, None)),
            Some(port) => {
                let port = port.parse().map_err(|_| wrong("invalid port"))?;
                Ok((host, Some(port)))
            }
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_fall_into_their_parts() {
        let check = |text: &str, scheme: &str, authority: &str, path: &str| {
            let expected = Url {
                scheme,
                authority,
                path,
            };
            assert_eq!(Url::parse(text).expect(text), expected, "{text}");
        };
        check("tcp+tls://host:1/p", "tcp+tls", "host:1", "/p");
        check("unix:///a/b", "unix", "", "/a/b");
        check("localhost:514", "localhost", "", "514");
        check("/a", "", "", "/a");
        assert!(Url::parse("127.0.0.1:514").is_err() && Url::parse("://x").is_err());
    }

    #[test]
    fn hosts_have_ports_or_not() {
        let check = |text: &str, expected: (&str, Option<u16>)| {
            let text = format!("tcp://{text}");
            let url = Url::parse(&text).expect("a URL");
            assert_eq!(url.host_and_port().expect("an address"), expected, "{text}");
        };
        check("h:1", ("h", Some(1)));
        check("h", ("h", None));
        check("[::1]:5", ("::1", Some(5)));
        check("[::1]", ("::1", None));
        for wrong in ["tcp://::1", "tcp://h:x", "tcp://h:99999", "tcp://[::1"] {
            assert!(Url::parse(wrong).expect("a URL").host_and_port().is_err(), "{wrong}");
        }
    }
}
