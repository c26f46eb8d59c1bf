//! `GET /events`.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use wharf_engine::filters::unix_nanos;
use wharf_engine::model::{Event, EventKind, Timestamp};
use wharf_engine::{EventWatch, Filters};

use crate::convert::{event, filters};
use crate::http::body::{Body, BodyWriter, ClientGone};
use crate::http::reply::JSON;
use crate::http::{Failure, Outcome, Query, Reply, Request};

/// Actions whose filter is the part before the colon.
const OPEN_ENDED: [&str; 3] = ["health_status", "exec_create", "exec_start"];

/// What a client wants to see.
struct Wanted {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Filters,
    image_creates: bool,
}

/// `GET /events`: kept events from `since`, then those to come, until `until` or for ever.
pub(crate) async fn stream(request: Request) -> Outcome {
    let query = &request.query;
    let wanted = Wanted {
        since: moment(query, "since")?,
        until: moment(query, "until")?,
        filters: filters::from_query(query)?,
        image_creates: request.version.at_least(46),
    };
    if let (Some(since), Some(until)) = (wanted.since, wanted.until)
        && since > until
    {
        return Err(Failure::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.text("since"),
            query.text("until")
        )));
    }
    let watch = request.app.engine.events(wanted.since).await?;
    let (writer, body) = Body::channel();
    tokio::spawn(async move {
        let _ = follow(watch, &wanted, &writer).await; // an error means that the client has gone
    });
    Ok(Reply::stream(Some(JSON), body))
}

async fn follow(mut watch: EventWatch, wanted: &Wanted, writer: &BodyWriter) -> Result<(), ClientGone> {
    for event in &watch.past {
        wanted.write(event, writer).await?;
    }
    let end = wanted
        .until
        .map(|until| tokio::time::Instant::now() + until.since(Timestamp::now()));
    loop {
        let ended = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            biased;
            next = watch.next.recv() => next,
            () = ended => return Ok(()),
            () = writer.closed() => return Err(ClientGone),
        };
        match next {
            Ok(event) => wanted.write(&event, writer).await?,
            Err(RecvError::Lagged(lost)) => tracing::warn!(lost, "a slow client lost events"),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

impl Wanted {
    async fn write(&self, event: &Arc<Event>, writer: &BodyWriter) -> Result<(), ClientGone> {
        let late = self.until.is_some_and(|until| event.time > until);
        let hidden = event.kind == EventKind::Image && event.action == "create" && !self.image_creates;
        if late || hidden || !matches(&self.filters, event) {
            return Ok(());
        }
        writer.write_json(&event::to_wire(event), "\n").await
    }
}

/// COMPAT: Docker's conditions; unknown keys are ignored (oracle api/events_filters_and_replay).
fn matches(filters: &Filters, event: &Event) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    let actor = |key: &str| starts(filters, key, &event.actor) || starts(filters, key, attribute("name"));
    filters.match_exactly("type", event.kind.as_str())
        && filters.match_exactly("scope", "local")
        && action_matches(filters, &event.action)
        && [
            "container",
            "network",
            "volume",
            "plugin",
            "daemon",
            "node",
            "service",
            "secret",
            "config",
        ]
        .into_iter()
        .all(actor)
        && image_matches(filters, event)
        && filters.match_labels(&event.attributes)
}

/// True when the text begins with one of the values, or none is wanted.
fn starts(filters: &Filters, key: &str, text: &str) -> bool {
    filters.is_open(key) || filters.values(key).any(|want| text.starts_with(want))
}

fn action_matches(filters: &Filters, action: &str) -> bool {
    let fits = |want: &str| action == want || (OPEN_ENDED.contains(&want) && action.starts_with(want));
    filters.is_open("event") || filters.values("event").any(fits)
}

fn image_matches(filters: &Filters, event: &Event) -> bool {
    if filters.is_open("image") {
        return true;
    }
    let key = if event.kind == EventKind::Image {
        "name"
    } else {
        "image"
    };
    let name = event.attributes.get(key).map_or("", String::as_str);
    let candidates = [event.actor.as_str(), name, without_tag(&event.actor), without_tag(name)];
    filters.values("image").any(|want| candidates.contains(&want))
}

/// A name without its tag; the port of a registry stays.
fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// Seconds since 1970 with a fraction.
fn moment(query: &Query, key: &str) -> Result<Option<Timestamp>, Failure> {
    let text = query.text(key);
    if text.is_empty() {
        return Ok(None);
    }
    let nanos = unix_nanos(text);
    let refused = || {
        Failure::invalid(format!(
            "invalid value for {key:?}: failed to parse value as time: {text}"
        ))
    };
    nanos
        .map(|nanos| Some(Timestamp::from_nanos(nanos)))
        .ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, action: &str, actor: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let time = Timestamp::default();
        Event {
            seq: 1,
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes,
            time,
        }
    }

    fn check(conditions: &[(&str, &str)], event: &Event, expected: bool) {
        let mut filters = Filters::default();
        conditions.iter().for_each(|(key, value)| filters.insert(*key, *value));
        assert_eq!(matches(&filters, event), expected, "{conditions:?} on {event:?}");
    }

    #[test]
    fn actors_match_by_the_start_of_id_or_name() {
        let start = event(
            EventKind::Container,
            "start",
            "abcdef",
            &[("name", "web"), ("image", "busybox:1")],
        );
        check(&[], &start, true);
        check(&[("container", "abc")], &start, true);
        check(&[("container", "we")], &start, true);
        check(&[("container", "x")], &start, false);
        check(&[("container", "x"), ("container", "web")], &start, true);
        check(&[("network", "web2")], &start, false);
        check(&[("image", "busybox")], &start, true);
        check(&[("image", "busybox:1")], &start, true);
        check(&[("image", "busy")], &start, false);
        check(&[("type", "network")], &start, false);
        check(&[("bogus", "x")], &start, true);
    }

    #[test]
    fn open_ended_actions_match_by_their_first_word() {
        let exec = event(EventKind::Container, "exec_create: echo hi", "a", &[("k", "v")]);
        check(&[("event", "exec_create")], &exec, true);
        check(&[("event", "exec")], &exec, false);
        check(&[("label", "k=v")], &exec, true);
        check(&[("label", "k=w")], &exec, false);
        check(&[("label", "k"), ("label", "other")], &exec, false);
    }

    #[test]
    fn tags_are_cut_and_ports_are_not() {
        assert_eq!(without_tag("a:1"), "a");
        assert_eq!(without_tag("localhost:5000/a"), "localhost:5000/a");
        assert_eq!(without_tag("localhost:5000/a:1"), "localhost:5000/a");
    }
}
