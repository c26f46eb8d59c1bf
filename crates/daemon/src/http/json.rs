//! JSON bodies as Go's decoder reads them: field names in any case, null where a value is
//! expected means "not given" (the wire types see to that), unknown fields are skipped.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Failure;

/// Decodes one JSON document; `null` is `None`, a body that was not given. Trailing content, a document of
/// another shape and a cut one are the client's mistake. `template` has the optional objects filled in, so
/// that the names of their fields are known too.
pub(crate) fn decode_like<T: DeserializeOwned + Serialize>(body: &[u8], template: &T) -> Result<Option<T>, Failure> {
    let mut value = document(body)?;
    if value.is_null() {
        return Ok(None);
    }
    let names = serde_json::to_value(template).map_err(|error| Failure::internal(error.to_string()))?;
    adopt_names(&mut value, &names).map_err(|path| invalid(&format!("{path} is not an object")))?;
    serde_json::from_value(value).map(Some).map_err(|error| invalid(&error))
}

/// Parses exactly one document.
pub(crate) fn document(body: &[u8]) -> Result<Value, Failure> {
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let value = match documents.next() {
        None => return Err(Failure::invalid("invalid JSON: got EOF while reading request body")),
        Some(document) => document.map_err(|error| invalid(&error))?,
    };
    if body[documents.byte_offset()..]
        .iter()
        .any(|byte| !byte.is_ascii_whitespace())
    {
        return Err(Failure::invalid("unexpected content after JSON"));
    }
    Ok(value)
}

fn invalid(error: &dyn fmt::Display) -> Failure {
    Failure::invalid(format!("invalid JSON: {error}"))
}

/// Renames the fields of `value` that differ from `names` only in case, and refuses lists and
/// scalars where `names` has an object. COMPAT: docker-java writes `NanoCPUs`.
fn adopt_names(value: &mut Value, names: &Value) -> Result<(), String> {
    let Value::Object(names) = names else { return Ok(()) };
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return Ok(()),
        _ => return Err("the document".to_owned()),
    };
    if names.is_empty() {
        return Ok(());
    }
    let given = std::mem::take(fields);
    for (key, value) in given {
        let name = canonical(&key, names).unwrap_or(key);
        fields.insert(name, value);
    }
    for (name, value) in fields.iter_mut() {
        let Some(names) = names.get(name) else { continue };
        adopt_names(value, names).map_err(|_| name.clone())?;
    }
    Ok(())
}

fn canonical(key: &str, names: &Map<String, Value>) -> Option<String> {
    if names.contains_key(key) {
        return None;
    }
    names.keys().find(|name| name.eq_ignore_ascii_case(key)).cloned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Sample {
        tty: bool,
        nano_cpus: i64,
        cmd: Option<Vec<String>>,
        labels: BTreeMap<String, String>,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Inner {
        memory: i64,
    }

    fn sample(text: &str) -> Result<Sample, String> {
        let read = decode_like(text.as_bytes(), &Sample::default()).map_err(|failure| failure.message)?;
        read.ok_or_else(|| "not given".to_owned())
    }

    #[test]
    fn null_is_a_body_that_was_not_given() {
        assert_eq!(sample(" null\n").expect_err("no document"), "not given");
        assert!(sample("null null").is_err_and(|error| error.contains("after JSON")));
    }

    #[test]
    fn field_names_match_in_any_case() {
        let read = sample(r#"{"nanoCPUs":5,"TTY":true,"cmd":["a"],"INNER":{"MEMORY":7}}"#).expect("sound");
        assert_eq!((read.nano_cpus, read.tty, read.cmd), (5, true, Some(vec!["a".into()])));
        assert_eq!(read.inner.memory, 7);
    }

    #[test]
    fn keys_of_maps_keep_their_case() {
        let read = sample(r#"{"Labels":{"tty":"1","A":"b"}}"#).expect("sound");
        assert_eq!(read.labels.keys().collect::<Vec<_>>(), ["A", "tty"]);
    }

    #[test]
    fn other_shapes_are_refused() {
        let bad = [
            r#"{}{}"#,
            r#"{} x"#,
            "[]",
            r#""busybox""#,
            "5",
            r#"{"Cmd":"a"}"#,
            r#"{"Labels":["a"]}"#,
            r#"{"Tty":"true"}"#,
            r#"{"NanoCpus":1.5}"#,
            r#"{"NanoCpus":"5"}"#,
            "{",
            "",
            r#"{"Cmd":["a""#,
            r#"{"Inner":[]}"#,
            r#"{"Inner":[5]}"#,
        ];
        for text in bad {
            assert!(sample(text).is_err(), "{text}");
        }
    }

    #[test]
    fn trailing_white_space_is_fine() {
        assert!(sample("{}\r\n ").is_ok());
    }
}
