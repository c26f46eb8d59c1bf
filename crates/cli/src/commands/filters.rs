//! `--filter key=value`.

use wharf_api::Filters;

use crate::flags::Flag;

/// The flag of lists.
pub(crate) const FILTER: Flag = Flag::list("filter", "Show only what matches (KEY=VALUE)")
    .short('f')
    .shown_as("filter")
    .checked(check);

/// The flag of prunes, whose letter is taken.
pub(crate) const PRUNE_FILTER: Flag = Flag::list("filter", "Remove only what matches (KEY=VALUE)")
    .shown_as("filter")
    .checked(check);

/// The flag of lists' formats.
pub(crate) const FORMAT: Flag = Flag::string("format", "How to print: table, json, table TEMPLATE, or a Go template");

fn check(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        _ if text.is_empty() => Ok(String::new()),
        Some((key, value)) => Ok(format!("{}={}", key.trim().to_lowercase(), value.trim())),
        None => Err("bad format of filter (expected name=value)".to_owned()),
    }
}

/// The conditions of all the flags.
pub(crate) fn parse(values: &[String]) -> Filters {
    values.iter().filter_map(|value| value.split_once('=')).collect()
}
