//! Build arguments: which are declared, what they are worth, which were used.

use std::collections::{BTreeMap, BTreeSet};

use wharf_store::Platform;

/// Arguments that may be given without being declared; they show up in no history and no cache
/// key, so that a proxy's password does not end up in an image.
const UNDECLARED: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The arguments of one stage. Global ones are known to `FROM`; inside a stage a name counts only
/// from its `ARG` on.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildArgs {
    given: BTreeMap<String, Option<String>>,
    global: BTreeMap<String, Option<String>>,
    declared: BTreeMap<String, Option<String>>,
    used: BTreeSet<String>,
}

impl BuildArgs {
    /// What the user gave, and what the platforms say.
    pub(crate) fn new(given: BTreeMap<String, Option<String>>, target: &Platform, stage: &str) -> Self {
        let mut args = Self {
            given,
            ..Self::default()
        };
        let host = Platform::host();
        for (prefix, platform) in [("TARGET", target), ("BUILD", &host)] {
            let variant = platform.variant.clone().unwrap_or_default();
            let mut text = format!("{}/{}", platform.os, platform.architecture);
            if !variant.is_empty() {
                text = format!("{text}/{variant}");
            }
            let values = [
                ("PLATFORM", text),
                ("OS", platform.os.clone()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", variant),
            ];
            for (name, value) in values {
                args.global.insert(format!("{prefix}{name}"), Some(value));
            }
        }
        args.global.insert("TARGETSTAGE".into(), Some(stage.into()));
        args
    }

    /// An `ARG` before the first `FROM`.
    pub(crate) fn declare_global(&mut self, name: &str, default: Option<String>) {
        let default = default.or_else(|| self.global.get(name).cloned().flatten());
        self.global.insert(name.into(), default);
        self.used.insert(name.into());
    }

    /// An `ARG` inside a stage; without default it takes the global one's value.
    pub(crate) fn declare(&mut self, name: &str, default: Option<String>) {
        let default = default.or_else(|| self.global_value(name));
        self.declared.insert(name.into(), default);
        self.used.insert(name.into());
    }

    /// A new stage: nothing is declared.
    pub(crate) fn for_stage(&self) -> Self {
        Self {
            declared: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Takes over what a finished stage has used.
    pub(crate) fn merge_used(&mut self, stage: &BuildArgs) {
        self.used.extend(stage.used.iter().cloned());
    }

    /// The value that `FROM` sees.
    pub(crate) fn global_value(&self, name: &str) -> Option<String> {
        let default = self.global.get(name)?;
        self.given_value(name).or_else(|| default.clone())
    }

    /// The value inside the stage.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        match self.declared.get(name) {
            Some(default) => self.given_value(name).or_else(|| default.clone()),
            None => self.undeclared_value(name),
        }
    }

    /// Names and values of the declared arguments that have one, sorted, without those in `env`.
    pub(crate) fn for_run(&self, env: &[String]) -> Vec<(String, String)> {
        self.declared
            .keys()
            .filter(|name| !UNDECLARED.contains(&name.as_str()))
            .filter(|name| !is_set(env, name))
            .filter_map(|name| Some((name.clone(), self.value(name)?)))
            .collect()
    }

    /// The given proxies, for the process alone.
    pub(crate) fn proxies(&self, env: &[String]) -> Vec<(String, String)> {
        UNDECLARED
            .iter()
            .filter(|name| !is_set(env, name))
            .filter_map(|name| Some((name.to_string(), self.given_value(name)?)))
            .collect()
    }

    /// Given arguments that nothing declared, sorted.
    pub(crate) fn unused(&self) -> Vec<&str> {
        self.given
            .keys()
            .map(String::as_str)
            .filter(|name| !self.used.contains(*name) && !UNDECLARED.contains(name))
            .collect()
    }

    fn given_value(&self, name: &str) -> Option<String> {
        self.given.get(name).cloned().flatten()
    }

    fn undeclared_value(&self, name: &str) -> Option<String> {
        UNDECLARED.contains(&name).then(|| self.given_value(name)).flatten()
    }
}

/// Whether `NAME=...` is in the list.
pub(crate) fn is_set(env: &[String], name: &str) -> bool {
    env.iter()
        .any(|entry| entry.split_once('=').map_or(entry.as_str(), |(n, _)| n) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(given: &[(&str, Option<&str>)]) -> BuildArgs {
        let given = given
            .iter()
            .map(|(name, value)| (name.to_string(), value.map(str::to_string)))
            .collect();
        BuildArgs::new(given, &Platform::new("linux", "arm64", Some("v8")), "last")
    }

    #[test]
    fn a_given_value_beats_the_default_only_where_declared() {
        let mut args = args(&[("A", Some("given")), ("N", None)]);
        assert_eq!(args.value("A"), None);
        args.declare("A", Some("default".into()));
        args.declare("B", Some("default".into()));
        args.declare("N", Some("default".into()));
        args.declare("EMPTY", None);
        assert_eq!(args.value("A").unwrap(), "given");
        assert_eq!(args.value("B").unwrap(), "default");
        assert_eq!(args.value("N").unwrap(), "default");
        assert_eq!(args.value("EMPTY"), None);
        assert_eq!(
            args.for_run(&["B=env".into()]),
            [("A".into(), "given".into()), ("N".into(), "default".into())]
        );
    }

    #[test]
    fn global_arguments_enter_a_stage_by_their_name() {
        let mut args = args(&[("G", Some("given"))]);
        args.declare_global("G", Some("one".into()));
        args.declare_global("H", Some("two".into()));
        assert_eq!(args.global_value("G").unwrap(), "given");
        let mut stage = args.for_stage();
        assert_eq!(stage.value("H"), None);
        stage.declare("H", None);
        stage.declare("TARGETARCH", None);
        assert_eq!(stage.value("H").unwrap(), "two");
        assert_eq!(stage.value("TARGETARCH").unwrap(), "arm64");
        assert_eq!(args.global_value("TARGETPLATFORM").unwrap(), "linux/arm64/v8");
    }

    #[test]
    fn unused_arguments_are_listed_but_proxies_are_not() {
        let mut args = args(&[("A", Some("1")), ("B", Some("2")), ("HTTP_PROXY", Some("http://u:p@h"))]);
        args.declare("A", None);
        assert_eq!(args.unused(), ["B"]);
        assert_eq!(args.proxies(&[]), [("HTTP_PROXY".into(), "http://u:p@h".into())]);
        assert!(args.for_run(&[]).iter().all(|(name, _)| name != "HTTP_PROXY"));
        assert_eq!(args.value("HTTP_PROXY").unwrap(), "http://u:p@h");
    }
}
