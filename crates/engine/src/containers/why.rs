//! `why`: the causal story of one container, and what to do next. Text from notes; everything here is pure.
use std::time::Duration;

use super::signals::signal_name;
use crate::db::EngineRun;
use crate::model::*;

/// The story of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it stands, as inspect says it; `removed` when only events are left of it.
    pub status: String,
    /// In one sentence.
    pub summary: String,
    /// What happened, oldest first.
    pub story: Vec<WhyLine>,
    /// The probes of its health check that are kept.
    pub probes: Vec<HealthProbe>,
    /// What to do next.
    pub advice: Vec<String>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct WhyLine {
    /// When.
    pub at: Timestamp,
    /// Its kind (`started`, `ended`, `engine-started`...).
    pub what: String,
    /// In words.
    pub text: String,
}

/// Tells the story of a container that exists.
pub(super) fn tell(record: &ContainerRecord, runs: &[EngineRun]) -> Why {
    let mut story = vec![line(record.created, "created", created(record))];
    story.extend(engine_lines(runs, record.created));
    let notes = record.story.notes();
    story.extend(notes.iter().enumerate().map(|(i, note)| WhyLine {
        at: note.at,
        what: kind_of(&note.what),
        text: text_of(&note.what, &notes[..i]),
    }));
    story.sort_by_key(|line| line.at);
    let health = record.state.health.as_ref();
    Why {
        id: record.id.to_string(),
        name: record.name.clone(),
        status: record.state.status.as_str().to_owned(),
        summary: summary(record),
        story,
        probes: health.map(|h| h.log.clone()).unwrap_or_default(),
        advice: advice(record),
    }
}

/// Tells what events know of a container that is gone.
pub(super) fn tell_gone(name: &str, events: &[std::sync::Arc<Event>]) -> Option<Why> {
    let of = |e: &&std::sync::Arc<Event>| {
        e.kind == EventKind::Container && (e.attributes.get("name").is_some_and(|n| n == name))
    };
    let by_id =
        |e: &&std::sync::Arc<Event>| e.kind == EventKind::Container && name.len() >= 12 && e.actor.starts_with(name);
    let newest = events.iter().rev().find(|e| of(e) || by_id(e))?;
    let own: Vec<&Event> = events
        .iter()
        .map(|e| &**e)
        .filter(|e| e.kind == newest.kind && e.actor == newest.actor)
        .collect();
    let code = own.iter().rev().find_map(|e| e.attributes.get("exitCode"));
    let ended = match code {
        Some(code) => format!("it ended with exit code {code} and was removed"),
        None => "it was removed".to_owned(),
    };
    Some(Why {
        id: newest.actor.clone(),
        name: newest.attributes.get("name").cloned().unwrap_or_default(),
        status: "removed".to_owned(),
        summary: format!("There is no such container any more: {ended}."),
        story: own.iter().map(|e| line(e.time, "event", event_text(e))).collect(),
        probes: Vec::new(),
        advice: vec!["Its log went with it; run it without --rm to keep both.".to_owned()],
    })
}

fn event_text(event: &Event) -> String {
    let facts = ["exitCode", "signal", "execID", "oldName"]
        .iter()
        .filter_map(|key| Some(format!(" {key}={}", event.attributes.get(*key)?)));
    format!("{}{}", event.action, facts.collect::<String>())
}

fn line(at: Timestamp, what: &str, text: String) -> WhyLine {
    WhyLine {
        at,
        what: what.to_owned(),
        text,
    }
}

fn created(record: &ContainerRecord) -> String {
    let words: Vec<&str> = std::iter::once(&record.path)
        .chain(&record.args)
        .map(String::as_str)
        .collect();
    let policy = match record.host.restart() {
        RestartKind::No => String::new(),
        _ => format!(", restart policy {}", policy_text(&record.host.restart_policy)),
    };
    format!(
        "created from {} to run `{}`{policy}",
        record.config.image,
        words.join(" ")
    )
}

fn policy_text(policy: &RestartPolicy) -> String {
    match policy.maximum_retry_count {
        0 => policy.name.clone(),
        count => format!("{}:{count}", policy.name),
    }
}

/// The engine's own ends and starts since the container was created.
fn engine_lines(runs: &[EngineRun], since: Timestamp) -> Vec<WhyLine> {
    let mut lines = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        if run.started > since {
            let killed = i > 0 && runs[i - 1].ended.is_none();
            let text = match (run.rebooted, killed) {
                (true, _) => "the engine started; the machine had been booted meanwhile",
                (false, true) => "the engine started again after it had been killed",
                (false, false) => "the engine started again",
            };
            lines.push(line(run.started, "engine-started", text.to_owned()));
        }
        if let Some(ended) = run.ended.filter(|ended| *ended > since) {
            lines.push(line(
                ended,
                "engine-stopped",
                "the engine was stopped; the container went on".to_owned(),
            ));
        }
    }
    lines
}

/// The tag of the note's JSON.
fn kind_of(what: &Happening) -> String {
    let json = serde_json::to_value(what).unwrap_or_default();
    json.get("what").and_then(|w| w.as_str()).unwrap_or_default().to_owned()
}

fn text_of(what: &Happening, before: &[Note]) -> String {
    match what {
        Happening::Started { by, pid } => format!("{}, as process {pid}", started_by(*by)),
        Happening::StartFailed { by, message, exit_code } => {
            format!("{}, which failed (exit code {exit_code}): {message}", started_by(*by))
        }
        Happening::Signalled { by, signal } => format!("{} sent {}", who(*by), signal_name(*signal)),
        Happening::Ended {
            code,
            signal,
            ran_for_ms,
        } => {
            let span = span(*ran_for_ms);
            match signal {
                None => format!("its process ended with exit code {code} after {span}"),
                Some(signal) => format!(
                    "its process was ended by {} (exit code {code}) after {span}; {}",
                    signal_name(*signal),
                    sender(*signal, before)
                ),
            }
        }
        Happening::OutOfMemory(report) => oom_text(report),
        Happening::RestartPlanned {
            after_ms,
            attempt,
            for_health,
        } => {
            let why = if *for_health {
                "its health"
            } else {
                "its restart policy"
            };
            format!(
                "will be started again after {} because of {why} (restart {attempt} in a row)",
                span(*after_ms)
            )
        }
        Happening::RestartsUsedUp { attempts } => {
            format!("not started again: its policy allows {attempts} restarts, and they are used up")
        }
        Happening::Health { status } => format!("its health became {}", status.as_str()),
        Happening::Remedy { action } => remedy_text(*action).to_owned(),
        Happening::Paused { by } => format!("paused by {}", who(*by)),
        Happening::Unpaused { by } => format!("unpaused by {}", who(*by)),
        Happening::KeeperLost { killed: true } => {
            "the process that keeps it (wharf-shim) was gone; what was left of the container was killed".to_owned()
        }
        Happening::KeeperLost { killed: false } => {
            "neither its processes nor the process that keeps it (wharf-shim) were there any more".to_owned()
        }
        Happening::KeeperSilent { message } => {
            format!(
                "the process that keeps it (wharf-shim) did not answer ({message}); the engine killed the container itself"
            )
        }
        Happening::DoesNotEnd { message } => message.clone(),
        Happening::Updated => "its limits or policies were changed by update".to_owned(),
        Happening::Renamed { from } => format!("renamed from {from}"),
        Happening::RemovalFailed { message } => format!("its removal failed: {message}"),
    }
}

fn started_by(by: Cause) -> String {
    match by {
        Cause::UserStart => "a user started it".to_owned(),
        Cause::UserRestart => "a user restarted it".to_owned(),
        Cause::PlannedRestart => "it was started again as planned".to_owned(),
        other => format!("{} started it", who(other)),
    }
}

fn who(by: Cause) -> &'static str {
    match by {
        Cause::UserStart => "a user's start",
        Cause::UserStop => "a user's stop",
        Cause::HostShutdown => "the shutdown of the host",
        Cause::UserRestart => "a user's restart",
        Cause::UserKill => "a user's kill",
        Cause::UserRemove => "a user's removal by force",
        Cause::UserPause => "a user",
        Cause::StopTimeout => "the end of the time that stop gave it",
        Cause::PlannedRestart => "a planned restart",
        Cause::Health => "its failing health check",
        Cause::Engine => "the engine",
    }
}

/// Who sent the signal that ended a run, as far as its notes tell.
fn sender(signal: i32, before: &[Note]) -> String {
    let run = before
        .iter()
        .rev()
        .take_while(|n| !matches!(n.what, Happening::Started { .. }));
    for note in run {
        match &note.what {
            Happening::Signalled { by, signal: sent } if *sent == signal => return format!("{} sent it", who(*by)),
            Happening::OutOfMemory(_) if signal == 9 => return "the kernel sent it for want of memory".to_owned(),
            Happening::KeeperLost { .. } => return "the engine sent it, as nothing kept the container".to_owned(),
            _ => {}
        }
    }
    match signal {
        4 | 7 | 8 | 11 => "the kernel sent it: the program did what it must not".to_owned(),
        _ => "not this engine: a process in the container or on the host sent it".to_owned(),
    }
}

fn oom_text(report: &OomReport) -> String {
    let limit = match &report.limit_of {
        _ if report.own_limit => "its own memory limit was reached".to_owned(),
        Some(path) if path.is_empty() => "the whole machine ran out of memory".to_owned(),
        Some(path) => format!("the memory limit of the cgroup {path} was reached"),
        None => "memory ran out (the kernel's log does not say whose limit)".to_owned(),
    };
    match &report.victim {
        Some(victim) => format!("{limit}; the kernel killed {} (process {})", victim.name, victim.pid),
        None => format!("{limit}; the kernel killed a process of it"),
    }
}

fn remedy_text(action: OnUnhealthy) -> &'static str {
    match action {
        OnUnhealthy::None => "nothing is done about its health",
        OnUnhealthy::Kill => "it is killed because it is unhealthy (health-on-failure kill)",
        OnUnhealthy::Restart => "it is restarted because it is unhealthy (health-on-failure restart)",
        OnUnhealthy::Stop => "it is stopped because it is unhealthy (health-on-failure stop)",
        OnUnhealthy::Freeze => "it is paused because it is unhealthy (health-on-failure freeze)",
    }
}

fn span(millis: u64) -> String {
    let whole = Duration::from_millis(millis).as_secs();
    match whole {
        _ if millis < 1000 => format!("{millis} ms"),
        0..=59 => format!("{}.{} s", whole, millis % 1000 / 100),
        60..=3599 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

fn newest<'a, T>(record: &'a ContainerRecord, pick: impl Fn(&'a Note) -> Option<T>) -> Option<T> {
    record.story.notes().iter().rev().find_map(pick)
}

fn last_end(record: &ContainerRecord) -> String {
    let notes = record.story.notes();
    let end = notes.iter().rposition(|n| matches!(n.what, Happening::Ended { .. }));
    match end {
        Some(i) => text_of(&notes[i].what, &notes[..i]),
        None => format!("its process ended with exit code {}", record.state.exit_code),
    }
}

fn summary(record: &ContainerRecord) -> String {
    let state = &record.state;
    let start_failed = !state.error.is_empty() && state.status != Status::Dead;
    match state.status {
        Status::Created | Status::Exited if start_failed => format!("It could not be started: {}", state.error),
        Status::Created => "It was created and never started.".to_owned(),
        Status::Running if state.reconnecting => "Its keeper does not answer this engine yet.".to_owned(),
        Status::Running => match state.health.as_ref().map(|h| h.status) {
            Some(HealthStatus::Unhealthy) => format!("It runs as process {}, but is unhealthy.", state.pid),
            Some(HealthStatus::Healthy) => format!("It runs as process {} and is healthy.", state.pid),
            _ => format!("It runs as process {}.", state.pid),
        },
        Status::Paused => {
            let by = newest(record, |n| match &n.what {
                Happening::Paused { by } => Some(*by),
                _ => None,
            });
            format!("It is paused: {} did that.", who(by.unwrap_or_default()))
        }
        Status::Restarting => format!("It is about to be started again: {}.", last_end(record)),
        Status::Exited => format!("It does not run: {}.", last_end(record)),
        Status::Removing => "It is being removed.".to_owned(),
        Status::Dead => format!("Its removal failed: {}", state.error),
    }
}

/// What to do next.
fn advice(record: &ContainerRecord) -> Vec<String> {
    let name = &record.name;
    let state = &record.state;
    let mut all = Vec::new();
    let stuck = newest(record, |n| Some(matches!(n.what, Happening::DoesNotEnd { .. }))) == Some(true);
    if stuck && state.is_running() {
        all.push("Free what its process hangs on (see above); it ends then by itself.".to_owned());
    }
    if state.oom_killed {
        all.push(memory_advice(record));
    }
    let health = state.health.as_ref().map(|h| h.status);
    if health == Some(HealthStatus::Unhealthy) && state.is_running() {
        all.push("See what its health check printed, below; the check runs inside the container.".to_owned());
    }
    match state.status {
        Status::Created if state.error.is_empty() => all.push(format!("Start it: wharf start {name}")),
        Status::Paused => all.push(format!("Let it go on: wharf unpause {name}")),
        Status::Dead => all.push(format!("Remove it again: wharf rm -f {name}")),
        Status::Created | Status::Exited | Status::Restarting => {
            all.extend(end_advice(record));
        }
        Status::Running | Status::Removing => {}
    }
    if state.status != Status::Created {
        all.push(format!("Read its output: wharf logs --tail 50 {name}"));
    }
    all
}

fn memory_advice(record: &ContainerRecord) -> String {
    let report = newest(record, |n| match &n.what {
        Happening::OutOfMemory(report) => Some(report),
        _ => None,
    });
    let name = &record.name;
    match (report, record.host.resources.memory) {
        (Some(r), limit) if r.own_limit && limit > 0 => format!(
            "It needs more than its limit of {limit} bytes: wharf update --memory {} --memory-swap -1 {name}",
            limit.saturating_mul(2)
        ),
        (Some(r), _) if r.limit_of.is_some() && !r.own_limit => {
            "The memory ran out outside of the container's own limit: give others limits (--memory), or the machine more memory."
                .to_owned()
        }
        _ => "It ran out of memory: look at its limit (--memory) and at what the machine has.".to_owned(),
    }
}

fn end_advice(record: &ContainerRecord) -> Option<String> {
    let state = &record.state;
    let failed_start = !state.error.is_empty();
    let text = match state.exit_code {
        _ if failed_start && state.error.contains("port is already allocated") => {
            "Another program has the port: end it, or publish another one (-p).".to_owned()
        }
        126 if failed_start => format!(
            "{} cannot be executed: check its mode, its format and the platform of the image.",
            record.path
        ),
        127 if failed_start => format!(
            "{} is not in the image: check the command and the image's PATH.",
            record.path
        ),
        _ if failed_start => "Correct what the error names and start it again.".to_owned(),
        126 => "The command found a program that cannot be executed.".to_owned(),
        127 => "The command names a program that is not in the image.".to_owned(),
        139 => {
            "The program crashed on memory that is not its own; an image of another platform does that too.".to_owned()
        }
        0 if record.host.restart() == RestartKind::No => {
            "The program ended by its own will; one that serves has to stay in the foreground.".to_owned()
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
