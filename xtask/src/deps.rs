//! The allowed edges between our crates, and what the static binaries must never link.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Who may depend on whom (normal dependencies). Arrows point down only; see ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("cgroup", &["sys"]),
    ("runtime", &["cgroup", "sys"]),
    ("shim", &["runtime", "cgroup", "sys"]),
    ("store", &["sys"]),
    ("volume", &["sys"]),
    ("net", &["sys"]),
    ("registry", &["store", "sys"]),
    ("build", &["registry", "store", "sys"]),
    (
        "engine",
        &[
            "build", "registry", "net", "volume", "shim", "store", "cgroup", "runtime", "sys",
        ],
    ),
    ("api", &[]),
    ("daemon", &["api", "engine"]),
    ("cli", &["api", "daemon"]),
    ("testkit", &[]),
];

/// Crates that would make the shim or the runtime large, threaded or slow to start.
const BANNED_IN_SHIM: &[&str] = &[
    "tokio",
    "regex",
    "clap",
    "oci-spec",
    "tracing",
    "rusqlite",
    "hyper",
    "libc-print",
];

/// Every problem found, one line each.
pub(crate) fn check() -> Result<Vec<String>> {
    let meta = metadata()?;
    let mut problems = Vec::new();
    for (name, deps) in workspace_edges(&meta)? {
        let Some(role) = name.strip_prefix("wharf-") else {
            continue;
        };
        if role == "e2e" {
            continue;
        }
        problems.extend(forbidden_edges(role, &deps));
    }
    for krate in shim_tree()? {
        if BANNED_IN_SHIM.contains(&krate.as_str()) {
            problems.push(format!("wharf-shim (server) links {krate}"));
        }
    }
    Ok(problems)
}

fn forbidden_edges(role: &str, deps: &BTreeSet<String>) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(r, _)| *r == role) else {
        return vec![format!(
            "crate wharf-{role} is not drawn in xtask/src/deps.rs and ARCHITECTURE.md"
        )];
    };
    deps.iter()
        .filter_map(|d| d.strip_prefix("wharf-"))
        .filter(|d| !allowed.contains(d))
        .map(|d| format!("wharf-{role} -> wharf-{d} is not an allowed edge"))
        .collect()
}

fn metadata() -> Result<serde_json::Value> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .context("cargo metadata")?;
    serde_json::from_slice(&out.stdout).context("cargo metadata output")
}

/// Normal dependencies of each workspace package, by package name.
fn workspace_edges(meta: &serde_json::Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let packages = meta["packages"].as_array().context("packages")?;
    let mut edges = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("name")?.to_owned();
        let deps = package["dependencies"].as_array().context("dependencies")?;
        let normal = deps
            .iter()
            .filter(|d| d["kind"].is_null())
            .filter_map(|d| d["name"].as_str())
            .map(str::to_owned);
        edges.insert(name, normal.collect());
    }
    Ok(edges)
}

/// Names of all crates in the shim binary's tree.
fn shim_tree() -> Result<BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "-p",
            "wharf-shim",
            "--features",
            "server",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .output()
        .context("cargo tree")?;
    let text = String::from_utf8(out.stdout)?;
    Ok(text
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upward_edge_is_a_problem() {
        let deps = BTreeSet::from(["wharf-engine".to_owned(), "serde".to_owned()]);
        assert_eq!(
            forbidden_edges("store", &deps),
            ["wharf-store -> wharf-engine is not an allowed edge"]
        );
        assert!(forbidden_edges("daemon", &deps).is_empty());
    }

    #[test]
    fn an_undrawn_crate_is_a_problem() {
        assert_eq!(forbidden_edges("extras", &BTreeSet::new()).len(), 1);
    }
}
