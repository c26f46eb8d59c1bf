//! `wharf ops`.

use gotmpl::Value;
use wharf_api::types::Operation;

use crate::commands::filters;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, short_id, units};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    filters::FORMAT,
    Flag::switch("no-trunc", "Show ids in full"),
    Flag::switch("quiet", "Show only numbers").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["ops", "system ops"],
    usage: "[OPTIONS]",
    about: "List the operations under way, what each waits for, and until when",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.ID}}\t{{.Kind}}\t{{.Target}}\t{{.Step}}\t{{.Age}}\t{{.Deadline}}\t{{.StuckOn}}";

const HEADINGS: Headings = &[
    ("ID", "ID"),
    ("Kind", "KIND"),
    ("Target", "TARGET"),
    ("Name", "NAME"),
    ("Step", "STEP"),
    ("Age", "AGE"),
    ("Started", "STARTED"),
    ("Deadline", "DEADLINE"),
    ("Overdue", "OVERDUE"),
    ("Durable", "DURABLE"),
    ("StuckOn", "WAITS FOR"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let operations: Vec<Operation> = client.get("/wharf/ops").fetch().await?;
    let format = if parsed.is_on("quiet") && matches!(parsed.text("format"), "" | "table") {
        Format::Template("{{.ID}}".to_owned())
    } else {
        Format::parse(parsed.text("format"), COLUMNS)
    };
    let whole = parsed.is_on("no-trunc");
    let rows: Vec<Row> = operations.iter().map(|operation| row(operation, whole)).collect();
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

fn row(operation: &Operation, whole: bool) -> Row {
    let target = match (operation.name.as_str(), whole) {
        ("", true) => operation.target.clone(),
        ("", false) if is_id(&operation.target) => short_id(&operation.target).to_owned(),
        ("", false) => operation.target.clone(),
        (name, _) => name.to_owned(),
    };
    vec![
        ("ID", Value::from(operation.id.to_string())),
        ("Kind", operation.kind.as_str().into()),
        ("Target", target.into()),
        ("Name", operation.name.as_str().into()),
        ("Step", operation.step.as_str().into()),
        ("Age", age(operation.age).into()),
        ("Started", operation.started.as_str().into()),
        ("Deadline", deadline(operation).into()),
        ("Overdue", operation.overdue.to_string().into()),
        ("Durable", operation.durable.to_string().into()),
        ("StuckOn", waits(operation).into()),
    ]
}

fn age(nanos: i64) -> String {
    units::human_duration(nanos / 1_000_000_000)
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn deadline(operation: &Operation) -> String {
    match (operation.deadline.as_str(), operation.overdue) {
        ("", _) => "none".to_owned(),
        (at, true) => format!("{at} (over)"),
        (at, false) => at.to_owned(),
    }
}

fn waits(operation: &Operation) -> String {
    let one = |wait: &wharf_api::types::OperationWait| format!("{} ({})", wait.what, age(wait.age));
    operation.waits.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overdue_operation_says_what_it_waits_for() {
        let operation = Operation {
            id: 7,
            kind: "remove".into(),
            target: "a".repeat(64),
            deadline: "2030-01-01T00:00:00Z".into(),
            overdue: true,
            waits: vec![wharf_api::types::OperationWait {
                what: "releasing mounts".into(),
                age: 61_000_000_000,
            }],
            ..Operation::default()
        };
        let shown: Vec<String> = row(&operation, false)
            .iter()
            .filter(|(key, _)| ["Target", "Deadline", "StuckOn"].contains(key))
            .map(|(_, value)| value.to_string())
            .collect();
        let expected = [
            "aaaaaaaaaaaa",
            "2030-01-01T00:00:00Z (over)",
            "releasing mounts (About a minute)",
        ];
        assert_eq!(shown, expected);
    }
}
