//! The configuration file's `[runtimes]`, shaped as Docker's `runtimes`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use wharf_engine::runtimes::{Runtime, Runtimes};

/// One runtime: a program's path, or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeEntry(Table);

/// The keys are Docker's; they may be spelled as the other keys of the file are, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    path: Option<PathBuf>,
    #[serde(alias = "runtimeArgs")]
    runtime_args: Vec<String>,
    #[serde(alias = "runtimeType")]
    runtime_type: Option<String>,
    options: serde_json::Map<String, serde_json::Value>,
}

impl<'de> Deserialize<'de> for RuntimeEntry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> serde::de::Visitor<'de> for EntryVisitor {
    type Value = RuntimeEntry;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the path of an OCI runtime, or a table that describes a runtime")
    }

    fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Self::Value, E> {
        Ok(RuntimeEntry(Table {
            path: Some(path.into()),
            ..Table::default()
        }))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(RuntimeEntry)
    }
}

impl RuntimeEntry {
    fn settle(&self, name: &str) -> Result<Runtime, String> {
        let Table {
            path,
            runtime_args,
            runtime_type,
            options,
        } = self.0.clone();
        let wrong = |what: &str| Err(format!("runtime '{name}': {what}"));
        match (path.filter(|path| !path.as_os_str().is_empty()), runtime_type) {
            (Some(_), Some(_)) => wrong("only one of path and runtimeType can be given"),
            (Some(_), None) if !options.is_empty() => wrong("options belong to a runtimeType"),
            (Some(path), None) => Ok(Runtime::Oci {
                path,
                args: runtime_args,
            }),
            (None, Some(_)) if !runtime_args.is_empty() => wrong("runtimeArgs belong to a path"),
            (None, Some(runtime_type)) => {
                check_options(&runtime_type, &options).map_err(|what| format!("runtime '{name}': {what}"))?;
                Ok(Runtime::Shim { runtime_type, options })
            }
            (None, None) => wrong("path or runtimeType is missing"),
        }
    }
}

/// Options that a shim takes, by the type of their values.
const TEXTS: [&str; 3] = ["TypeUrl", "ConfigPath", "ConfigBody"];
/// Those of runc's shim.
const RUNC_TEXTS: [&str; 3] = ["BinaryName", "Root", "ShimCgroup"];
/// Those of runc's shim that are true or false.
const RUNC_FLAGS: [&str; 3] = ["SystemdCgroup", "NoPivotRoot", "NoNewKeyring"];

fn check_options(runtime_type: &str, options: &serde_json::Map<String, serde_json::Value>) -> Result<(), String> {
    let is_runc = runtime_type.ends_with("runc.v2") || runtime_type.ends_with("containerd-shim-runc-v2");
    for (key, value) in options {
        let key = key.as_str();
        let is_good = if is_runc {
            (RUNC_TEXTS.contains(&key) && value.is_string()) || (RUNC_FLAGS.contains(&key) && value.is_boolean())
        } else {
            TEXTS.contains(&key) && value.is_string()
        };
        if !is_good {
            return Err(format!(
                "unknown option {key}, or its value {value} is of the wrong type"
            ));
        }
    }
    Ok(())
}

/// The runtimes that the file describes.
///
/// # Errors
/// A sentence that names the entry and what is wrong with it.
pub(crate) fn settle(entries: &BTreeMap<String, RuntimeEntry>, default: Option<String>) -> Result<Runtimes, String> {
    let settled: Result<BTreeMap<_, _>, String> = entries
        .iter()
        .map(|(name, entry)| Ok((name.clone(), entry.settle(name)?)))
        .collect();
    Runtimes::new(settled?, default).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Runtimes, String> {
        let entries: BTreeMap<String, RuntimeEntry> = toml::from_str(text).map_err(|error| error.to_string())?;
        settle(&entries, None)
    }

    #[test]
    fn a_runtime_is_a_path_or_a_table_in_dockers_words() {
        let oci = |path: &str, args: &[&str]| Runtime::Oci {
            path: path.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        let check = |text: &str, expected: Runtime| {
            let read = read(text).expect(text);
            assert_eq!(read.configured().get("r"), Some(&expected), "{text}");
        };
        check("r = '/usr/bin/crun'", oci("/usr/bin/crun", &[]));
        check("[r]\npath = 'crun'", oci("crun", &[]));
        check(
            "[r]\npath = 'crun'\nruntimeArgs = ['--debug']",
            oci("crun", &["--debug"]),
        );
        check(
            "[r]\npath = 'crun'\nruntime-args = ['--debug']",
            oci("crun", &["--debug"]),
        );
    }

    #[test]
    fn a_shim_is_a_type_with_options() {
        let text = "[r]\nruntimeType = 'io.containerd.kata.v2'\n[r.options]\nConfigPath = '/etc/kata.toml'";
        let read = read(text).expect("a shim");
        let Some(Runtime::Shim { runtime_type, options }) = read.configured().get("r") else {
            panic!("no shim")
        };
        assert_eq!(runtime_type, "io.containerd.kata.v2");
        assert_eq!(options["ConfigPath"], "/etc/kata.toml");
    }

    #[test]
    fn what_is_wrong_with_a_runtime_is_named() {
        let check = |text: &str, words: &str| {
            let error = read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        };
        check("r = 7", "the path of an OCI runtime, or a table");
        check("[r]\npth = 'x'", "pth");
        check(
            "[r]\nruntimeArgs = ['x']",
            "runtime 'r': path or runtimeType is missing",
        );
        check("r = ''", "runtime 'r': path or runtimeType is missing");
        check("[r]\nruntimeType = 'x'", "invalid runtimeType");
        check("[r]\nruntimeType = 'a.b.v1'\npath = '/x'", "only one of");
        check(
            "[r]\nruntimeType = 'a.runc.v2'\n[r.options]\nBinaryNam = 'x'",
            "unknown option BinaryNam",
        );
        check(
            "[r]\nruntimeType = 'a.runc.v2'\n[r.options]\nSystemdCgroup = 'x'",
            "wrong type",
        );
        check("'a/b' = '/x'", "invalid runtime name");
    }
}
