//! `list`.

use super::store::list_entries;
use super::{Call, argument, failed, state, text, usage};
use crate::RuntimeError;
use lexopt::Arg::{Long, Short};

/// `list [--format table|json] [--quiet]`.
pub(super) fn list(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut format, mut quiet) = ("table".to_owned(), false);
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("format") | Short('f') => format = text(call.parser.value().map_err(argument)?)?,
            Long("quiet") | Short('q') => quiet = true,
            other => return Err(argument(other.unexpected())),
        }
    }
    if call.global.is_root_given
        && let Err(error) = std::fs::metadata(&call.global.root)
    {
        return Err(failed(format!("open {}", call.global.root.display()), &error));
    }
    let entries = list_entries(&call.global.root)?;
    let documents: Vec<_> = entries
        .iter()
        .map(|(entry, record)| state::document(entry, record))
        .collect();
    match format.as_str() {
        _ if quiet => documents.iter().for_each(|state| println!("{}", state.id)),
        "json" => {
            let text = serde_json::to_string(&documents).map_err(|error| usage(format!("print the list: {error}")))?;
            println!("{text}");
        }
        "table" => print_table(&documents),
        other => return Err(usage(format!("unknown format {other:?}"))),
    }
    Ok(0)
}

fn print_table(documents: &[state::StateDocument<'_>]) {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(documents.iter().map(|state| {
        let bundle = state.bundle.display().to_string();
        let (id, pid, status) = (state.id.to_owned(), state.pid.to_string(), state.status.to_owned());
        [
            id,
            pid,
            status,
            bundle,
            state.created.to_owned(),
            state.owner.to_owned(),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}
