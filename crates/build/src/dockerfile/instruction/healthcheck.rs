//! `HEALTHCHECK NONE` or `HEALTHCHECK [--interval=..] ... CMD command`.

use serde_json::{Value, json};

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::{CommandLine, at_least_one, go_quoted_list, no_flags};

/// Says how to see whether a container works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval_ns: i64,
    /// Time one check may take.
    pub timeout_ns: i64,
    /// Time in which failures do not count.
    pub start_period_ns: i64,
    /// Time between two checks in the start period.
    pub start_interval_ns: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: i64,
}

impl Healthcheck {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let (kind, rest) = match statement.args.split_once(char::is_whitespace) {
            Some((kind, rest)) => (kind, rest.trim()),
            None => (statement.args.as_str(), ""),
        };
        match kind.to_ascii_uppercase().as_str() {
            "" => Err(at_least_one("HEALTHCHECK")),
            "NONE" => Self::none(statement, rest),
            "CMD" => Self::command(statement, rest),
            _ => Err(BuildError::invalid(format!(
                "Unknown type \"{kind}\" in HEALTHCHECK (try CMD)"
            ))),
        }
    }

    fn none(statement: &Statement, rest: &str) -> Result<Self, BuildError> {
        no_flags(statement)?;
        if !rest.is_empty() {
            return Err(BuildError::invalid("HEALTHCHECK NONE takes no arguments"));
        }
        Ok(Self {
            test: vec!["NONE".into()],
            ..Self::default()
        })
    }

    fn command(statement: &Statement, rest: &str) -> Result<Self, BuildError> {
        let mut flags = Flags::new(&statement.flags);
        let mut duration = |name: &str| parse_duration_flag(name, flags.text(name)?);
        let (interval_ns, timeout_ns) = (duration("interval")?, duration("timeout")?);
        let start_period_ns = duration("start-period")?;
        let start_interval_ns = duration("start-interval")?;
        let retries = parse_retries(flags.text("retries")?)?;
        flags.finish()?;
        let test = match CommandLine::parse_text(rest)? {
            command if command.is_empty() => {
                return Err(BuildError::invalid("Missing command after HEALTHCHECK CMD"));
            }
            CommandLine::Shell(line) => vec!["CMD-SHELL".into(), line],
            CommandLine::Exec(list) => [vec!["CMD".into()], list].concat(),
        };
        Ok(Self {
            test,
            interval_ns,
            timeout_ns,
            start_period_ns,
            start_interval_ns,
            retries,
        })
    }

    /// Docker's form in an image configuration: zero means inherited and is left out.
    pub fn to_config(&self) -> Value {
        let mut config = json!({ "Test": self.test });
        let numbers = [
            ("Interval", self.interval_ns),
            ("Timeout", self.timeout_ns),
            ("StartPeriod", self.start_period_ns),
            ("StartInterval", self.start_interval_ns),
            ("Retries", self.retries),
        ];
        for (name, number) in numbers {
            if number != 0 {
                config[name] = number.into();
            }
        }
        config
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("HEALTHCHECK {}", go_quoted_list(&self.test))
    }
}

/// A duration of zero or at least a millisecond.
fn parse_duration_flag(name: &str, value: Option<String>) -> Result<i64, BuildError> {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        return Ok(0);
    };
    let ns =
        parse_go_duration(&text).ok_or_else(|| BuildError::invalid(format!("time: invalid duration \"{text}\"")))?;
    if ns != 0 && ns < 1_000_000 {
        return Err(BuildError::invalid(format!(
            "Interval \"{name}\" cannot be less than 1ms"
        )));
    }
    Ok(ns)
}

fn parse_retries(value: Option<String>) -> Result<i64, BuildError> {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        return Ok(0);
    };
    let number: i64 = text
        .parse()
        .map_err(|source| BuildError::invalid(format!("invalid value \"{text}\" for --retries")).with_source(source))?;
    if number < 0 {
        return Err(BuildError::invalid(format!("--retries cannot be negative ({number})")));
    }
    Ok(number)
}

/// Go's duration syntax (`1h2m3.5s`, `300ms`, `-1s`) in nanoseconds.
fn parse_go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = &rest[digits..];
        let end = units
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(units.len());
        let unit = match &units[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &units[end..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some((sign * total) as i64)
}

#[cfg(test)]
mod tests {
    use super::parse_go_duration;

    #[test]
    fn durations_are_go_durations() {
        let table = [
            ("30s", Some(30_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("300ms", Some(300_000_000)),
            ("0", Some(0)),
            ("-1s", Some(-1_000_000_000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1x", None),
        ];
        for (text, want) in table {
            assert_eq!(parse_go_duration(text), want, "{text:?}");
        }
    }
}
