//! `wharf container ls`, also called `ps`.

use std::sync::Arc;

use gotmpl::Value;
use wharf_api::types::{ContainerSummary, Port};

use crate::commands::filters;
use crate::error::Outcome;
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, ellipsis, joined_labels, short_id, units};
use crate::reference;
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all", "Show all containers, not only running ones").short('a'),
    filters::FILTER,
    filters::FORMAT,
    Flag::int("last", "Show so many of the newest containers, running or not")
        .short('n')
        .default("-1"),
    Flag::switch("latest", "Show the newest container, running or not").short('l'),
    Flag::switch("no-trunc", "Do not shorten what is shown"),
    Flag::switch("quiet", "Show only IDs").short('q'),
    Flag::switch("size", "Show the sizes of the files").short('s'),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container ls", "container list", "container ps", "ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    flags: &[FLAGS],
    args: Args::None,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const HEADINGS: Headings = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let format = format(session, parsed);
    let size = parsed.is_on("size") || (!matches!(format, Format::Json) && format.mentions(".Size"));
    let mut request = session.client().await?.get("/containers/json");
    request = request.query_flag("all", parsed.is_on("all")).query_flag("size", size);
    let last = if parsed.is_on("latest") {
        1
    } else {
        parsed.number_given("last").unwrap_or(-1)
    };
    if last >= 0 {
        request = request.query("limit", last.to_string());
    }
    let containers: Vec<ContainerSummary> = request.filters(&filters::parse(&parsed.all("filter"))).fetch().await?;
    let full = parsed.is_on("no-trunc");
    let rows: Vec<Row> = containers.iter().map(|container| row(container, full)).collect();
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

fn format(session: &Session, parsed: &Parsed) -> Format {
    if parsed.is_on("quiet") && matches!(parsed.text("format"), "" | "table") {
        return Format::Template("{{.ID}}".to_owned());
    }
    let text = match parsed.text("format") {
        "" => session.config().ps_format(),
        text => text,
    };
    let columns = if parsed.is_on("size") {
        format!("{COLUMNS}\t{{{{.Size}}}}")
    } else {
        COLUMNS.to_owned()
    };
    Format::parse(text, &columns)
}

pub(in crate::commands) fn row(container: &ContainerSummary, full: bool) -> Row {
    let labels = container.labels.clone().unwrap_or_default();
    let shortened = |text: &str, width| if full { text.to_owned() } else { ellipsis(text, width) };
    let id = if full {
        container.id.as_str()
    } else {
        short_id(&container.id)
    };
    let volumes = container.mounts.iter().filter(|mount| mount.driver == "local").count();
    let networks = container.network_settings.as_ref().and_then(|s| s.networks.as_ref());
    let networks: Vec<&str> = networks
        .into_iter()
        .flat_map(|n| n.keys())
        .map(String::as_str)
        .collect();
    vec![
        ("ID", Value::from(id)),
        ("Names", names(container, full).into()),
        ("Image", image(container, full).into()),
        ("Command", format!("{:?}", shortened(&container.command, 20)).into()),
        ("CreatedAt", units::go_time(container.created).into()),
        ("RunningFor", units::ago(container.created).into()),
        ("Ports", ports(&container.ports).into()),
        ("State", container.state.as_str().into()),
        ("Status", container.status.as_str().into()),
        ("Size", size(container).into()),
        ("Labels", joined_labels(&labels).into()),
        ("Label", label_function(labels)),
        ("Mounts", mounts(container, full).into()),
        ("LocalVolumes", volumes.to_string().into()),
        ("Networks", networks.join(",").into()),
        ("Platform", Value::Nil),
    ]
}

/// The method `.Label "name"`.
pub(in crate::commands) fn label_function(labels: wharf_api::types::StringMap) -> Value {
    Value::Function(Arc::new(move |args| {
        let name = args.first().map(ToString::to_string).unwrap_or_default();
        Ok(Value::from(labels.get(&name).map_or("", String::as_str)))
    }))
}

/// The names without their slash; names inside of other containers (links) only in full.
fn names(container: &ContainerSummary, full: bool) -> String {
    let names = container.names.iter().map(|name| name.trim_start_matches('/'));
    let shown: Vec<&str> = names.filter(|name| full || !name.contains('/')).collect();
    shown.join(",")
}

fn image(container: &ContainerSummary, full: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if full {
        return container.image.clone();
    }
    let id = short_id(&container.image_id);
    if !id.is_empty() && short_id(&container.image).starts_with(id) {
        return id.to_owned();
    }
    match reference::parse(&container.image) {
        Ok(mut reference) if reference.digest.is_some() => {
            reference.digest = None;
            reference.familiar()
        }
        _ => container.image.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn size(container: &ContainerSummary) -> String {
    let written = units::human_size(container.size_rw.unwrap_or(0) as f64, 3);
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{written} (virtual {})", units::human_size(all as f64, 3)),
        _ => written,
    }
}

fn mounts(container: &ContainerSummary, full: bool) -> String {
    let names: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if mount.name.is_empty() {
                &mount.source
            } else {
                &mount.name
            }
        })
        .map(|name| if full { name.clone() } else { ellipsis(name, 15) })
        .collect();
    names.join(",")
}

/// Published and exposed ports; neighbours with the same number on both sides become a range.
fn ports(ports: &[Port]) -> String {
    let mut sorted: Vec<&Port> = ports.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.kind));
    let mut shown = Vec::new();
    let mut single = Vec::new();
    let mut ranges: Vec<(&str, &str, u16, u16)> = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let host = address(&port.ip, &port.public_port.to_string());
            single.push(format!("{host}->{}/{}", port.private_port, port.kind));
            continue;
        }
        let number = port.private_port;
        match ranges
            .iter_mut()
            .find(|(ip, kind, ..)| *ip == port.ip && *kind == port.kind)
        {
            None => ranges.push((&port.ip, &port.kind, number, number)),
            Some((.., last)) if number == last.saturating_add(1) => *last = number,
            Some(range) => {
                shown.push(range_text(*range));
                (range.2, range.3) = (number, number);
            }
        }
    }
    shown.extend(ranges.into_iter().map(range_text));
    shown.extend(single);
    shown.join(", ")
}

fn range_text((ip, kind, first, last): (&str, &str, u16, u16)) -> String {
    let numbers = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    if ip.is_empty() {
        format!("{numbers}/{kind}")
    } else {
        format!("{}->{numbers}/{kind}", address(ip, &numbers))
    }
}

fn address(ip: &str, port: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16) -> Port {
        Port {
            ip: ip.to_owned(),
            private_port: private,
            public_port: public,
            kind: "tcp".to_owned(),
        }
    }

    #[test]
    fn ports_are_joined_to_ranges() {
        let check = |list: &[Port], expected: &str| assert_eq!(ports(list), expected);
        check(&[], "");
        check(&[port("", 0, 80)], "80/tcp");
        check(
            &[port("0.0.0.0", 8080, 80), port("::", 8080, 80)],
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        );
        check(
            &[
                port("0.0.0.0", 80, 80),
                port("0.0.0.0", 81, 81),
                port("0.0.0.0", 83, 83),
            ],
            "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:83->83/tcp",
        );
        check(&[port("", 0, 80), port("1.2.3.4", 9, 80)], "80/tcp, 1.2.3.4:9->80/tcp");
    }
}
