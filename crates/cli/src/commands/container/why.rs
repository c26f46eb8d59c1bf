//! `wharf container why`, which is ours: the causal story of one container on one page.

use wharf_api::types::ContainerWhy;

use super::path;
use crate::commands::inspecting;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::session::Session;
use crate::verb::{Args, Verb};

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container why", "why"],
    usage: "[OPTIONS] CONTAINER",
    about: "Tell why a container is as it is, and what to do next",
    flags: &[&[Flag::string("format", "How to print: json, or a Go template").short('f')]],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let document: serde_json::Value = client.get(path(parsed.arg(0), "/why")).fetch().await?;
    match parsed.text("format") {
        "" => out!("{}", page(&read(document)?)),
        "json" => outln!("{document}"),
        template => outln!("{}", inspecting::render(template, &document)?),
    }
    Ok(0)
}

fn read(document: serde_json::Value) -> Result<ContainerWhy, CliError> {
    serde_json::from_value(document)
        .map_err(|error| CliError::message(format!("not the story of a container: {error}")))
}

/// The page: what is, what led to it, what its health check said, what to do.
fn page(why: &ContainerWhy) -> String {
    let mut lines = vec![
        format!("{} ({}): {}", why.name, why.id.get(..12).unwrap_or(&why.id), why.status),
        why.summary.clone(),
        String::new(),
    ];
    lines.extend(
        why.story
            .iter()
            .map(|line| format!("{}  {}", moment(&line.time), line.text)),
    );
    if !why.probes.is_empty() {
        lines.extend([String::new(), "Health check, newest last:".to_owned()]);
        for probe in &why.probes {
            let said = probe.output.trim_end().lines().next().unwrap_or_default();
            lines.push(format!(
                "{}  exit code {}  {said}",
                moment(&probe.start),
                probe.exit_code
            ));
        }
    }
    if !why.advice.is_empty() {
        lines.extend([String::new(), "Next:".to_owned()]);
        lines.extend(why.advice.iter().map(|text| format!("  {text}")));
    }
    lines.join("\n") + "\n"
}

/// The time to the millisecond.
fn moment(time: &str) -> String {
    let time = time.trim_end_matches('Z');
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{whole}.{fraction:0<3.3}Z")
}

#[cfg(test)]
mod tests {
    use wharf_api::types::WhyLine;

    use super::*;

    #[test]
    fn the_page_says_what_led_to_what_and_what_to_do() {
        let why = ContainerWhy {
            id: "a".repeat(64),
            name: "web".into(),
            status: "exited".into(),
            summary: "It does not run.".into(),
            story: vec![WhyLine {
                time: "2026-01-02T03:04:05.6Z".into(),
                what: "ended".into(),
                text: "its process ended".into(),
            }],
            advice: vec!["Start it.".into()],
            ..ContainerWhy::default()
        };
        let expected = "web (aaaaaaaaaaaa): exited\nIt does not run.\n\n2026-01-02T03:04:05.600Z  its process ended\n\nNext:\n  Start it.\n";
        assert_eq!(page(&why), expected);
        assert_eq!(moment("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05.000Z");
    }
}
