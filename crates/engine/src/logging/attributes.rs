//! Labels and variables of a container that accompany its lines.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::options::Options;
use super::tag;
use crate::error::{Error, Result};
use crate::model::ContainerRecord;

/// Refuses expressions that are none.
pub(super) fn check(options: &Options<'_>) -> Result<()> {
    for key in ["labels-regex", "env-regex"] {
        expression(options, key)?;
    }
    Ok(())
}

fn expression(options: &Options<'_>, key: &str) -> Result<Option<Regex>> {
    let Some(text) = options.text(key) else { return Ok(None) };
    let wrong = |error: regex_lite::Error| Error::invalid(format!("error parsing regexp: {error}: `{text}`"));
    Regex::new(text).map(Some).map_err(wrong)
}

/// What the options choose; `rename` says how a key is called.
pub(super) fn of(
    options: &Options<'_>,
    record: &ContainerRecord,
    rename: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, String>> {
    let labels = record
        .config
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let env = record.config.env.iter().flatten();
    let env: BTreeMap<&str, &str> = env.filter_map(|entry| entry.split_once('=')).collect();
    let mut found = BTreeMap::new();
    choose(options, ("labels", "labels-regex"), labels.collect(), &mut found)?;
    choose(options, ("env", "env-regex"), env, &mut found)?;
    Ok(found
        .into_iter()
        .map(|(key, value)| (rename(key), value.to_owned()))
        .collect())
}

fn choose<'a>(
    options: &Options<'_>,
    (list, regex): (&str, &str),
    from: BTreeMap<&'a str, &'a str>,
    found: &mut BTreeMap<&'a str, &'a str>,
) -> Result<()> {
    let names: Vec<&str> = options
        .text(list)
        .map_or_else(Vec::new, |names| names.split(',').collect());
    let expression = expression(options, regex)?;
    for (key, value) in from {
        if names.contains(&key) || expression.as_ref().is_some_and(|wanted| wanted.is_match(key)) {
            found.insert(key, value);
        }
    }
    Ok(())
}

/// For the drivers that write files: a tag only if one was asked for.
pub(super) fn of_file(options: &Options<'_>, record: &ContainerRecord) -> Result<BTreeMap<String, String>> {
    let mut attributes = of(options, record, str::to_owned)?;
    if options.text("tag").is_some() {
        let tag = tag::of(options, record)?;
        if !tag.is_empty() {
            attributes.insert("tag".to_owned(), tag);
        }
    }
    Ok(attributes)
}
