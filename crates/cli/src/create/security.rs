//! `--security-opt` and `--ulimit`.

use std::collections::BTreeSet;

use wharf_api::types::Ulimit;

use crate::error::{CliError, system_words};

/// The security options as they are sent.
pub(super) struct SecurityOptions {
    pub(super) options: Vec<String>,
    /// True when no path of the container is to be masked or read-only.
    pub(super) unmask: bool,
}

/// Capabilities to add and to drop, as they are sent.
pub(super) struct Capabilities {
    pub(super) add: Vec<String>,
    pub(super) drop: Vec<String>,
}

/// Full upper-case names, sorted. `ALL` takes in the others of its side, and what is added is not
/// dropped.
pub(super) fn capabilities(add: &[String], drop: &[String]) -> Capabilities {
    let set = |names: &[String]| -> BTreeSet<String> { names.iter().map(|name| full_name(name)).collect() };
    let (mut add, mut drop) = (set(add), set(drop));
    for side in [&mut add, &mut drop] {
        if side.contains("ALL") {
            side.retain(|name| name == "ALL");
        }
    }
    if !drop.contains("ALL") {
        drop.retain(|name| !add.contains(name));
    }
    Capabilities {
        add: add.into_iter().collect(),
        drop: drop.into_iter().collect(),
    }
}

fn full_name(name: &str) -> String {
    let name = name.trim().to_uppercase();
    if matches!(name.as_str(), "ALL" | "RESET") || name.starts_with("CAP_") {
        name
    } else {
        format!("CAP_{name}")
    }
}

/// Reads seccomp profiles from their files and takes `systempaths` out.
pub(super) fn options(given: Vec<String>) -> Result<SecurityOptions, CliError> {
    let mut kept = Vec::new();
    let mut unmask = false;
    for option in given {
        let (name, value) = split(&option)?;
        match (name, value) {
            ("systempaths", "unconfined") => unmask = true,
            ("seccomp", file) if !matches!(file, "builtin" | "unconfined") => {
                kept.push(format!("seccomp={}", profile(file)?));
            }
            _ => kept.push(option),
        }
    }
    Ok(SecurityOptions { options: kept, unmask })
}

/// `name=value`, or `name:value` as it was once written.
fn split(option: &str) -> Result<(&str, &str), CliError> {
    if option == "no-new-privileges" {
        return Ok((option, ""));
    }
    option
        .split_once('=')
        .or_else(|| option.split_once(':'))
        .filter(|(_, value)| !value.is_empty())
        .ok_or_else(|| CliError::message(format!("Invalid --security-opt: {option:?}")))
}

/// The profile of a file, in one line.
fn profile(file: &str) -> Result<String, CliError> {
    let failed = |reason: String| CliError::message(format!("opening seccomp profile ({file}) failed: {reason}"));
    let text = std::fs::read(file).map_err(|error| failed(format!("open {file}: {}", system_words(&error))))?;
    let json: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| CliError::message(format!("compacting json for seccomp profile ({file}) failed: {error}")))?;
    Ok(json.to_string())
}

/// `NAME=SOFT[:HARD]`, -1 for without limit.
pub(crate) fn ulimits(values: &[String]) -> Result<Vec<Ulimit>, CliError> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let mut found: Vec<Ulimit> = Vec::new();
    for text in values {
        let invalid = |reason: String| CliError::message(reason);
        let (name, limits) = text
            .split_once('=')
            .ok_or_else(|| invalid(format!("invalid ulimit argument: {text}")))?;
        if !NAMES.contains(&name) {
            return Err(invalid(format!("invalid ulimit type: {name}")));
        }
        let (soft, hard) = match limits.split(':').collect::<Vec<_>>()[..] {
            [soft] => (soft, soft),
            [soft, hard] => (soft, hard),
            _ => {
                return Err(invalid(format!(
                    "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
                )));
            }
        };
        let number = |digits: &str| {
            digits
                .parse::<i64>()
                .map_err(|_| CliError::message(format!("strconv.ParseInt: parsing {digits:?}: invalid syntax")))
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        if hard != -1 && (soft > hard || soft == -1) {
            return Err(invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )));
        }
        found.retain(|other| other.name != name);
        found.push(Ulimit {
            name: name.to_owned(),
            hard,
            soft,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_have_a_soft_and_a_hard_limit() {
        let check = |text: &str, expected: Result<(i64, i64), &str>| {
            let found = ulimits(&[text.to_owned()]).map(|list| (list[0].soft, list[0].hard));
            assert_eq!(
                found.map_err(|e| e.to_string()),
                expected.map_err(str::to_owned),
                "{text}"
            );
        };
        check("nofile=10", Ok((10, 10)));
        check("nofile=10:20", Ok((10, 20)));
        check("nofile=-1", Ok((-1, -1)));
        check(
            "nofile=20:10",
            Err("ulimit soft limit must be less than or equal to hard limit: 20 > 10"),
        );
        check("x=1", Err("invalid ulimit type: x"));
        check("nofile", Err("invalid ulimit argument: nofile"));
    }

    #[test]
    fn system_paths_are_no_option_for_the_engine() {
        let given = ["systempaths=unconfined", "no-new-privileges", "label:disable"].map(str::to_owned);
        let found = options(given.to_vec()).unwrap();
        assert!(found.unmask);
        assert_eq!(found.options, ["no-new-privileges", "label:disable"]);
        assert!(options(vec!["x".to_owned()]).is_err());
        assert!(options(vec!["seccomp=/nonexistent".to_owned()]).is_err());
    }
}
