//! `ps`.

use super::store::Entry;
use super::{Call, argument, failed, required_id, text, usage};
use crate::RuntimeError;
use lexopt::Arg::{Long, Short, Value};

/// `ps [--format table|json] ID [PS ARGUMENTS]`.
pub(super) fn ps(mut call: Call) -> Result<i32, RuntimeError> {
    let (mut format, mut id, mut rest) = ("table".to_owned(), None, Vec::new());
    while let Some(arg) = call.parser.next().map_err(argument)? {
        match arg {
            Long("format") | Short('f') => format = text(call.parser.value().map_err(argument)?)?,
            Value(value) => {
                id = Some(text(value)?);
                rest = call
                    .parser
                    .raw_args()
                    .map_err(argument)?
                    .map(text)
                    .collect::<Result<Vec<_>, _>>()?;
                break;
            }
            other => return Err(argument(other.unexpected())),
        }
    }
    let record = Entry::open(&call.global, &required_id(id)?)?.load()?;
    let pids = record
        .require_cgroup()?
        .pids()
        .map_err(|error| crate::cgroups::failed("ps", &error))?;
    match format.as_str() {
        "json" => println!("{}", serde_json::json!(pids)),
        "table" => print_table(&pids, &rest)?,
        other => return Err(usage(format!("unknown format {other:?}"))),
    }
    Ok(0)
}

/// The system's own ps, reduced to the container's processes.
fn print_table(pids: &[u32], arguments: &[String]) -> Result<(), RuntimeError> {
    let arguments = if arguments.is_empty() {
        &["-ef".to_owned()][..]
    } else {
        arguments
    };
    let output = std::process::Command::new("ps")
        .args(arguments)
        .output()
        .map_err(|error| failed("run ps", &error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_ascii_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| usage("the arguments of ps must let it print the column PID"))?;
    println!("{header}");
    for line in lines {
        let pid = line
            .split_ascii_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}
