//! Tags: Go templates over facts of the container.

use std::collections::BTreeMap;

use gotmpl::{MissingKey, Template, Value};

use super::options::Options;
use crate::error::{Error, Result};
use crate::model::ContainerRecord;

const DEFAULT: &str = "{{.ID}}";

/// Characters of a short id.
const SHORT: usize = 12;

/// Refuses what is no template.
pub(super) fn check(options: &Options<'_>) -> Result<()> {
    match options.text("tag") {
        Some(source) => template(source).map(drop),
        None => Ok(()),
    }
}

/// The tag of a container's messages.
pub(super) fn of(options: &Options<'_>, record: &ContainerRecord) -> Result<String> {
    let source = options.text("tag").unwrap_or(DEFAULT);
    template(source)?
        .execute_to_string(&facts(record))
        .map_err(|error| Error::invalid(format!("template: log-tag: {error}")))
}

fn template(source: &str) -> Result<Template> {
    let text = |args: &[Value], index: usize| args.get(index).map(Value::to_string).unwrap_or_default();
    let number = |args: &[Value], index: usize| match args.get(index) {
        Some(Value::Int(number)) => usize::try_from(*number).unwrap_or(0),
        _ => 0,
    };
    Template::new("log-tag")
        .missing_key(MissingKey::Error)
        .func("json", move |args| {
            Ok(string(serde_json::json!(text(args, 0)).to_string()))
        })
        .func("lower", move |args| Ok(string(text(args, 0).to_lowercase())))
        .func("upper", move |args| Ok(string(text(args, 0).to_uppercase())))
        .func("title", move |args| Ok(string(title(&text(args, 0)))))
        .func("split", move |args| {
            let (whole, separator) = (text(args, 0), text(args, 1));
            let parts: Vec<Value> = whole.split(&separator).map(|part| string(part.to_owned())).collect();
            Ok(Value::List(parts.into()))
        })
        .func("join", move |args| {
            let parts = match args.first() {
                Some(Value::List(values)) => values.iter().map(Value::to_string).collect(),
                _ => Vec::new(),
            };
            Ok(string(parts.join(&text(args, 1))))
        })
        .func("pad", move |args| {
            let padding = |index| " ".repeat(number(args, index).min(1024));
            let inner = text(args, 0);
            Ok(string(if inner.is_empty() {
                inner
            } else {
                format!("{}{inner}{}", padding(1), padding(2))
            }))
        })
        .func("truncate", move |args| {
            Ok(string(text(args, 0).chars().take(number(args, 1)).collect()))
        })
        .parse(source)
        .map_err(|error| Error::invalid(format!("template: log-tag: {error}")))
}

fn string(text: String) -> Value {
    Value::String(text.into())
}

fn title(text: &str) -> String {
    let mut is_start = true;
    let mut shown = |letter: char| {
        let raised = if is_start { letter.to_ascii_uppercase() } else { letter };
        is_start = !(letter.is_alphanumeric() || letter == '_' || letter == '\'');
        raised
    };
    text.chars().map(&mut shown).collect()
}

/// COMPAT: the names are those of Docker's `logger.Info`, methods and fields alike.
fn facts(record: &ContainerRecord) -> Value {
    let id = record.id.to_string();
    let image = record.image_id.clone();
    let short = |id: &str| id.trim_start_matches("sha256:").chars().take(SHORT).collect::<String>();
    let name = format!("/{}", record.name);
    let facts = [
        ("ID", short(&id)),
        ("FullID", id.clone()),
        ("Name", record.name.clone()),
        ("ImageID", short(&image)),
        ("ImageFullID", image.clone()),
        ("ImageName", record.config.image.clone()),
        ("Hostname", super::hostname()),
        ("Command", command(record)),
        ("DaemonName", "docker".to_owned()),
        ("ContainerID", id),
        ("ContainerName", name),
        ("ContainerImageID", image),
        ("ContainerImageName", record.config.image.clone()),
        ("ContainerEntrypoint", record.path.clone()),
        ("ContainerCreated", record.created.to_string()),
    ];
    let mut map: BTreeMap<_, _> = facts.map(|(key, value)| (key.into(), string(value))).into();
    let table = |pairs: &BTreeMap<String, String>| {
        let pairs = pairs
            .iter()
            .map(|(key, value)| (key.as_str().into(), string(value.clone())));
        Value::Map(std::sync::Arc::new(pairs.collect()))
    };
    let list = |texts: &[String]| Value::List(texts.iter().cloned().map(string).collect::<Vec<_>>().into());
    map.insert("ContainerLabels".into(), table(&record.config.labels));
    map.insert(
        "Config".into(),
        table(&record.host.log_config.options.clone().unwrap_or_default()),
    );
    map.insert("ContainerArgs".into(), list(&record.args));
    map.insert(
        "ContainerEnv".into(),
        list(record.config.env.as_deref().unwrap_or_default()),
    );
    Value::Map(std::sync::Arc::new(map))
}

/// Program and arguments.
pub(super) fn command(record: &ContainerRecord) -> String {
    let words: Vec<&str> = std::iter::once(&record.path)
        .chain(&record.args)
        .map(String::as_str)
        .collect();
    words.join(" ")
}
