//! `wharf container stats`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use gotmpl::Value;
use wharf_api::client::{Client, ClientError};
use wharf_api::types::{ContainerStats, ContainerSummary, EventMessage};

use super::path;
use crate::error::{CliError, Outcome};
use crate::flags::{Flag, Parsed};
use crate::format::{Format, Headings, Row, short_id, units};
use crate::session::Session;
use crate::verb::{Args, Verb};

const FLAGS: &[Flag] = &[
    Flag::switch("all", "Show all containers, not only running ones").short('a'),
    Flag::string("format", "How to print: table, json, table TEMPLATE, or a Go template"),
    Flag::switch("no-stream", "Print once and end"),
    Flag::switch("no-trunc", "Do not shorten what is shown"),
];

/// The verb.
pub(crate) const VERB: Verb = Verb {
    names: &["container stats", "stats"],
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Show what containers use of the machine",
    flags: &[FLAGS],
    args: Args::Any,
    options_first: false,
    run: |session, parsed| Box::pin(run(session, parsed)),
};

const COLUMNS: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

const HEADINGS: Headings = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// The newest sample of each container, by the name it was asked for.
type Samples = Rc<RefCell<BTreeMap<String, Option<ContainerStats>>>>;

async fn run(session: &Session, parsed: &Parsed) -> Outcome {
    let client = session.client().await?;
    let named = !parsed.args.is_empty();
    let containers = if named {
        parsed.args.clone()
    } else {
        listed(&client, parsed.is_on("all")).await?
    };
    let format = Format::parse(parsed.text("format"), COLUMNS);
    let full = parsed.is_on("no-trunc");
    if parsed.is_on("no-stream") {
        return print_once(&client, &containers, &format, full).await;
    }
    let samples: Samples = Rc::new(RefCell::new(containers.iter().map(|id| (id.clone(), None)).collect()));
    let redraw = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            draw(&samples, &format, full)?;
            if named && samples.borrow().is_empty() {
                return Ok(0);
            }
        }
    };
    tokio::select! {
        result = redraw => result,
        result = watch(&client, &samples, named) => result.map(|()| 0),
    }
}

async fn listed(client: &Client, all: bool) -> Result<Vec<String>, ClientError> {
    let list: Vec<ContainerSummary> = client.get("/containers/json").query_flag("all", all).fetch().await?;
    Ok(list.into_iter().map(|container| container.id).collect())
}

async fn print_once(client: &Client, containers: &[String], format: &Format, full: bool) -> Outcome {
    let calls = containers.iter().map(|id| async move {
        let sample = client
            .get(path(id, "/stats"))
            .query("stream", "0")
            .fetch::<ContainerStats>()
            .await;
        (id, sample)
    });
    let mut rows = Vec::new();
    for (id, sample) in futures_util::future::join_all(calls).await {
        rows.push(row(id, Some(&sample?), full));
    }
    out!("{}", format.render(HEADINGS, &rows)?);
    Ok(0)
}

/// Follows the streams of the containers, and of those that start later when none was named.
async fn watch(client: &Client, samples: &Samples, named: bool) -> Result<(), CliError> {
    let mut streams = FuturesUnordered::new();
    for id in samples.borrow().keys().cloned().collect::<Vec<_>>() {
        streams.push(follow(client.clone(), samples.clone(), id));
    }
    let mut started = None;
    if !named {
        let filters = [("type", "container"), ("event", "start")].into_iter().collect();
        let response = client.get("/events").filters(&filters).send().await?;
        started = Some(response.documents::<EventMessage>());
    }
    loop {
        let next_started = async {
            match &mut started {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((id, result)) = streams.next() => {
                samples.borrow_mut().remove(&id);
                if named {
                    result?;
                }
            }
            event = next_started => match event? {
                Some(event) => {
                    samples.borrow_mut().insert(event.actor.id.clone(), None);
                    streams.push(follow(client.clone(), samples.clone(), event.actor.id));
                }
                None => return Ok(()),
            },
            else => std::future::pending().await,
        }
    }
}

async fn follow(client: Client, samples: Samples, id: String) -> (String, Result<(), ClientError>) {
    let result = async {
        let mut stream = client
            .get(path(&id, "/stats"))
            .send()
            .await?
            .documents::<ContainerStats>();
        while let Some(sample) = stream.next().await? {
            samples.borrow_mut().insert(id.clone(), Some(sample));
        }
        Ok(())
    };
    let result = result.await;
    (id, result)
}

fn draw(samples: &Samples, format: &Format, full: bool) -> Result<(), CliError> {
    let rows: Vec<Row> = samples
        .borrow()
        .iter()
        .map(|(id, sample)| row(id, sample.as_ref(), full))
        .collect();
    let text = format.render(HEADINGS, &rows)?;
    let mut stdout = std::io::stdout().lock();
    let clear = if stdout.is_terminal() { "\x1b[H\x1b[J" } else { "" };
    write!(stdout, "{clear}{text}")
        .and_then(|()| stdout.flush())
        .map_err(CliError::io("printing the samples"))
}

fn row(asked: &str, sample: Option<&ContainerStats>, full: bool) -> Row {
    let Some(sample) = sample.filter(|sample| !sample.read.starts_with("0001-")) else {
        return unknown_row(asked, sample, full);
    };
    let usage = used_memory(sample);
    let limit = sample.memory_stats.limit;
    let (received, sent) = network_bytes(sample);
    let (read, written) = block_bytes(sample);
    vec![
        ("Container", Value::from(asked)),
        ("Name", sample.name.trim_start_matches('/').into()),
        (
            "ID",
            if full {
                sample.id.as_str().into()
            } else {
                short_id(&sample.id).into()
            },
        ),
        ("CPUPerc", format!("{:.2}%", cpu_percent(sample)).into()),
        ("MemUsage", format!("{} / {}", binary(usage), binary(limit)).into()),
        ("MemPerc", format!("{:.2}%", percent(usage, limit)).into()),
        ("NetIO", format!("{} / {}", decimal(received), decimal(sent)).into()),
        ("BlockIO", format!("{} / {}", decimal(read), decimal(written)).into()),
        ("PIDs", sample.pids_stats.current.to_string().into()),
    ]
}

/// A container without a sample yet, or that does not run.
fn unknown_row(asked: &str, sample: Option<&ContainerStats>, full: bool) -> Row {
    let id = sample.map_or(asked, |sample| &sample.id);
    let name = sample.map_or("--", |sample| sample.name.trim_start_matches('/'));
    vec![
        ("Container", Value::from(asked)),
        ("Name", name.into()),
        ("ID", if full { id.into() } else { short_id(id).into() }),
        ("CPUPerc", "--".into()),
        ("MemUsage", "-- / --".into()),
        ("MemPerc", "--".into()),
        ("NetIO", "--".into()),
        ("BlockIO", "--".into()),
        ("PIDs", "--".into()),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn cpu_percent(sample: &ContainerStats) -> f64 {
    let (now, before) = (&sample.cpu_stats, &sample.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let processors = match now.online_cpus {
        0 => now.cpu_usage.percpu_usage.len() as f64,
        count => f64::from(count),
    };
    if used > 0.0 && passed > 0.0 {
        used / passed * processors * 100.0
    } else {
        0.0
    }
}

/// Memory in use without the file cache that can be dropped at once.
fn used_memory(sample: &ContainerStats) -> u64 {
    let memory = &sample.memory_stats;
    ["total_inactive_file", "inactive_file"]
        .iter()
        .find_map(|name| memory.stats.get(*name).filter(|cache| **cache < memory.usage))
        .map_or(memory.usage, |cache| memory.usage - cache)
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64 * 100.0
    }
}

fn network_bytes(sample: &ContainerStats) -> (u64, u64) {
    let interfaces = sample.networks.iter().flat_map(BTreeMap::values);
    interfaces.fold((0, 0), |(rx, tx), i| (rx + i.rx_bytes, tx + i.tx_bytes))
}

fn block_bytes(sample: &ContainerStats) -> (u64, u64) {
    let entries = sample.blkio_stats.io_service_bytes_recursive.iter().flatten();
    entries.fold((0, 0), |(read, written), entry| match entry.op.chars().next() {
        Some('r' | 'R') => (read + entry.value, written),
        Some('w' | 'W') => (read, written + entry.value),
        _ => (read, written),
    })
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn binary(bytes: u64) -> String {
    units::binary_size(bytes as f64)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn decimal(bytes: u64) -> String {
    units::human_size(bytes as f64, 3)
}
