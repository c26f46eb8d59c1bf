//! `wharf search`.

use gotmpl::Value;
use wharf_api::auth::REGISTRY_AUTH_HEADER;
use wharf_api::types::SearchResult;

use crate::commands::filters;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, ellipsis};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    filters::FILTER,
    filters::FORMAT,
    Flag::int("limit", "Show at most so many"),
    Flag::switch("no-trunc", "Do not shorten what is shown"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["search"],
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

const HEADINGS: Headings = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let request = client
        .get("/images/search")
        .query("term", parsed.arg(0))
        .query_if("limit", parsed.text("limit"))
        .filters(&filters::parse(&parsed.all("filter")))
        .header(
            REGISTRY_AUTH_HEADER,
            session.config().credentials("docker.io").to_header(),
        );
    let results: Vec<SearchResult> = request.fetch().await?;
    let full = parsed.is_on("no-trunc");
    let rows: Vec<Row> = results.iter().map(|result| row(result, full)).collect();
    out!(
        "{}",
        Format::parse(parsed.text("format"), COLUMNS).render(HEADINGS, &rows)?
    );
    Ok(0)
}

fn row(result: &SearchResult, full: bool) -> Row {
    let description = result.description.replace(['\n', '\r'], " ");
    let description = if full { description } else { ellipsis(&description, 45) };
    let mark = |on: bool| if on { "[OK]" } else { "" };
    vec![
        ("Name", Value::from(result.name.as_str())),
        ("Description", description.into()),
        ("StarCount", result.star_count.to_string().into()),
        ("IsOfficial", mark(result.is_official).into()),
        ("IsAutomated", mark(result.is_automated).into()),
    ]
}
