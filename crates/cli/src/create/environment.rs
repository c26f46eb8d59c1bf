//! Environment variables and labels, from flags and from files.

use wharf_api::types::StringMap;

use crate::error::{CliError, system_words};

/// One `-e` value: `NAME=VALUE` as it is; `NAME` with its value here, or as it is when it has
/// none, which takes the variable away.
pub(super) fn resolve_env(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(text.to_owned()),
        None if text.is_empty() => Err(format!("invalid environment variable: {text}")),
        None => Ok(match std::env::var(text) {
            Ok(value) => format!("{text}={value}"),
            Err(_) => text.to_owned(),
        }),
    }
}

/// The variables of the files, then those of the flags, then the proxies not named by either.
pub(crate) fn read_env(
    files: &[String],
    flags: &[String],
    proxies: &[(String, String)],
) -> Result<Vec<String>, CliError> {
    let mut variables = Vec::new();
    for file in files {
        variables.extend(read_file(file, |name| std::env::var(name).ok())?);
    }
    variables.extend_from_slice(flags);
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let named: Vec<String> = flags.iter().map(|variable| name_of(variable)).collect();
    let missing = proxies.iter().filter(|(name, _)| !named.contains(name));
    variables.extend(missing.map(|(name, value)| format!("{name}={value}")));
    Ok(variables)
}

/// The labels of the files and the flags; later ones win.
pub(super) fn read_labels(files: &[String], flags: &[String]) -> Result<StringMap, CliError> {
    let mut labels = Vec::new();
    for file in files {
        labels.extend(read_file(file, |_| Some(String::new()))?);
    }
    labels.extend_from_slice(flags);
    Ok(to_map(&labels))
}

/// `a=b` pairs as a map; a key alone has an empty value.
pub(crate) fn to_map(pairs: &[String]) -> StringMap {
    pairs
        .iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The lines of a file, without blanks before them, comments and empty lines. A name alone takes
/// the value that `lookup` finds, and is left out without one.
fn read_file(path: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, CliError> {
    let bytes =
        std::fs::read(path).map_err(|error| CliError::message(format!("open {path}: {}", system_words(&error))))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::message(format!("invalid env file ({path}): invalid utf8 bytes")))?;
    let mut entries = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line.trim_end(), None),
        };
        check_name(path, name, line)?;
        match value {
            Some(value) => entries.push(format!("{name}={value}")),
            None => entries.extend(lookup(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(entries)
}

fn check_name(path: &str, name: &str, line: &str) -> Result<(), CliError> {
    let reason = if name.is_empty() {
        format!("no variable name on line '{line}'")
    } else if name.contains(char::is_whitespace) {
        format!("variable '{name}' contains whitespaces")
    } else {
        return Ok(());
    };
    Err(CliError::message(format!("invalid env file ({path}): {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_flags_and_skip_comments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "\u{feff}A=1\n# c\n\n  B = x \nSURELY_NOT_SET_HERE\n").unwrap();
        let path = path.to_str().unwrap().to_owned();
        let error = read_env(std::slice::from_ref(&path), &[], &[]).unwrap_err().to_string();
        assert!(error.contains("variable 'B ' contains whitespaces"), "{error}");
        std::fs::write(&path, "A=1\nSURELY_NOT_SET_HERE\nB=x y \n").unwrap();
        let found = read_env(&[path], &["A=2".into()], &[("P".into(), "q".into())]).unwrap();
        assert_eq!(found, ["A=1", "B=x y ", "A=2", "P=q"]);
    }

    #[test]
    fn empty_names_are_refused() {
        assert!(resolve_env("=x").is_err());
        assert!(resolve_env("").is_err());
        assert_eq!(resolve_env("A=").unwrap(), "A=");
        assert_eq!(resolve_env("SURELY_NOT_SET_HERE").unwrap(), "SURELY_NOT_SET_HERE");
    }
}
