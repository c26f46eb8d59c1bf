//! `wharf image ls`, also called `images`.

use gotmpl::Value;
use wharf_api::types::ImageSummary;

use crate::commands::filters;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, short_id, units};
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all", "Show images of intermediate steps too").short('a'),
    Flag::switch("digests", "Show digests"),
    filters::FILTER,
    filters::FORMAT,
    Flag::switch("no-trunc", "Do not shorten what is shown"),
    Flag::switch("quiet", "Show only IDs").short('q'),
    Flag::switch("tree", "Show the platforms of each image").hidden(),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["image ls", "image list", "images"],
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[FLAGS],
    args: Args::AtMost(1),
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";
const COLUMNS_DIGEST: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

const HEADINGS: Headings = &[
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if parsed.is_on("tree") {
        return Err(CliError::message(
            "--tree is not supported: use image inspect for the platforms of an image",
        ));
    }
    let mut conditions = filters::parse(&parsed.all("filter"));
    if !parsed.arg(0).is_empty() {
        conditions.add("reference", parsed.arg(0));
    }
    let client = session.client().await?;
    let request = client
        .get("/images/json")
        .query_flag("all", parsed.is_on("all"))
        .filters(&conditions);
    let images: Vec<ImageSummary> = request.fetch().await?;
    let format = format(session, parsed);
    let digests = Digests {
        of_tags: parsed.is_on("digests") || (format != Format::Json && format.mentions("{{.Digest}}")),
        alone: parsed.is_on("digests"),
    };
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| rows(image, parsed.is_on("no-trunc"), digests))
        .collect();
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

fn format(session: &Session, parsed: &Parsed) -> Format {
    if parsed.is_on("quiet") && matches!(parsed.text("format"), "" | "table") {
        return Format::Template("{{.ID}}".to_owned());
    }
    let text = match parsed.text("format") {
        "" => session.config().images_format(),
        text => text,
    };
    Format::parse(
        text,
        if parsed.is_on("digests") {
            COLUMNS_DIGEST
        } else {
            COLUMNS
        },
    )
}

/// Which digests are shown.
#[derive(Clone, Copy)]
struct Digests {
    /// Beside tags.
    of_tags: bool,
    /// Of images that have no tag.
    alone: bool,
}

/// One row per name; an image without names has one of `<none>`.
fn rows(image: &ImageSummary, full: bool, digests: Digests) -> Vec<Row> {
    const NONE: &str = "<none>";
    let tags: Vec<(String, String)> = image.repo_tags.iter().filter_map(|name| split_tag(name)).collect();
    let found: Vec<(String, String)> = image
        .repo_digests
        .iter()
        .filter_map(|name| split_digest(name))
        .collect();
    if tags.is_empty() {
        let names = match found.first() {
            Some((repository, digest)) if digests.alone => [repository.as_str(), NONE, digest.as_str()],
            Some((repository, _)) => [repository.as_str(), NONE, ""],
            None => [NONE; 3],
        };
        return vec![row(image, full, names)];
    }
    let digest_of = |repository: &str| {
        let found = found.iter().find(|(other, _)| other == repository && digests.of_tags);
        found.map_or(NONE, |(_, digest)| digest.as_str())
    };
    tags.iter()
        .map(|(repository, tag)| row(image, full, [repository, tag, digest_of(repository)]))
        .collect()
}

fn split_tag(name: &str) -> Option<(String, String)> {
    let reference = reference::parse(name).ok()?;
    Some((reference.familiar_repository(), reference.tag?))
}

fn split_digest(name: &str) -> Option<(String, String)> {
    let reference = reference::parse(name).ok()?;
    Some((reference.familiar_repository(), reference.digest?))
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(in crate::commands) fn row(image: &ImageSummary, full: bool, [repository, tag, digest]: [&str; 3]) -> Row {
    let sized = |bytes: i64, digits| {
        if bytes < 0 {
            "N/A".to_owned()
        } else {
            units::human_size(bytes as f64, digits)
        }
    };
    let unique = if image.shared_size < 0 {
        -1
    } else {
        image.size - image.shared_size
    };
    let containers = if image.containers < 0 {
        "N/A".to_owned()
    } else {
        image.containers.to_string()
    };
    let since = if image.created == 0 {
        String::new()
    } else {
        units::ago(image.created)
    };
    vec![
        (
            "ID",
            Value::from(if full { image.id.as_str() } else { short_id(&image.id) }),
        ),
        ("Repository", repository.into()),
        ("Tag", tag.into()),
        ("Digest", digest.into()),
        ("CreatedSince", since.into()),
        ("CreatedAt", units::go_time(image.created).into()),
        ("Size", sized(image.size, 3).into()),
        ("Containers", containers.into()),
        ("VirtualSize", sized(image.size, 4).into()),
        ("SharedSize", sized(image.shared_size, 4).into()),
        ("UniqueSize", sized(unique, 4).into()),
    ]
}
