//! `wharf system df`.

use gotmpl::Value;
use wharf_api::types::{BuildCache, ContainerSummary, DiskUsage, ImageSummary};

use crate::commands::{container, image};
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::format::table::{Layout, align};
use crate::format::{Format, Headings, Row, short_id, units};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::string("format", "How to print: table, json, table TEMPLATE, or a Go template"),
    Flag::switch("verbose", "Show each object").short('v'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["system df"],
    usage: "[OPTIONS]",
    about: "Show what is on disk",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

const HEADINGS: Headings = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    if parsed.is_on("verbose") && parsed.is_given("format") {
        return Err(CliError::message("the verbose and the format options conflict"));
    }
    let client = session.client().await?;
    let usage: DiskUsage = client.get("/system/df").fetch().await?;
    if parsed.is_on("verbose") {
        out!("{}", verbose(&usage));
        return Ok(0);
    }
    let rows: Vec<Row> = summaries(&usage).iter().map(Summary::row).collect();
    out!(
        "{}",
        Format::parse(parsed.text("format"), COLUMNS).render(HEADINGS, &rows)?
    );
    Ok(0)
}

/// One kind of object in numbers.
struct Summary {
    kind: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    /// Whether the part that can be won back is shown in percent too.
    percent: bool,
}

impl Summary {
    fn row(&self) -> Row {
        let mut reclaimable = size(self.reclaimable);
        if self.percent && self.size > 0 {
            reclaimable.push_str(&format!(" ({}%)", self.reclaimable.saturating_mul(100) / self.size));
        }
        vec![
            ("Type", Value::from(self.kind)),
            ("TotalCount", self.total.to_string().into()),
            ("Active", self.active.to_string().into()),
            ("Size", size(self.size).into()),
            ("Reclaimable", reclaimable.into()),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn size(bytes: i64) -> String {
    units::human_size(bytes as f64, 4)
}

fn summaries(usage: &DiskUsage) -> [Summary; 4] {
    let images = usage.images.as_deref().unwrap_or_default();
    let containers = usage.containers.as_deref().unwrap_or_default();
    let volumes = usage.volumes.as_deref().unwrap_or_default();
    let cache = usage.build_cache.as_deref().unwrap_or_default();
    let in_layers = usage.layers_size.unwrap_or(0);
    let in_use: i64 = images.iter().filter(|image| image.containers > 0).map(own_size).sum();
    let running = |c: &&ContainerSummary| matches!(c.state.as_str(), "running" | "paused" | "restarting");
    let written = |c: &ContainerSummary| c.size_rw.unwrap_or(0);
    let volume_size = |v: &wharf_api::types::Volume| v.usage_data.as_ref().map_or(0, |u| u.size.max(0));
    let used = |v: &&wharf_api::types::Volume| v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0);
    [
        Summary {
            kind: "Images",
            total: images.len(),
            active: images.iter().filter(|image| image.containers > 0).count(),
            size: in_layers,
            reclaimable: (in_layers - in_use).max(0),
            percent: true,
        },
        Summary {
            kind: "Containers",
            total: containers.len(),
            active: containers.iter().filter(running).count(),
            size: containers.iter().map(written).sum(),
            reclaimable: containers.iter().filter(|c| !running(c)).map(written).sum(),
            percent: true,
        },
        Summary {
            kind: "Local Volumes",
            total: volumes.len(),
            active: volumes.iter().filter(used).count(),
            size: volumes.iter().map(volume_size).sum(),
            reclaimable: volumes.iter().filter(|v| !used(v)).map(volume_size).sum(),
            percent: true,
        },
        Summary {
            kind: "Build Cache",
            total: cache.len(),
            active: cache.iter().filter(|record| record.in_use).count(),
            size: cache
                .iter()
                .filter(|record| !record.shared)
                .map(|record| record.size)
                .sum(),
            reclaimable: cache.iter().filter(|r| !r.in_use && !r.shared).map(|r| r.size).sum(),
            percent: false,
        },
    ]
}

fn own_size(image: &ImageSummary) -> i64 {
    image.size - image.shared_size.max(0)
}

fn verbose(usage: &DiskUsage) -> String {
    let images = table(
        "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS",
        usage.images.iter().flatten().map(image_line),
    );
    let containers = table(
        "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES",
        usage.containers.iter().flatten().map(container_line),
    );
    let volumes = table(
        "VOLUME NAME\tLINKS\tSIZE",
        usage.volumes.iter().flatten().map(|volume| {
            let (links, bytes) = volume.usage_data.as_ref().map_or((-1, -1), |u| (u.ref_count, u.size));
            format!(
                "{}\t{links}\t{}",
                volume.name,
                if bytes < 0 { "N/A".to_owned() } else { size(bytes) }
            )
        }),
    );
    let cache = table(
        "CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED",
        usage.build_cache.iter().flatten().map(cache_line),
    );
    let owned = usage.build_cache.iter().flatten().filter(|record| !record.shared);
    let cached: i64 = owned.map(|record| record.size).sum();
    format!(
        "Images space usage:\n\n{images}\nContainers space usage:\n\n{containers}\nLocal Volumes space usage:\n\n{volumes}\nBuild cache usage: {}\n\n{cache}",
        size(cached)
    )
}

fn table(heading: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = std::iter::once(heading.to_owned()).chain(lines).collect();
    align(&lines, Layout::LIST)
}

fn image_line(image: &ImageSummary) -> String {
    let name = image.repo_tags.first().map_or("<none>:<none>", String::as_str);
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
    let row = image::ls::row(image, false, [repository, tag, "<none>"]);
    cells(
        &row,
        &[
            "Repository",
            "Tag",
            "ID",
            "CreatedSince",
            "Size",
            "SharedSize",
            "UniqueSize",
            "Containers",
        ],
    )
}

fn container_line(summary: &ContainerSummary) -> String {
    // COMPAT: the size of the whole file system is not shown here.
    let summary = ContainerSummary {
        size_root_fs: None,
        ..summary.clone()
    };
    let row = container::ls::row(&summary, false);
    cells(
        &row,
        &[
            "ID",
            "Image",
            "Command",
            "LocalVolumes",
            "Size",
            "RunningFor",
            "Status",
            "Names",
        ],
    )
}

/// Some fields of a row, separated by tabs.
fn cells(row: &Row, fields: &[&str]) -> String {
    let text = |name: &str| {
        let found = row.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value.to_string()).unwrap_or_default()
    };
    fields.iter().map(|name| text(name)).collect::<Vec<_>>().join("\t")
}

fn cache_line(record: &BuildCache) -> String {
    let when = |text: &str| {
        text.parse::<jiff::Timestamp>()
            .map(|time| units::ago(time.as_second()))
            .unwrap_or_default()
    };
    format!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}",
        format_args!("{}{}", short_id(&record.id), if record.in_use { "*" } else { "" }),
        record.kind,
        size(record.size),
        when(&record.created_at),
        record.last_used_at.as_deref().map(when).unwrap_or_default(),
        record.usage_count,
        record.shared,
    )
}
