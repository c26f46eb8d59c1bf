//! The options of one container, and those that every driver has.

use std::collections::BTreeMap;

use super::units::{parse_bool, parse_ram};
use crate::error::{Error, Result};
use crate::model::LogConfig;

/// Beginning of the options of the cache.
pub(super) const CACHE: &str = "cache-";

/// Options that choose what accompanies each line.
pub(super) const ATTRIBUTES: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// Options as given, with the name of the driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    driver: &'a str,
    given: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Options<'a> {
    pub(super) fn of(log: &'a LogConfig) -> Self {
        Self {
            driver: &log.driver,
            given: log.options.as_ref(),
        }
    }

    pub(super) fn driver(&self) -> &'a str {
        self.driver
    }

    /// A value, an empty one included.
    pub(super) fn value(&self, key: &str) -> Option<&'a str> {
        self.given.and_then(|given| given.get(key)).map(String::as_str)
    }

    /// A value that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.value(key).filter(|value| !value.is_empty())
    }

    /// The keys that belong to the driver alone.
    pub(super) fn own_keys(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.given.into_iter().flatten();
        pairs
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .filter(|(key, _)| !is_general(key))
    }

    /// Refuses keys that the driver does not know, in the words that `refusal` makes.
    pub(super) fn check_keys(&self, known: &[&str], refusal: impl Fn(&str) -> String) -> Result<()> {
        let is_known = |key: &str| known.contains(&key) || ATTRIBUTES.contains(&key);
        match self.own_keys().find(|(key, _)| !is_known(key)) {
            Some((key, _)) => Err(Error::invalid(refusal(key))),
            None => Ok(()),
        }
    }

    /// Checks the options that every driver has, in Docker's order.
    pub(super) fn check_general(&self) -> Result<()> {
        let mode = self.value("mode").unwrap_or_default();
        if !matches!(mode, "" | "blocking" | "non-blocking") {
            return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
        }
        if self.value("max-buffer-size").is_some() && !self.is_non_blocking() {
            return Err(Error::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ));
        }
        self.buffer_bytes()?;
        match self.text("cache-disabled") {
            Some(text) if parse_bool(text).is_none() => Err(Error::invalid(format!(
                "invalid value for option cache-disabled: {text}"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn is_non_blocking(&self) -> bool {
        self.value("mode") == Some("non-blocking")
    }

    /// `max-buffer-size`.
    pub(super) fn buffer_bytes(&self) -> Result<Option<u64>> {
        let Some(text) = self.value("max-buffer-size") else {
            return Ok(None);
        };
        let wrong = |error: Error| Error::invalid(format!("error parsing option max-buffer-size: {error}"));
        parse_ram(text).map(Some).map_err(wrong)
    }

    pub(super) fn cache_disabled(&self) -> bool {
        self.text("cache-disabled").and_then(parse_bool).unwrap_or(false)
    }
}

fn is_general(key: &str) -> bool {
    const CACHED: [&str; 8] = [
        "cache-disabled",
        "cache-max-file",
        "cache-max-size",
        "cache-compress",
        "cache-labels",
        "cache-labels-regex",
        "cache-env",
        "cache-env-regex",
    ];
    matches!(key, "mode" | "max-buffer-size" | "cache-tag") || CACHED.contains(&key)
}
