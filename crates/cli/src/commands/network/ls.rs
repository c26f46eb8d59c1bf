//! `wharf network ls`.

use gotmpl::Value;
use wharf_api::types::Network;

use crate::commands::container::ls::label_function;
use crate::commands::filters;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, joined_labels, short_id};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    filters::FILTER,
    filters::FORMAT,
    Flag::switch("no-trunc", "Do not shorten what is shown"),
    Flag::switch("quiet", "Show only IDs").short('q'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["network ls", "network list"],
    usage: "[OPTIONS]",
    about: "List networks",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

const HEADINGS: Headings = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let request = client.get("/networks").filters(&filters::parse(&parsed.all("filter")));
    let mut networks: Vec<Network> = request.fetch().await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let format = if parsed.is_on("quiet") && matches!(parsed.text("format"), "" | "table") {
        Format::Template("{{.ID}}".to_owned())
    } else {
        Format::parse(parsed.text("format"), COLUMNS)
    };
    let full = parsed.is_on("no-trunc");
    let rows: Vec<Row> = networks.iter().map(|network| row(network, full)).collect();
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

fn row(network: &Network, full: bool) -> Row {
    let labels = network.labels.clone().unwrap_or_default();
    vec![
        (
            "ID",
            Value::from(if full {
                network.id.as_str()
            } else {
                short_id(&network.id)
            }),
        ),
        ("Name", network.name.as_str().into()),
        ("Driver", network.driver.as_str().into()),
        ("Scope", network.scope.as_str().into()),
        ("IPv4", network.enable_ipv4.to_string().into()),
        ("IPv6", network.enable_ipv6.to_string().into()),
        ("Internal", network.internal.to_string().into()),
        ("Labels", joined_labels(&labels).into()),
        ("Label", label_function(labels)),
        (
            "CreatedAt",
            network.created.replace('T', " ").replace('Z', " +0000 UTC").into(),
        ),
    ]
}
