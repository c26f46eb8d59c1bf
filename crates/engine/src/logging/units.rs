//! Sizes, durations and truth values as Docker's options have them, with its words for wrong ones.

use std::time::Duration;

use crate::error::{Error, Result};

/// `10m` is ten million bytes.
pub(super) fn parse_decimal(text: &str) -> Result<u64> {
    parse_size(text, 1000.0)
}

/// `10m` is ten mebibytes.
pub(super) fn parse_ram(text: &str) -> Result<u64> {
    parse_size(text, 1024.0)
}

fn parse_size(text: &str, thousand: f64) -> Result<u64> {
    let wrong = || Error::invalid(format!("invalid size: '{text}'"));
    let digit = text
        .rfind(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | ' '))
        .ok_or_else(wrong)?;
    let (number, suffix) = text.split_at(digit + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let value: f64 = number
        .parse()
        .map_err(|_| Error::invalid(format!("strconv.ParseFloat: parsing {number:?}: invalid syntax")))?;
    if value < 0.0 {
        return Err(wrong());
    }
    let power = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(Error::invalid(format!("invalid suffix: '{suffix}'"))),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and saturating"
    )]
    Ok((value * thousand.powi(power)) as u64)
}

/// Go's words for truth.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The same, with Go's words for anything else.
pub(super) fn require_bool(text: &str) -> Result<bool> {
    parse_bool(text).ok_or_else(|| Error::invalid(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")))
}

/// A whole number, with Go's words for anything else; `function` is what Go calls the reader.
pub(super) fn require_number(text: &str, function: &str) -> Result<i64> {
    text.parse()
        .map_err(|_| Error::invalid(format!("strconv.{function}: parsing {text:?}: invalid syntax")))
}

/// `1m30s`, `500ms`; negative ones are read as such.
pub(super) fn parse_duration(text: &str) -> Result<(bool, Duration)> {
    let wrong = || Error::invalid(format!("time: invalid duration {text:?}"));
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok((false, Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
        let Some(end) = end else {
            return Err(Error::invalid(format!("time: missing unit in duration {text:?}")));
        };
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let tail = &rest[end..];
        let unit_end = tail.find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let (unit, after) = tail.split_at(unit_end.unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => {
                return Err(Error::invalid(format!(
                    "time: unknown unit {unit:?} in duration {text:?}"
                )));
            }
        };
        total += number * seconds;
        rest = after;
    }
    let duration = Duration::try_from_secs_f64(total).map_err(|_| wrong())?;
    Ok((is_negative && !duration.is_zero(), duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dockers() {
        let check = |text: &str, expected: u64| assert_eq!(parse_decimal(text).expect(text), expected, "{text}");
        check("10m", 10_000_000);
        check("1.5 kB", 1500);
        check("7", 7);
        check("2GiB", 2_000_000_000);
        assert_eq!(parse_ram("4m").expect("valid"), 4 << 20);
        let wrong = |text: &str| parse_ram(text).expect_err(text).to_string();
        assert_eq!(wrong("x"), "invalid size: 'x'");
        assert_eq!(wrong("-1"), "invalid size: '-1'");
        assert_eq!(wrong("1x"), "invalid suffix: 'x'");
    }

    #[test]
    fn durations_are_read_as_gos() {
        let check =
            |text: &str, millis: u128| assert_eq!(parse_duration(text).expect(text).1.as_millis(), millis, "{text}");
        check("1m30s", 90_000);
        check("1.5s", 1500);
        check("0", 0);
        assert!(parse_duration("-1s").expect("valid").0);
        for wrong in ["", "1", "1x", "s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
