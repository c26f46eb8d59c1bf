//! Events.

use wharf_api::types as wire;
use wharf_engine::model::{Event, EventKind};

/// One event, with the fields that clients before API 1.52 read.
pub(crate) fn to_wire(event: &Event) -> wire::EventMessage {
    let legacy = event.kind == EventKind::Container || event.kind == EventKind::Image;
    let from = event
        .attributes
        .get("image")
        .filter(|_| event.kind == EventKind::Container);
    wire::EventMessage {
        status: if legacy { event.action.clone() } else { String::new() },
        id: if legacy { event.actor.clone() } else { String::new() },
        from: from.cloned().unwrap_or_default(),
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: wire::EventActor {
            id: event.actor.clone(),
            attributes: Some(event.attributes.clone()),
        },
        scope: "local".to_owned(),
        time: event.time.as_secs(),
        time_nano: event.time.as_nanos(),
    }
}
