//! The command line of a shim, in the spelling of Go's flags.

use std::ffi::OsString;
use std::path::PathBuf;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Delete,
    Version,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    pub(super) verb: Verb,
    /// containerd's namespace.
    pub(super) namespace: String,
    /// The container's id.
    pub(super) id: String,
    /// The container's bundle; the working directory where it is not said.
    pub(super) bundle: Option<PathBuf>,
    /// containerd's own socket: ours is below its directory.
    pub(super) address: String,
}

impl Invocation {
    pub(super) fn parse(args: &[OsString]) -> Result<Self, String> {
        let mut invocation = Self {
            verb: Verb::Version,
            namespace: String::new(),
            id: String::new(),
            bundle: None,
            address: String::new(),
        };
        let mut args = args.iter().map(|arg| arg.to_str().ok_or("an argument is not UTF-8"));
        while let Some(arg) = args.next() {
            let arg = arg?;
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                invocation.verb = match arg {
                    "start" => Verb::Start,
                    "delete" => Verb::Delete,
                    _ => return Err(format!("unknown command {arg:?}: start or delete")),
                };
                break;
            };
            let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
            if matches!(name, "v" | "debug") {
                continue;
            }
            let value = match value {
                Some(value) => value,
                None => args.next().ok_or(format!("-{name} needs a value"))??,
            };
            match name {
                "namespace" => value.clone_into(&mut invocation.namespace),
                "id" => value.clone_into(&mut invocation.id),
                "bundle" => {
                    invocation.bundle = Some(value.into()).filter(|path: &PathBuf| !path.as_os_str().is_empty())
                }
                "address" => value.clone_into(&mut invocation.address),
                // Events go over containerd's socket; ours is always made by `start`.
                "publish-binary" | "socket" => {}
                _ => return Err(format!("unknown flag -{name}")),
            }
        }
        invocation.check()
    }

    fn check(self) -> Result<Self, String> {
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        for (what, text) in [("-namespace", &self.namespace), ("-id", &self.id)] {
            let is_good = !text.is_empty() && text.bytes().all(is_fit) && !matches!(text.as_str(), "." | "..");
            if self.verb != Verb::Version && !is_good {
                return Err(format!("{what} {text:?} is no identifier"));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Invocation, String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Invocation::parse(&args)
    }

    #[test]
    fn flags_are_read_as_go_writes_them() {
        let expected = Invocation {
            verb: Verb::Delete,
            namespace: "k8s.io".into(),
            id: "a1".into(),
            bundle: Some("/b".into()),
            address: "/run/c.sock".into(),
        };
        let line =
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id a1 -bundle /b delete";
        assert_eq!(parse(line), Ok(expected.clone()));
        let line = "--namespace=k8s.io -debug --address=/run/c.sock --id=a1 --bundle=/b delete";
        assert_eq!(parse(line), Ok(expected));
        assert_eq!(parse("-v").map(|invocation| invocation.verb), Ok(Verb::Version));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |line: &str, words: &str| {
            let error = parse(line).expect_err(line);
            assert!(error.contains(words), "{line}: {error}");
        };
        check("-namespace n -id a stop", "unknown command");
        check("-namespace n -id ../x start", "is no identifier");
        check("-namespace .. -id x start", "is no identifier");
        check("-id x start", "-namespace");
        check("-colour x", "unknown flag");
        check("-id", "needs a value");
    }
}
