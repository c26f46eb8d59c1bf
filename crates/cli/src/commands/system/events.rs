//! `wharf system events`.

use std::io::Write as _;

use wharf_api::types::EventMessage;

use crate::commands::{filters, inspecting};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::times;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    filters::FILTER,
    Flag::string("format", "How to print: json, or a Go template"),
    Flag::string("since", "Show what happened after a time or in a duration"),
    Flag::string("until", "Show what happens before a time, then end"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system events", "events"],
    usage: "[OPTIONS]",
    about: "Show what happens in the engine as it happens",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let time = |flag: &str| {
        times::to_api(parsed.text(flag))
            .map_err(|error| CliError::message(format!("invalid value for {flag:?}: {error}")))
    };
    let client = session.client().await?;
    let response = client
        .get("/events")
        .query_if("since", &time("since")?)
        .query_if("until", &time("until")?)
        .filters(&filters::parse(&parsed.all("filter")))
        .send()
        .await?;
    let format = parsed.text("format");
    let mut events = response.documents::<serde_json::Value>();
    while let Some(event) = events.next().await? {
        let line = match format {
            "" => plain(&serde_json::from_value(event).map_err(unreadable)?),
            "json" => {
                let event: EventMessage = serde_json::from_value(event).map_err(unreadable)?;
                serde_json::to_string(&event).map_err(unreadable)?
            }
            source => inspecting::render(source, &event)?,
        };
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{line}")
            .and_then(|()| stdout.flush())
            .map_err(CliError::io("printing an event"))?;
    }
    Ok(0)
}

fn unreadable(error: serde_json::Error) -> CliError {
    CliError::message(format!("error reading an event: {error}"))
}

/// `TIME TYPE ACTION ID (ATTRIBUTES)`.
fn plain(event: &EventMessage) -> String {
    let nanos = if event.time_nano != 0 {
        event.time_nano
    } else {
        event.time.saturating_mul(1_000_000_000)
    };
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos))
        .map(|time| {
            time.to_zoned(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%dT%H:%M:%S.%9f%:z")
                .to_string()
        })
        .unwrap_or_default();
    let time = time.strip_suffix("+00:00").map(|utc| format!("{utc}Z")).unwrap_or(time);
    let mut line = format!("{time} {} {} {}", event.kind, event.action, event.actor.id);
    let attributes = event.actor.attributes.iter().flatten();
    let attributes: Vec<String> = attributes.map(|(key, value)| format!("{key}={value}")).collect();
    if !attributes.is_empty() {
        line.push_str(&format!(" ({})", attributes.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_line() {
        let event: EventMessage = serde_json::from_str(
            r#"{"Type":"container","Action":"start","Actor":{"ID":"x","Attributes":{"b":"2","a":"1"}},"timeNano":1000000001}"#,
        )
        .unwrap();
        let line = plain(&event);
        assert!(line.ends_with(" container start x (a=1, b=2)"), "{line}");
        assert!(line.contains(".000000001"), "{line}");
    }
}
