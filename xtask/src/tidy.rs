//! The rules of style that a program can check, each a function from a source file to its problems.

use crate::source::Source;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

const FILE_CEILING: usize = 1000;
const FUNCTION_CEILING: usize = 80;
const BANNED_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "impl", "impls",
];
const LEFTOVERS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX", "HACK"];

/// Every problem found in the Rust files that git tracks, one line each.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in tracked_files()? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let source = Source::new(Path::new(&path), &text);
        for rule in [title, name, ceilings, leftovers, accessors, unsafe_code] {
            problems.extend(rule(&source).into_iter().map(|p| format!("{path}{p}")));
        }
    }
    Ok(problems)
}

fn tracked_files() -> Result<Vec<String>> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .output()?;
    let text = String::from_utf8(out.stdout)?;
    let is_checked = |l: &&str| !l.starts_with("xtask/src/tidy.rs") && Path::new(l).exists();
    Ok(text.lines().filter(is_checked).map(str::to_owned).collect())
}

fn title(source: &Source) -> Vec<String> {
    let titled = source
        .lines
        .iter()
        .find(|l| !l.starts_with("#!"))
        .is_some_and(|l| l.starts_with("//!"));
    if titled {
        vec![]
    } else {
        vec![": no `//!` line on top".to_owned()]
    }
}

fn name(source: &Source) -> Vec<String> {
    let words = source.path.components().filter_map(|c| c.as_os_str().to_str());
    let banned = words
        .map(|w| w.trim_end_matches(".rs"))
        .filter(|w| BANNED_NAMES.contains(w));
    banned
        .map(|w| format!(": the name `{w}` says nothing; name it by what it holds"))
        .collect()
}

fn ceilings(source: &Source) -> Vec<String> {
    if source.is_test {
        return vec![];
    }
    let mut problems = Vec::new();
    let length = source.production().len();
    if length > FILE_CEILING {
        problems.push(format!(": {length} lines, over {FILE_CEILING}"));
    }
    for f in source.functions().into_iter().filter(|f| f.length > FUNCTION_CEILING) {
        problems.push(format!(
            ":{}: `{}` has {} lines, over {FUNCTION_CEILING}",
            f.line, f.name, f.length
        ));
    }
    problems
}

fn leftovers(source: &Source) -> Vec<String> {
    let found = |l: &str| LEFTOVERS.iter().find(|w| l.contains(*w)).copied();
    numbered(source.production(), |l| found(l).map(|w| format!("leftover `{w}`")))
}

fn accessors(source: &Source) -> Vec<String> {
    let hit = |l: &str| l.contains("fn get_").then(|| "`get_` in a function's name".to_owned());
    numbered(source.production(), hit)
}

/// `unsafe` only in `sys`, and each block there with its `SAFETY:` within the six lines above.
fn unsafe_code(source: &Source) -> Vec<String> {
    let in_sys = source.path.starts_with("crates/sys");
    let mut problems = Vec::new();
    for (i, line) in source.lines.iter().enumerate() {
        // What stands outside string literals and comments.
        let code: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let code = code.split("//").next().unwrap_or_default();
        if !code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|w| w == "unsafe")
        {
            continue;
        }
        if !in_sys {
            problems.push(format!(":{}: `unsafe` outside crates/sys", i + 1));
        } else if !explained(&source.lines, i) {
            problems.push(format!(":{}: `unsafe` without a `SAFETY:` comment", i + 1));
        }
    }
    problems
}

fn explained(lines: &[String], at: usize) -> bool {
    lines[at.saturating_sub(6)..=at]
        .iter()
        .any(|l| l.contains("SAFETY:") || l.contains("# Safety"))
}

fn numbered(lines: &[String], rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
    lines
        .iter()
        .enumerate()
        .filter_map(|(i, l)| rule(l).map(|p| format!(":{}: {p}", i + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(Path::new(path), text);
        [title, name, ceilings, leftovers, accessors, unsafe_code]
            .iter()
            .flat_map(|rule| rule(&source))
            .collect()
    }

    #[test]
    fn a_clean_file_has_no_problem() {
        assert!(problems("crates/net/src/bridge.rs", "//! Bridges.\nfn a() {}\n").is_empty());
    }

    #[test]
    fn each_rule_can_fail() {
        let long = format!("//! x\nfn a() {{\n{}}}\n", "    b();\n".repeat(90));
        let table = [
            ("crates/net/src/a.rs", "fn a() {}\n", "no `//!`"),
            ("crates/net/src/utils.rs", "//! x\n", "says nothing"),
            ("crates/net/src/a.rs", "//! x\nfn a() { todo!() }\n", "leftover"),
            ("crates/net/src/a.rs", "//! x\nfn get_a() {}\n", "get_"),
            ("crates/net/src/a.rs", "//! x\nunsafe fn a() {}\n", "outside crates/sys"),
            (
                "crates/sys/src/a.rs",
                "//! x\nunsafe fn a() {}\n",
                "without a `SAFETY:`",
            ),
            ("crates/net/src/a.rs", long.as_str(), "over 80"),
        ];
        for (path, text, expected) in table {
            let found = problems(path, text);
            assert!(
                found.iter().any(|p| p.contains(expected)),
                "{path}: {expected}: {found:?}"
            );
        }
    }
}
