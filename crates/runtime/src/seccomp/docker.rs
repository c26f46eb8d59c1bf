//! Profiles in Docker's own format (`--security-opt seccomp=FILE`): rules
//! that depend on capabilities, architecture and kernel version.

use crate::RuntimeError;
use crate::spec::{Seccomp, SeccompArg, SeccompRule};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchEntry>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<PathBuf>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<SeccompArg>>,
    #[serde(default)]
    includes: Option<Conditions>,
    #[serde(default)]
    excludes: Option<Conditions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// What conditions are checked against.
struct Facts<'a> {
    capabilities: &'a [String],
    arch: &'static str,
    kernel: (u64, u64),
}

fn invalid(why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::invalid("seccomp profile", format!("Decoding seccomp profile failed: {why}"))
}

/// Reads a profile in Docker's format for a container with these
/// capabilities (`CAP_...` names) in its bounding set. None when the profile
/// says nothing at all, which means no filter.
///
/// # Errors
/// When the text is no profile, or contradicts itself.
pub fn resolve_profile(text: &str, capabilities: &[String]) -> Result<Option<Seccomp>, RuntimeError> {
    let profile: Profile = serde_json::from_str(text).map_err(invalid)?;
    let rules = profile.syscalls.unwrap_or_default();
    if profile.default_action.is_empty() && rules.is_empty() {
        return Ok(None);
    }
    let (architectures, map) = (
        profile.architectures.unwrap_or_default(),
        profile.arch_map.unwrap_or_default(),
    );
    if !architectures.is_empty() && !map.is_empty() {
        return Err(invalid("use either 'architectures' or 'archMap'"));
    }
    let native = super::profile::architectures()[0];
    let mapped = map.into_iter().find(|entry| entry.architecture == native).map(|entry| {
        let mut all = vec![entry.architecture];
        all.extend(entry.sub_architectures.unwrap_or_default());
        all
    });
    let facts = Facts {
        capabilities,
        arch: go_arch(),
        kernel: running_kernel(),
    };
    let mut syscalls = Vec::new();
    for rule in rules {
        if let Some(rule) = resolve_rule(rule, &facts)? {
            syscalls.push(rule);
        }
    }
    Ok(Some(Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures: mapped.unwrap_or(architectures),
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

fn resolve_rule(rule: Rule, facts: &Facts<'_>) -> Result<Option<SeccompRule>, RuntimeError> {
    let names = match (
        rule.name.filter(|name| !name.is_empty()),
        rule.names.unwrap_or_default(),
    ) {
        (Some(_), names) if !names.is_empty() => return Err(invalid("use either 'name' or 'names'")),
        (Some(name), _) => vec![name],
        (None, names) => names,
    };
    let includes = rule.includes.unwrap_or_default();
    let excludes = rule.excludes.unwrap_or_default();
    let holds = |caps: &Option<Vec<String>>| {
        let list: Vec<bool> = caps
            .iter()
            .flatten()
            .map(|name| facts.capabilities.contains(name))
            .collect();
        list
    };
    let arch = |arches: &Option<Vec<String>>| {
        arches
            .as_ref()
            .filter(|list| !list.is_empty())
            .map(|list| list.iter().any(|name| name == facts.arch))
    };
    let kernel = |text: &Option<String>| text.as_deref().map(|text| at_least(text, facts.kernel)).transpose();
    let excluded = arch(&excludes.arches) == Some(true)
        || holds(&excludes.caps).contains(&true)
        || kernel(&excludes.min_kernel)? == Some(true);
    let included = arch(&includes.arches) != Some(false)
        && !holds(&includes.caps).contains(&false)
        && kernel(&includes.min_kernel)? != Some(false);
    if excluded || !included {
        return Ok(None);
    }
    let args = rule.args.unwrap_or_default();
    Ok(Some(SeccompRule {
        names,
        action: rule.action,
        errno_ret: rule.errno_ret,
        args,
    }))
}

fn go_arch() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

fn running_kernel() -> (u64, u64) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    parse_kernel(&release).unwrap_or_default()
}

/// Major and minor of `6.1.0-13-amd64` or `4.8`.
fn parse_kernel(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn at_least(text: &str, kernel: (u64, u64)) -> Result<bool, RuntimeError> {
    parse_kernel(text)
        .map(|wanted| kernel >= wanted)
        .ok_or_else(|| invalid(format!("invalid kernel version {text:?}")))
}
