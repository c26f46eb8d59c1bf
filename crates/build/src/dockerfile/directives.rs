//! Parser directives: `# name=value` lines at the very top.

use crate::BuildError;

/// What the directives at the top of a Dockerfile say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `\` or a backtick.
    pub escape: char,
    /// The wanted frontend.
    pub syntax: Option<String>,
    /// Settings of the lint rules.
    pub check: Option<String>,
}

/// Reads the directives; the first line that is none ends them, so that a later one is a comment.
pub(super) fn take_directives(text: &str) -> Result<Directives, BuildError> {
    let mut found = Directives {
        escape: '\\',
        syntax: None,
        check: None,
    };
    let mut escape_seen = false;
    for (index, line) in text.split('\n').enumerate() {
        if index == 0 && line.starts_with("#!") {
            continue;
        }
        let Some((key, value)) = directive(line) else {
            break;
        };
        let line = index + 1;
        let twice = || BuildError::invalid(format!("only one {key} parser directive can be used")).on_line(line);
        match key.as_str() {
            "escape" if escape_seen => return Err(twice()),
            "syntax" if found.syntax.is_some() => return Err(twice()),
            "check" if found.check.is_some() => return Err(twice()),
            "escape" => {
                found.escape = parse_escape(value).map_err(|e| e.on_line(line))?;
                escape_seen = true;
            }
            "syntax" => found.syntax = Some(value.into()),
            "check" => found.check = Some(value.into()),
            _ => break,
        }
    }
    check_syntax(found.syntax.as_deref())?;
    Ok(found)
}

/// `# key = value`, the key in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (word && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// The value of `# escape=`.
fn parse_escape(value: &str) -> Result<char, BuildError> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        other => Err(BuildError::invalid(format!(
            "invalid ESCAPE '{other}'. Must be ` or \\"
        ))),
    }
}

/// Only Docker's own frontend is built in; another one is another language.
fn check_syntax(syntax: Option<&str>) -> Result<(), BuildError> {
    let Some(syntax) = syntax else { return Ok(()) };
    let name = syntax.split_whitespace().next().unwrap_or("");
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.split(['@', ':']).next().unwrap_or("");
    match name {
        "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0" => Ok(()),
        _ => Err(BuildError::unsupported(format!(
            "the frontend {syntax} of the syntax directive is not supported: only docker/dockerfile is built in"
        ))),
    }
}
