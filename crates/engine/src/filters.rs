//! Filters of lists and prunes: keys with their wanted values.
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// Parsed filters: keys are ANDed, values of one key ORed (labels ANDed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Adds one wanted value.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// No filter at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` is among them.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Wanted values of `key`.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Refuses keys other than `known`, as Docker does.
    pub fn check_keys(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Whether `labels` carry every wanted label (`key` or `key=value`).
    pub fn match_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").all(|want| has_label(labels, want))
    }

    /// Whether `labels` carry none of the unwanted ones (`label!`).
    pub fn match_unlabelled(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.values("label!").any(|unwanted| has_label(labels, unwanted))
    }
}

fn has_label(labels: &BTreeMap<String, String>, want: &str) -> bool {
    match want.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(want),
    }
}
