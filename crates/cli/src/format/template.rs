//! Go templates with Docker's functions: `json`, `join`, `split`, `lower`, `upper`, `title`,
//! `pad`, `truncate`, and those of Go itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError, Value};

use crate::error::CliError;

/// The exit code of a template that cannot be read.
const TEMPLATE_EXIT_CODE: i32 = 64;

/// A template ready to be rendered.
pub(crate) struct Compiled {
    template: Template,
    heading: Option<Template>,
}

/// Reads a template.
pub(crate) fn compile(source: &str) -> Result<Compiled, TemplateError> {
    Ok(Compiled {
        template: with_functions(Template::new(""), None)
            .missing_key(MissingKey::Error)
            .parse(&called(source))?,
        heading: heading_template(source),
    })
}

/// Reads a template for one document whose objects keep their order in `json`.
pub(crate) fn compile_ordered(source: &str, order: Arc<KeyOrder>) -> Result<Compiled, TemplateError> {
    let template = with_functions(Template::new(""), Some(order))
        .missing_key(MissingKey::Error)
        .parse(&called(source))?;
    Ok(Compiled {
        template,
        heading: None,
    })
}

impl Compiled {
    /// The text for one value.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        self.template.execute_to_string(data)
    }

    /// The headings of a table: the template over the names of its fields, in which functions
    /// leave them as they are.
    pub(crate) fn render_heading(&self, fields: &[(&'static str, Value)]) -> Result<String, TemplateError> {
        let data = map_of(fields.iter().cloned());
        match &self.heading {
            Some(template) => template.execute_to_string(&data),
            None => Ok(String::new()),
        }
    }
}

/// Docker's functions do nothing to headings; a label's heading is its name.
fn heading_template(source: &str) -> Option<Template> {
    let same = |args: &[Value]| Ok(args.last().cloned().unwrap_or(Value::Nil));
    let first = |args: &[Value]| Ok(args.first().cloned().unwrap_or(Value::Nil));
    Template::new("")
        .func("json", same)
        .func("lower", same)
        .func("upper", same)
        .func("title", same)
        .func("split", first)
        .func("join", first)
        .func("pad", first)
        .func("truncate", first)
        .func("call", same)
        .parse(&called(source))
        .ok()
}

/// Methods of rows that take an argument (`.Label "x"`) are functions here.
fn called(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find(".Label ") {
        let (before, after) = rest.split_at(start);
        text.push_str(before);
        let is_dot = before.is_empty() || before.ends_with(['{', ' ', '(', '|']);
        if is_dot && !before.ends_with("call ") {
            text.push_str("call ");
        }
        text.push_str(".Label ");
        rest = &after[".Label ".len()..];
    }
    text.push_str(rest);
    text
}

fn with_functions(template: Template, order: Option<Arc<KeyOrder>>) -> Template {
    let text = |args: &[Value], index: usize| args.get(index).map(Value::to_string).unwrap_or_default();
    template
        .func("json", move |args| {
            let value = args.first().unwrap_or(&Value::Nil);
            // COMPAT: a whole row is escaped for HTML, what is picked from it is not.
            Ok(string(match (value, order.as_deref()) {
                (Value::Map(_), None) => json_of(value),
                (_, order) => json_ordered(value, order),
            }))
        })
        .func("lower", move |args| Ok(string(text(args, 0).to_lowercase())))
        .func("upper", move |args| Ok(string(text(args, 0).to_uppercase())))
        .func("title", move |args| Ok(string(title(&text(args, 0)))))
        .func("split", move |args| Ok(split(&text(args, 0), &text(args, 1))))
        .func("join", move |args| Ok(string(join(args.first(), &text(args, 1)))))
        .func("pad", |args| Ok(string(pad(args))))
        .func("truncate", |args| Ok(string(truncate(args))))
}

fn string(text: String) -> Value {
    Value::String(text.into())
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|letter| {
            let shown = if start { letter.to_ascii_uppercase() } else { letter };
            start = !(letter.is_alphanumeric() || letter == '_' || letter == '\'');
            shown
        })
        .collect()
}

fn split(text: &str, separator: &str) -> Value {
    let parts: Vec<Value> = if separator.is_empty() {
        text.chars().map(|letter| string(letter.to_string())).collect()
    } else {
        text.split(separator).map(|part| string(part.to_owned())).collect()
    };
    Value::List(parts.into())
}

fn join(list: Option<&Value>, separator: &str) -> String {
    match list {
        Some(Value::List(values)) => values.iter().map(Value::to_string).collect::<Vec<_>>().join(separator),
        Some(Value::Nil) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn pad(args: &[Value]) -> String {
    let count = |index: usize| {
        args.get(index)
            .and_then(Value::as_int)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0)
    };
    let text = args.first().map(Value::to_string).unwrap_or_default();
    if text.is_empty() {
        text
    } else {
        format!("{}{text}{}", " ".repeat(count(1)), " ".repeat(count(2)))
    }
}

fn truncate(args: &[Value]) -> String {
    let text = args.first().map(Value::to_string).unwrap_or_default();
    let length = args
        .get(1)
        .and_then(Value::as_int)
        .and_then(|n| usize::try_from(n).ok());
    match length {
        Some(length) => text.chars().take(length).collect(),
        None => text,
    }
}

/// The error of a template given for a list.
pub(crate) fn in_list(error: TemplateError) -> CliError {
    CliError::message(format!("failed to execute template: {}", in_go_words(&error)))
}

/// The error of a template given for one document.
pub(crate) fn in_document(error: &TemplateError) -> CliError {
    CliError::Coded {
        message: format!("template parsing error: {}", in_go_words(error)),
        code: TEMPLATE_EXIT_CODE,
    }
}

/// The error in the words of Go, without the place.
pub(crate) fn in_go_words(error: &TemplateError) -> String {
    match error {
        TemplateError::MissingKey { key } => format!("map has no entry for key {key:?}"),
        other => other.to_string(),
    }
}

/// A map from its fields.
pub(crate) fn map_of(fields: impl Iterator<Item = (&'static str, Value)>) -> Value {
    let map: BTreeMap<Arc<str>, Value> = fields.map(|(name, value)| (Arc::from(name), value)).collect();
    Value::Map(Arc::new(map))
}

/// A JSON document as template data.
pub(crate) fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(on) => Value::Bool(*on),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_u64().map(Value::Uint))
            .unwrap_or_else(|| Value::Float(number.as_f64().unwrap_or(0.0))),
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(values) => Value::List(values.iter().map(value_of).collect()),
        Json::Object(fields) => Value::Map(Arc::new(
            fields
                .iter()
                .map(|(name, value)| (Arc::from(name.as_str()), value_of(value)))
                .collect(),
        )),
    }
}

/// The order of the keys of a document's objects, which template data does not keep: found again
/// by the set of keys.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder(BTreeMap<Vec<String>, Vec<String>>);

impl KeyOrder {
    /// The orders found in a document.
    pub(crate) fn of(document: &serde_json::Value) -> Self {
        let mut order = Self::default();
        order.note(document);
        order
    }

    fn note(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::Array(values) => values.iter().for_each(|value| self.note(value)),
            serde_json::Value::Object(fields) => {
                let keys: Vec<String> = fields.keys().cloned().collect();
                let mut sorted = keys.clone();
                sorted.sort();
                self.0.insert(sorted, keys);
                fields.values().for_each(|value| self.note(value));
            }
            _ => {}
        }
    }

    /// The keys in order, without those that were only added for templates.
    fn keys(&self, map: &BTreeMap<Arc<str>, Value>) -> Option<&[String]> {
        let sorted: Vec<String> = map.keys().map(|key| key.to_string()).collect();
        if let Some(keys) = self.0.get(&sorted) {
            return Some(keys);
        }
        let part = |keys: &&Vec<String>| !keys.is_empty() && keys.iter().all(|key| map.contains_key(key.as_str()));
        self.0
            .values()
            .filter(part)
            .max_by_key(|keys| keys.len())
            .map(Vec::as_slice)
    }
}

/// A value as JSON, keys sorted, escaped for HTML as Go does it.
pub(crate) fn json_of(value: &Value) -> String {
    json_ordered(value, None)
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

fn json_ordered(value: &Value, order: Option<&KeyOrder>) -> String {
    serde_json::to_string(&to_json(value, order)).unwrap_or_default()
}

fn to_json(value: &Value, order: Option<&KeyOrder>) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(on) => Json::from(*on),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_ref()),
        Value::List(values) => values.iter().map(|value| to_json(value, order)).collect(),
        Value::Map(map) => {
            let keep = |(_, value): &(&str, &Value)| !matches!(value, Value::Function(_));
            let fields: Vec<(&str, &Value)> = match order.and_then(|order| order.keys(map)) {
                Some(keys) => keys
                    .iter()
                    .filter_map(|key| map.get(key.as_str()).map(|value| (key.as_str(), value)))
                    .collect(),
                None => map.iter().map(|(key, value)| (key.as_ref(), value)).collect(),
            };
            let fields = fields.into_iter().filter(keep);
            Json::Object(
                fields
                    .map(|(key, value)| (key.to_owned(), to_json(value, order)))
                    .collect(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, json: &serde_json::Value) -> String {
        let compiled = compile_ordered(source, Arc::new(KeyOrder::of(json))).unwrap();
        compiled.render(&value_of(json)).unwrap()
    }

    #[test]
    fn dockers_functions_work() {
        let data = serde_json::json!({"B": "x y", "A": ["1", "2"], "N": 3, "Z": null});
        let check = |source: &str, expected: &str| assert_eq!(render(source, &data), expected, "{source}");
        check("{{json .}}", r#"{"B":"x y","A":["1","2"],"N":3,"Z":null}"#);
        check("{{json .Z}} {{json .A}}", r#"null ["1","2"]"#);
        check("{{join .A \",\"}} {{upper .B}} {{title .B}}", "1,2 X Y X Y");
        check("{{index (split .B \" \") 1}}", "y");
        check("[{{pad .B 1 2}}] {{truncate .B 2}}", "[ x y  ] x ");
        check("{{range .A}}{{println .}}{{end}}", "1\n2\n");
        check("{{len .A}} {{.N}} {{printf \"%03d\" .N}}", "2 3 003");
    }

    #[test]
    fn missing_fields_are_errors() {
        let data = serde_json::json!({});
        let compiled = compile("{{.Nothing}}").unwrap();
        assert!(compiled.render(&value_of(&data)).is_err());
        assert!(compile("{{.X").is_err());
    }

    #[test]
    fn labels_take_an_argument() {
        let label: gotmpl::ValueFunc = Arc::new(|args| Ok(string(format!("<{}>", args[0]))));
        let data = map_of([("Label", Value::Function(label))].into_iter());
        assert_eq!(compile("{{.Label \"a\"}}").unwrap().render(&data).unwrap(), "<a>");
        assert_eq!(json_of(&data), "{}");
    }
}
