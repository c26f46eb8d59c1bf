//! Filters of lists and prunes: keys with their wanted values.
use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;

use crate::error::{Error, Result};
use crate::model::Timestamp;

/// Parsed filters: keys are ANDed, values of one key ORed (labels ANDed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Adds one wanted value.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.entry(key.into()).or_default().insert(value.into());
    }

    /// Adds a key without a value: it is checked like any key and lets everything through.
    pub fn insert_key(&mut self, key: impl Into<String>) {
        self.0.entry(key.into()).or_default();
    }

    /// No filter at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether nothing is wanted of `key`: it is absent, or was given without values.
    pub fn is_open(&self, key: &str) -> bool {
        self.values(key).next().is_none()
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

    /// Whether `text` is, or holds a match of, one of the wanted values; true when none is wanted.
    /// A value that is no regular expression only matches as it stands.
    pub fn match_pattern(&self, key: &str, text: &str) -> bool {
        self.is_open(key) || self.values(key).any(|want| pattern_matches(want, text))
    }

    /// Whether `text` is one of the wanted values; true when none is wanted.
    pub fn match_exactly(&self, key: &str, text: &str) -> bool {
        self.is_open(key) || self.values(key).any(|want| want == text)
    }

    /// The value of a yes-or-no key, `None` when it is absent.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let values: BTreeSet<Option<bool>> = self.values(key).map(parse_flag).collect();
        match (values.len(), values.first()) {
            (0, _) => Ok(None),
            (1, Some(Some(flag))) => Ok(Some(*flag)),
            _ => Err(self.invalid_value(key)),
        }
    }

    /// The moment that `until` names: a duration before `now`, a date, or seconds since 1970.
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut values = self.values("until");
        let Some(first) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(Error::invalid("more than one until filter specified"));
        }
        moment(first, now).map(Some).ok_or_else(|| self.invalid_value("until"))
    }

    /// The refusal of what was given for `key`.
    pub fn invalid_value(&self, key: &str) -> Error {
        let values: Vec<&str> = self.values(key).collect();
        Error::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))
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

/// Whether `text` is, or holds a match of, `want`.
pub(crate) fn pattern_matches(want: &str, text: &str) -> bool {
    want == text || Regex::new(want).is_ok_and(|pattern| pattern.is_match(text))
}

/// The words of Go's `strconv.ParseBool`.
fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A moment as Docker's clients write it: Go's duration (`1h30m`) before `now`, RFC 3339, a
/// date with or without a time (UTC), or `seconds[.fraction]` since 1970.
pub fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(nanos) = unix_nanos(text) {
        return Some(Timestamp::from_nanos(nanos));
    }
    if let Some(nanos) = duration_nanos(text) {
        return Some(Timestamp::from_nanos(now.as_nanos().saturating_sub(nanos)));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanos);
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let time = local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

/// `seconds[.fraction]` since 1970, in nanoseconds.
pub fn unix_nanos(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = seconds.strip_prefix('-').unwrap_or(seconds);
    if unsigned.is_empty() || !digits(unsigned) || !digits(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // A far future (clients send years beyond 2262) is simply later than everything.
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(fraction))
}

/// Go's duration syntax in nanoseconds.
fn duration_nanos(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..number_end)?.parse().ok()?;
        rest = rest.get(number_end..)?;
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number * unit_nanos(rest.get(..unit_end)?)?;
        rest = rest.get(unit_end..)?;
    }
    Some((sign * total) as i64)
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_docker_s_forms() {
        let now = Timestamp::from_nanos(10_000 * 1_000_000_000);
        let check = |text, seconds: Option<f64>| {
            let nanos = seconds.map(|s| (s * 1e9) as i64);
            assert_eq!(moment(text, now).map(Timestamp::as_nanos), nanos, "{text}");
        };
        check("5", Some(5.0));
        check("1.5", Some(1.5));
        check("10m", Some(10_000.0 - 600.0));
        check("1h30m", Some(10_000.0 - 5400.0));
        check("1.5s", Some(9_998.5));
        check("1970-01-01T00:00:07Z", Some(7.0));
        check("1970-01-01T00:01:00", Some(60.0));
        check("1970-01-02", Some(86_400.0));
        check("yesterday", None);
        check("", None);
        check("1x", None);
        check("m", None);
    }

    #[test]
    fn patterns_match_inside_and_labels_must_all_hold() {
        let mut filters = Filters::default();
        filters.insert("name", "^bri");
        filters.insert("name", "x(");
        assert!(filters.match_pattern("name", "bridge"));
        assert!(!filters.match_pattern("name", "abridge"));
        assert!(filters.match_pattern("name", "x("));
        assert!(filters.match_pattern("id", "anything"));
    }

    #[test]
    fn flags_must_be_booleans() {
        let flag = |values: &[&str]| {
            let mut filters = Filters::default();
            values.iter().for_each(|v| filters.insert("dangling", *v));
            filters.flag("dangling").ok()
        };
        assert_eq!(flag(&[]), Some(None));
        assert_eq!(flag(&["true", "1"]), Some(Some(true)));
        assert_eq!(flag(&["yes"]), None);
        assert_eq!(flag(&["true", "false"]), None);
    }
}
