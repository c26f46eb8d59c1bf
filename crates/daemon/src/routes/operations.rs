//! `/wharf/ops`, an extension: what is under way.

use wharf_api::types as wire;
use wharf_engine::operations::{Durability, OperationSeen};

use crate::http::{Outcome, Reply, Request};

/// `GET /wharf/ops`: never waits for any of them.
pub(crate) async fn list(request: Request) -> Outcome {
    let engine = &request.app.engine;
    let containers = engine.containers();
    let to_wire = |seen: OperationSeen| {
        let name = containers.snapshot(&seen.target).map(|record| record.name.clone());
        operation(seen, name.unwrap_or_default())
    };
    let list: Vec<wire::Operation> = engine.shared().operations.list().into_iter().map(to_wire).collect();
    Reply::json(&list)
}

fn operation(seen: OperationSeen, name: String) -> wire::Operation {
    let nanos = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let waits = seen
        .waits
        .into_iter()
        .map(|(what, age)| wire::OperationWait { what, age: nanos(age) });
    wire::Operation {
        id: seen.id,
        kind: seen.kind.to_string(),
        target: seen.target,
        name,
        step: seen.step,
        waits: waits.collect(),
        started: seen.begun.to_string(),
        age: nanos(seen.age),
        deadline: seen.deadline.map(|at| at.to_string()).unwrap_or_default(),
        overdue: seen.overdue,
        durable: seen.kind.durability() == Durability::Row,
    }
}
