//! `wharf image history`.

use gotmpl::Value;
use wharf_api::types::HistoryItem;

use super::{path, platform_json};
use crate::commands::filters;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, ellipsis, short_id, units};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    filters::FORMAT,
    Flag::switch("human", "Print sizes and times for people")
        .short('H')
        .default("true"),
    Flag::switch("no-trunc", "Do not shorten what is shown"),
    Flag::string("platform", "Show this platform of the image"),
    Flag::switch("quiet", "Show only IDs").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image history", "history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the steps that made an image",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const COLUMNS_EXACT: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

const HEADINGS: Headings = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let human = parsed.is_not_off("human");
    let format = if parsed.is_on("quiet") {
        Format::Template("{{.ID}}".to_owned())
    } else {
        Format::parse(parsed.text("format"), if human { COLUMNS } else { COLUMNS_EXACT })
    };
    let client = session.client().await?;
    let request = client
        .get(path(parsed.arg(0), "/history"))
        .query_if("platform", &platform_json(parsed.text("platform")));
    let items: Vec<HistoryItem> = request.fetch().await?;
    let full = parsed.is_on("no-trunc");
    let rows: Vec<Row> = items.iter().map(|item| row(item, full, human)).collect();
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn row(item: &HistoryItem, full: bool, human: bool) -> Row {
    let id = if full { item.id.as_str() } else { short_id(&item.id) };
    let made_by = item.created_by.replace('\t', " ");
    let made_by = if full { made_by } else { ellipsis(&made_by, 45) };
    let size = if human {
        units::human_size(item.size as f64, 3)
    } else {
        item.size.to_string()
    };
    vec![
        ("ID", Value::from(id)),
        (
            "CreatedSince",
            if human {
                units::ago(item.created)
            } else {
                created_at(item.created)
            }
            .into(),
        ),
        ("CreatedAt", created_at(item.created).into()),
        ("CreatedBy", made_by.into()),
        ("Size", size.into()),
        ("Comment", item.comment.as_str().into()),
    ]
}

/// The time in RFC 3339, as Docker shows it here.
fn created_at(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => {
            let zoned = time.to_zoned(jiff::tz::TimeZone::system());
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            text.strip_suffix("+00:00").map(|utc| format!("{utc}Z")).unwrap_or(text)
        }
        Err(_) => seconds.to_string(),
    }
}
