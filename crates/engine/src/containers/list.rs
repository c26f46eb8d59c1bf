//! Lists of containers: filters and status texts.
use std::sync::Arc;

use super::handle::Handle;
use crate::Shared;
use crate::error::{Error, Result};
use crate::filters::{Filters, pattern_matches};
use crate::model::requests::ListContainers;
use crate::model::{ContainerRecord, HealthStatus, Status, Timestamp};

const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Records that match, newest first, without `ancestor` (which needs the images).
pub(super) fn select(
    shared: &Shared,
    handles: Vec<Arc<Handle>>,
    query: &ListContainers,
) -> Result<Vec<Arc<ContainerRecord>>> {
    query.filters.check_keys(&KEYS)?;
    let wanted = Wanted::of(shared, &query.filters)?;
    // COMPAT: asking for a state or an exit code means asking for stopped ones too.
    let all = query.all || query.limit > 0 || query.filters.contains("status") || query.filters.contains("exited");
    let mut records: Vec<_> = handles
        .iter()
        .map(|h| h.record())
        .filter(|r| all || wanted.before.is_some() || wanted.since.is_some() || r.state.shows_as_running())
        .filter(|r| wanted.matches(r, &query.filters))
        .collect();
    records.sort_by_key(|r| std::cmp::Reverse(r.created));
    Ok(records)
}

/// Filters with their values parsed.
struct Wanted {
    exited: Vec<i32>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    networks: Vec<String>,
}

impl Wanted {
    fn of(shared: &Shared, filters: &Filters) -> Result<Self> {
        let exited = filters
            .values("exited")
            .map(|text| {
                text.parse()
                    .map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
            })
            .collect::<Result<_>>()?;
        for status in filters.values("status") {
            let known = [
                "created",
                "running",
                "paused",
                "restarting",
                "removing",
                "exited",
                "dead",
            ];
            if !known.contains(&status) {
                return Err(Error::invalid(format!("invalid filter 'status={status}'")));
            }
        }
        for health in filters.values("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health) {
                return Err(Error::invalid(format!(
                    "unrecognised filter value for health: {health}"
                )));
            }
        }
        for task in filters.values("is-task") {
            if !["true", "false", "1", "0"].contains(&task) {
                return Err(Error::invalid(format!("invalid filter 'is-task={task}'")));
            }
        }
        for port in filters.values("expose").chain(filters.values("publish")) {
            parse_port(port)?;
        }
        let created = |key: &str| -> Result<Option<Timestamp>> {
            let found = filters.values(key).map(|name| shared.containers.find(name)).last();
            Ok(found.transpose()?.map(|h| h.record().created))
        };
        let networks = filters
            .values("network")
            .map(|text| {
                shared
                    .networks
                    .resolve(text)
                    .map_or_else(|_| text.to_owned(), |n| n.name.clone())
            })
            .collect();
        Ok(Self {
            exited,
            before: created("before")?,
            since: created("since")?,
            networks,
        })
    }

    fn matches(&self, record: &ContainerRecord, filters: &Filters) -> bool {
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.values(key).any(test);
        filters.match_labels(&record.config.labels)
            && any("id", &|id| record.id.as_str().starts_with(id))
            && any("name", &|name| matches_name(record, name))
            && any("status", &|status| record.state.status.as_str() == status)
            && any("health", &|health| health_word(record) == health)
            && any("is-task", &|task| matches!(task, "false" | "0"))
            && any("isolation", &|isolation| isolation == "default" || isolation.is_empty())
            && any("volume", &|volume| {
                record
                    .mounts
                    .iter()
                    .any(|m| m.name == volume || m.destination == volume || m.source == volume)
            })
            && any("expose", &|port| exposes(record, port))
            && any("publish", &|port| publishes(record, port))
            && (!filters.contains("network") || self.networks.iter().any(|n| record.endpoints.contains_key(n)))
            && (self.exited.is_empty() || (self.has_ended(record) && self.exited.contains(&record.state.exit_code)))
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
    }

    fn has_ended(&self, record: &ContainerRecord) -> bool {
        !record.state.shows_as_running() && record.state.finished_at.is_some()
    }
}

/// COMPAT: a name filter is a regular expression over the name with and without its slash.
fn matches_name(record: &ContainerRecord, pattern: &str) -> bool {
    let with_slash = format!("/{}", record.name);
    pattern == record.name
        || pattern == with_slash
        || pattern_matches(pattern, &record.name)
        || pattern_matches(pattern, &with_slash)
}

fn health_word(record: &ContainerRecord) -> &'static str {
    match &record.state.health {
        None => "none",
        Some(health) => health.status.as_str(),
    }
}

/// `80`, `80/tcp`, `8000-8010/udp` as first, last, protocol.
fn parse_port(text: &str) -> Result<(u16, u16, String)> {
    let wrong = || Error::invalid(format!("invalid port filter: {text}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let first = first.parse().map_err(|_| wrong())?;
    let last = last.parse().map_err(|_| wrong())?;
    Ok((first, last, protocol.to_owned()))
}

fn exposes(record: &ContainerRecord, text: &str) -> bool {
    let Ok((first, last, protocol)) = parse_port(text) else {
        return false;
    };
    let keys = record.config.exposed_ports.iter().flat_map(|m| m.keys());
    keys.filter_map(|key| parse_port(key).ok())
        .any(|(from, to, kind)| kind == protocol && from <= last && first <= to)
}

/// COMPAT: by the port on the host (oracle api/container_list_queries).
fn publishes(record: &ContainerRecord, text: &str) -> bool {
    let Ok((first, last, protocol)) = parse_port(text) else {
        return false;
    };
    record
        .published
        .iter()
        .any(|p| p.protocol.to_string() == protocol && (first..=last).contains(&p.host_port))
}

/// `Up 2 seconds (healthy)`, `Exited (0) 3 minutes ago`, ...
pub fn status_text(record: &ContainerRecord, now: Timestamp) -> String {
    let state = &record.state;
    let ago = |time: Option<Timestamp>| units(time.map_or(0, |t| now.since(t).as_secs()));
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Running if state.reconnecting => "Up, reconnecting".to_owned(),
        Status::Running => {
            let health = match &state.health {
                None => "",
                Some(h) => match h.status {
                    HealthStatus::Starting => " (health: starting)",
                    HealthStatus::Healthy => " (healthy)",
                    HealthStatus::Unhealthy => " (unhealthy)",
                },
            };
            format!("Up {}{health}", ago(state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", ago(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, ago(state.finished_at)),
        Status::Exited if state.finished_at.is_none() => "Created".to_owned(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, ago(state.finished_at)),
    }
}

/// A span of time in Docker's words.
fn units(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_like_dockers() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (21 * 86_400, "3 weeks"),
        ] {
            assert_eq!(units(seconds), expected);
        }
    }
}
