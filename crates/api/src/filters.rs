//! The `filters` parameter of lists, prunes and events: keys with values, sent as JSON in one of
//! two forms, `{"label":["a=b"]}` and the older `{"label":{"a=b":true}}`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;

/// Conditions by key. Different keys must all hold; what several values of one key mean (any or
/// all of them) is up to the list that is filtered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Why a `filters` parameter is refused.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is not one of the two forms.
    #[error("invalid filter")]
    Malformed(#[source] serde_json::Error),
    /// A key that this call does not know.
    #[error("invalid filter '{key}'")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A value that the key does not allow.
    #[error("invalid filter '{key}={values}'")]
    InvalidValue {
        /// The key.
        key: String,
        /// The values, joined by commas within brackets.
        values: String,
    },
}

impl Filters {
    /// No conditions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the parameter; an empty text means no conditions.
    ///
    /// # Errors
    /// [`FilterError::Malformed`] when it is neither form.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(text).map_err(FilterError::Malformed)
    }

    /// The parameter as clients since 1.22 send it, `{"key":{"value":true}}`.
    #[must_use]
    pub fn encode(&self) -> String {
        let object: BTreeMap<&String, BTreeMap<&String, bool>> = self
            .0
            .iter()
            .map(|(key, values)| (key, values.iter().map(|value| (value, true)).collect()))
            .collect();
        serde_json::to_string(&object).expect("invariant: maps of strings are JSON")
    }

    /// The parameter in the list form, `{"key":["value"]}`.
    #[must_use]
    pub fn encode_lists(&self) -> String {
        serde_json::to_string(&self.0).expect("invariant: maps of strings are JSON")
    }

    /// Adds one condition.
    pub fn add(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// Removes a key and its values.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// True without any condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when the key is present, even without values.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values of a key, in order; none when it is absent.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// True when the key is absent or `value` is one of its values.
    #[must_use]
    pub fn allows(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.contains(value))
    }

    /// The value of a key that is a boolean, `default` when it is absent.
    ///
    /// # Errors
    /// [`FilterError::InvalidValue`] for anything but one of Docker's boolean words, and for two
    /// that contradict each other.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool, FilterError> {
        let Some(values) = self.0.get(key) else {
            return Ok(default);
        };
        let parsed: Option<BTreeSet<bool>> = values.iter().map(|v| parse_bool(v)).collect();
        match parsed.as_ref().map(|set| (set.len(), set.first())) {
            Some((1, Some(value))) => Ok(*value),
            _ => Err(FilterError::InvalidValue {
                key: key.to_owned(),
                values: format!("[{}]", values.iter().cloned().collect::<Vec<_>>().join(" ")),
            }),
        }
    }

    /// Refuses keys other than those accepted.
    ///
    /// # Errors
    /// [`FilterError::UnknownKey`] naming the first other key.
    pub fn accept(&self, accepted: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !accepted.contains(&key.as_str())) {
            Some(key) => Err(FilterError::UnknownKey { key: key.clone() }),
            None => Ok(()),
        }
    }

    /// True when every `label` condition (`k` or `k=v`) holds and no `label!` condition does.
    #[must_use]
    pub fn match_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").all(|condition| label_holds(labels, condition))
            && !self.values("label!").any(|condition| label_holds(labels, condition))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(conditions: I) -> Self {
        let mut filters = Self::default();
        for (key, value) in conditions {
            filters.add(key, value);
        }
        filters
    }
}

fn label_holds(labels: &BTreeMap<String, String>, condition: &str) -> bool {
    match condition.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(condition),
    }
}

/// The words of Go's `strconv.ParseBool`.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Filters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let mut filters = Self::default();
        for (key, values) in keys {
            let values = values_of(values)
                .ok_or_else(|| D::Error::custom(format!("the values of {key:?} are neither a list nor an object")))?;
            filters.0.insert(key, values);
        }
        Ok(filters)
    }
}

/// The values in either form. `{"a":false}` counts as present, as in Docker.
fn values_of(value: Value) -> Option<BTreeSet<String>> {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(value, held)| held.is_boolean().then_some(value))
            .collect(),
        Value::Array(list) => list
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        Value::Null => Some(BTreeSet::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let object = Filters::parse(r#"{"label":{"a=b":true,"c":true}}"#).unwrap();
        let list = Filters::parse(r#"{"label":["c","a=b"]}"#).unwrap();
        assert_eq!(object, list);
        assert_eq!(object.values("label").collect::<Vec<_>>(), ["a=b", "c"]);
    }

    #[test]
    fn empty_means_none_and_garbage_is_refused() {
        assert!(Filters::parse("").unwrap().is_empty());
        assert!(Filters::parse("{}").unwrap().is_empty());
        for text in ["notjson", "{", "[]", r#"{"a":1}"#, r#"{"a":[1]}"#, r#"{"a":{"b":"c"}}"#] {
            assert!(Filters::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_named() {
        let filters = Filters::from_iter([("bogus", "x")]);
        let error = filters.accept(&["name"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter 'bogus'");
    }

    #[test]
    fn booleans_must_not_contradict() {
        let check = |values: &[&str]| {
            let filters: Filters = values.iter().map(|v| ("dangling", *v)).collect();
            filters.bool_or("dangling", false).ok()
        };
        assert_eq!(check(&[]), Some(false));
        assert_eq!(check(&["true", "1"]), Some(true));
        assert_eq!(check(&["0"]), Some(false));
        assert_eq!(check(&["true", "false"]), None);
        assert_eq!(check(&["yes"]), None);
    }

    #[test]
    fn labels_match_by_key_or_pair_and_may_be_negated() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let check = |key: &str, value: &str| Filters::from_iter([(key, value)]).match_labels(&labels);
        assert!(check("label", "a"));
        assert!(check("label", "a=b"));
        assert!(!check("label", "a=c"));
        assert!(!check("label", "x"));
        assert!(!check("label!", "a"));
        assert!(check("label!", "x=y"));
    }

    proptest! {
        #[test]
        fn encoding_round_trips(pairs in proptest::collection::vec((".{0,6}", ".{0,6}"), 0..8)) {
            let filters: Filters = pairs.into_iter().collect();
            prop_assert_eq!(&Filters::parse(&filters.encode()).unwrap(), &filters);
            prop_assert_eq!(&Filters::parse(&filters.encode_lists()).unwrap(), &filters);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = Filters::parse(&text);
        }
    }
}
