//! `top`: the host's `ps`, reduced to the processes of a container.
use std::collections::HashSet;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::requests::TopTable;

/// The host's ps must answer within this time, whatever is broken.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs `ps` with the caller's arguments (`-ef` when there are none) and keeps the rows of `pids`.
///
/// # Errors
/// InvalidArgument when ps refuses the arguments or shows no PID column; Unavailable without ps on the host.
pub(crate) async fn top(pids: &HashSet<u32>, arguments: &str) -> Result<TopTable> {
    let arguments: Vec<&str> = if arguments.trim().is_empty() {
        vec!["-ef"]
    } else {
        arguments.split_whitespace().collect()
    };
    let mut command = tokio::process::Command::new("ps");
    command
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await;
    let output =
        output.map_err(|_| Error::unavailable(format!("ps did not answer within {} s", DEADLINE.as_secs())))?;
    let output = output.map_err(|e| {
        Error::unavailable("ps cannot be run on the host")
            .with_hint("install procps")
            .with_source(e)
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::invalid(format!("ps: {said}")));
    }
    table(&String::from_utf8_lossy(&output.stdout), pids)
}

/// Rows of `pids`; the last column may hold spaces. COMPAT: without a PID column there is no
/// telling whose a row is (oracle lifecycle/top_and_stats_keys).
fn table(text: &str, pids: &HashSet<u32>) -> Result<TopTable> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|t| t == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let row = cells(line, titles.len());
        if row
            .get(column)
            .and_then(|p| p.parse().ok())
            .is_some_and(|pid: u32| pids.contains(&pid))
        {
            processes.push(row);
        }
    }
    Ok(TopTable { titles, processes })
}

fn cells(line: &str, columns: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut row = Vec::with_capacity(columns);
    while row.len() + 1 < columns {
        let Some((cell, after)) = rest.split_once(char::is_whitespace) else {
            break;
        };
        row.push(cell.to_owned());
        rest = after.trim_start();
    }
    row.push(rest.trim_end().to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_container_s_rows_are_kept_and_commands_stay_whole() {
        let text = "UID PID PPID CMD\nroot 1 0 /sbin/init splash\nroot 77 1 sleep 60 70\n";
        let table = table(text, &HashSet::from([77])).expect("a table");
        assert_eq!(table.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(table.processes, [["root", "77", "1", "sleep 60 70"]]);
    }

    #[test]
    fn a_format_without_pid_is_refused() {
        let refused = table("COMMAND\nsleep\n", &HashSet::from([5])).expect_err("refused");
        assert_eq!(refused.message(), "Couldn't find PID field in ps output");
    }
}
