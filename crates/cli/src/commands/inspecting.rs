//! `inspect`: whole documents, or what a template picks from them.

use std::sync::Arc;

use serde_json::Value;
use wharf_api::client::RequestBuilder;

use crate::error::{CliError, Failures, Outcome};
use crate::flags::Flag;
use crate::format::template::{self, KeyOrder};

/// The flag of every inspect.
pub(crate) const FORMAT: Flag = Flag::string("format", "How to print: json, or a Go template").short('f');

/// Fetches and prints the document of each name, `request` making its call.
pub(crate) async fn each(names: &[String], format: &str, request: impl Fn(&str) -> RequestBuilder) -> Outcome {
    let mut found = Vec::new();
    let mut failures = Failures::default();
    for name in names {
        match request(name).fetch().await {
            Ok(document) => found.push(document),
            Err(error) => failures.add(&CliError::from(error)),
        }
    }
    print(found, failures, format)
}

/// Prints the documents found; the errors of those not found come at the end.
pub(crate) fn print(found: Vec<Value>, failures: Failures, format: &str) -> Outcome {
    match format {
        "" => outln!("{}", indented(&Value::Array(found))),
        "json" => outln!("{}", Value::Array(found)),
        source => {
            for document in &found {
                outln!("{}", render(source, document)?);
            }
        }
    }
    failures.outcome()
}

/// One document through a template.
pub(crate) fn render(source: &str, document: &Value) -> Result<String, CliError> {
    let order = Arc::new(KeyOrder::of(document));
    let compiled = template::compile_ordered(source, order).map_err(|error| template::in_document(&error))?;
    let mut completed = document.clone();
    complete(&mut completed);
    let text = compiled
        .render(&template::value_of(&completed))
        .map_err(|error| CliError::message(format!("template parsing error: {}", template::in_go_words(&error))))?;
    // COMPAT: a key that a map of texts does not have is an empty text.
    Ok(text.replace("<no value>", ""))
}

/// Fields that Docker leaves out when they are empty, and which templates may name all the same.
const LEFT_OUT: [(&str, &[(&str, Kind)]); 4] = [
    (
        "Config",
        &[
            ("ExposedPorts", Kind::Map),
            ("Healthcheck", Kind::Null),
            ("StopSignal", Kind::Text),
            ("StopTimeout", Kind::Null),
            ("Shell", Kind::Null),
            ("OnBuild", Kind::Null),
            ("MacAddress", Kind::Text),
            ("NetworkDisabled", Kind::False),
            ("ArgsEscaped", Kind::False),
        ],
    ),
    (
        "HostConfig",
        &[
            ("Annotations", Kind::Map),
            ("StorageOpt", Kind::Map),
            ("Tmpfs", Kind::Map),
            ("Sysctls", Kind::Map),
            ("Mounts", Kind::Null),
            ("Init", Kind::Null),
        ],
    ),
    ("State", &[("Health", Kind::Null)]),
    (
        "NetworkSettings",
        &[
            ("IPAddress", Kind::Text),
            ("Gateway", Kind::Text),
            ("MacAddress", Kind::Text),
            ("GlobalIPv6Address", Kind::Text),
            ("IPv6Gateway", Kind::Text),
            ("EndpointID", Kind::Text),
            ("Bridge", Kind::Text),
            ("IPPrefixLen", Kind::Zero),
            ("GlobalIPv6PrefixLen", Kind::Zero),
            ("HairpinMode", Kind::False),
            ("LinkLocalIPv6Address", Kind::Text),
            ("LinkLocalIPv6PrefixLen", Kind::Zero),
            ("SecondaryIPAddresses", Kind::Null),
            ("SecondaryIPv6Addresses", Kind::Null),
        ],
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Map,
    Null,
    False,
    Zero,
}

impl Kind {
    fn empty(self) -> Value {
        match self {
            Self::Text => Value::from(""),
            Self::Map => Value::Object(serde_json::Map::new()),
            Self::Null => Value::Null,
            Self::False => Value::from(false),
            Self::Zero => Value::from(0),
        }
    }
}

/// Adds the empty fields that were left out, for templates; JSON output shows the document as it
/// came, except for the objects completed here.
fn complete(document: &mut Value) {
    if let Some(id) = document.get("Id").cloned() {
        insert_missing(document, "ID", id);
    }
    if document.get("State").is_some() {
        insert_missing(document, "SizeRw", Value::Null);
        insert_missing(document, "SizeRootFs", Value::Null);
    }
    for (object, fields) in LEFT_OUT {
        let Some(object) = document.get_mut(object) else {
            continue;
        };
        for (name, kind) in fields {
            insert_missing(object, name, kind.empty());
        }
    }
    if document.get("Actor").is_some() {
        complete_event(document);
    }
    if let Some(Value::Array(mounts)) = document.get_mut("Mounts") {
        for mount in mounts {
            for name in ["Name", "Driver", "Type"] {
                insert_missing(mount, name, Value::from(""));
            }
        }
    }
}

/// Templates name the fields of events as Go does.
fn complete_event(event: &mut Value) {
    for (go, wire) in [
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
        ("Status", "status"),
        ("From", "from"),
    ] {
        let value = event.get(wire).cloned().unwrap_or_else(|| Value::from(""));
        insert_missing(event, go, value);
    }
    let id = event["Actor"]["ID"].clone();
    insert_missing(event, "ID", id);
}

fn insert_missing(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.entry(name).or_insert(value);
    }
}

/// JSON with four blanks per level, as Docker prints it.
pub(crate) fn indented(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("invariant: a JSON value is JSON");
    String::from_utf8(text).expect("invariant: JSON is UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_left_out_are_empty_in_templates() {
        let document = serde_json::json!({"Id": "x", "State": {"Status": "running"}, "Config": {"Image": "i"}});
        assert_eq!(
            render("{{.Id}} {{.ID}} {{.Config.StopSignal}}|", &document).unwrap(),
            "x x |"
        );
        assert_eq!(
            render("{{if .State.Health}}h{{else}}none{{end}}", &document).unwrap(),
            "none"
        );
        assert_eq!(
            render("{{json .Mounts}}", &serde_json::json!({"Mounts": null})).unwrap(),
            "null"
        );
        assert!(render("{{.Nothing}}", &document).is_err());
    }

    #[test]
    fn documents_are_indented_by_four() {
        let text = indented(&serde_json::json!([{"b": [], "a": {}}]));
        assert_eq!(text, "[\n    {\n        \"b\": [],\n        \"a\": {}\n    }\n]");
    }
}
