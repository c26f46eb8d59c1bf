//! `wharf volume ls`.

use gotmpl::Value;
use wharf_api::types::{Volume, VolumeList};

use crate::commands::container::ls::label_function;
use crate::commands::filters;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, joined_labels, units};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("cluster", "Show volumes that span a swarm").hidden(),
    filters::FILTER,
    filters::FORMAT,
    Flag::switch("quiet", "Show only names").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["volume ls", "volume list"],
    usage: "[OPTIONS]",
    about: "List volumes",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.Driver}}\t{{.Name}}";

const HEADINGS: Headings = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
    ("Status", "STATUS"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if parsed.is_on("cluster") {
        return Err(CliError::message(
            "--cluster is only for volumes that span a swarm, which are not supported",
        ));
    }
    let client = session.client().await?;
    let request = client.get("/volumes").filters(&filters::parse(&parsed.all("filter")));
    let list: VolumeList = request.fetch().await?;
    for warning in list.warnings.iter().flatten() {
        session.warn(warning);
    }
    let mut volumes = list.volumes.unwrap_or_default();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let format = if parsed.is_on("quiet") && matches!(parsed.text("format"), "" | "table") {
        Format::Template("{{.Name}}".to_owned())
    } else {
        Format::parse(parsed.text("format"), COLUMNS)
    };
    let rows: Vec<Row> = volumes.iter().map(row).collect();
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub(in crate::commands) fn row(volume: &Volume) -> Row {
    let labels = volume.labels.clone().unwrap_or_default();
    let unknown = || "N/A".to_owned();
    let usage = volume.usage_data.as_ref();
    let links = usage.map_or_else(unknown, |usage| usage.ref_count.to_string());
    let size = usage.map_or_else(unknown, |usage| units::human_size(usage.size as f64, 4));
    vec![
        ("Name", Value::from(volume.name.as_str())),
        ("Driver", volume.driver.as_str().into()),
        ("Scope", volume.scope.as_str().into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Labels", joined_labels(&labels).into()),
        ("Label", label_function(labels)),
        ("Links", links.into()),
        ("Size", size.into()),
        ("Group", unknown().into()),
        ("Availability", unknown().into()),
        ("Status", unknown().into()),
    ]
}
