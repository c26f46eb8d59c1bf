//! `--regex`: commands on all containers whose id matches.
//!
//! COMPAT: crun's option of `kill` and `delete`.

use super::global::Global;
use super::{log, store, usage};
use crate::RuntimeError;

/// Does this to every container whose id matches the regular expression. A
/// failure does not keep it from the others: each is reported, and the exit
/// code is then 1.
pub(super) fn for_each(
    global: &Global,
    pattern: &str,
    mut act: impl FnMut(&str) -> Result<(), RuntimeError>,
) -> Result<i32, RuntimeError> {
    let expression =
        regex_lite::Regex::new(pattern).map_err(|error| usage(format!("--regex: {pattern:?}: {error}")))?;
    let mut code = 0;
    for (_, record) in store::list_entries(&global.root)? {
        if !expression.is_match(&record.id) {
            continue;
        }
        if let Err(error) = act(&record.id) {
            log::report(global, &error);
            code = 1;
        }
    }
    Ok(code)
}
