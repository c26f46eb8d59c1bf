//! Values of flags: booleans, numbers, sizes and durations, with the wording of Go's parsers,
//! because scripts compare it.

use super::{Flag, Kind};

impl Flag {
    /// Checks one value and brings it into the form that is kept.
    pub(super) fn read(&self, text: &str) -> Result<String, String> {
        let text = match self.check {
            Some(check) => check(text)?,
            None => text.to_owned(),
        };
        match self.kind {
            Kind::Bool => parse_go_bool(&text).map(|on| on.to_string()),
            Kind::Int => parse_int(&text).map(|_| text),
            Kind::Uint => parse_uint(&text, u64::MAX).map(|_| text),
            Kind::Uint16 => parse_uint(&text, u64::from(u16::MAX)).map(|_| text),
            Kind::Decimal => parse_nano_cpus(&text).map(|nanos| nanos.to_string()),
            Kind::Bytes => parse_bytes(&text).map(|bytes| bytes.to_string()),
            Kind::SignedBytes if text == "-1" => Ok(text),
            Kind::SignedBytes => parse_bytes(&text).map(|bytes| bytes.to_string()),
            Kind::Duration => parse_duration_ns(&text).map(|ns| ns.to_string()),
            Kind::String | Kind::List | Kind::Strings => Ok(text),
        }
    }
}

/// Reads a boolean with the words of Go's `strconv.ParseBool`.
pub(crate) fn parse_go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn parse_int(text: &str) -> Result<i64, String> {
    let (digits, radix) = radix_of(text.trim_start_matches(['-', '+']));
    let magnitude = i64::from_str_radix(digits, radix);
    if text.matches(['-', '+']).count() > 1 {
        return Err(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    }
    magnitude.map_err(|error| number_error("ParseInt", text, &error))
}

fn parse_uint(text: &str, max: u64) -> Result<u64, String> {
    let (digits, radix) = radix_of(text);
    if digits.starts_with(['-', '+']) {
        return Err(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
    }
    let number = u64::from_str_radix(digits, radix).map_err(|error| number_error("ParseUint", text, &error))?;
    if number > max {
        return Err(format!("strconv.ParseUint: parsing {text:?}: value out of range"));
    }
    Ok(number)
}

/// The digits and the base that Go reads them in.
fn radix_of(text: &str) -> (&str, u32) {
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return (digits, radix);
        }
    }
    if text.len() > 1 && text.starts_with('0') {
        return (&text[1..], 8);
    }
    (text, 10)
}

fn number_error(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let reason = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {reason}")
}

/// Processors in thousand-millionths; more than nine decimals are refused.
fn parse_nano_cpus(text: &str) -> Result<i64, String> {
    let failed = || format!("failed to parse {text} as a rational number");
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, decimals) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let decimals = decimals.trim_end_matches('0');
    if (whole.is_empty() && decimals.is_empty())
        || !whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit())
    {
        return Err(failed());
    }
    if decimals.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let nanos = format!("{whole}{decimals:0<9}").parse::<i64>().map_err(|_| failed())?;
    Ok(sign * nanos)
}

/// A size as Docker writes it: a number, decimals allowed, then `b`, `k`, `m`, `g`, `t` or `p`
/// with an optional `b` or `ib`, all in powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.')
        .map(|index| index + 1)
        .ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.trim_end().parse().map_err(|_| invalid())?;
    if number < 0.0 {
        return Err(invalid());
    }
    let suffix = suffix.trim_start().to_ascii_lowercase();
    let power = match suffix.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(suffix.as_str(), "" | "b") => 0,
        unit => {
            "kmgtp"
                .find(unit)
                .filter(|_| unit.len() == 1)
                .ok_or_else(|| format!("invalid suffix: '{suffix}'"))?
                + 1
        }
    };
    if !matches!(suffix.get(1..).unwrap_or(""), "" | "b" | "ib") {
        return Err(format!("invalid suffix: '{suffix}'"));
    }
    let factor = 1024f64.powi(i32::try_from(power).expect("invariant: at most five units"));
    Ok((number * factor) as i64)
}

/// A duration as Go writes it, `1h2m3.5s`, in nanoseconds.
pub(crate) fn parse_duration_ns(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = &rest[..letters];
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        nanos += number * unit_ns(unit).ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        rest = &rest[letters..];
    }
    Ok((sign * nanos).round() as i64)
}

fn unit_ns(unit: &str) -> Option<f64> {
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
    fn sizes_are_powers_of_1024() {
        let check = |text: &str, expected: Result<i64, &str>| {
            assert_eq!(parse_bytes(text), expected.map_err(str::to_owned), "{text}");
        };
        check("1", Ok(1));
        check("512m", Ok(512 << 20));
        check("1.5g", Ok(3 << 29));
        check("10KB", Ok(10 << 10));
        check("10kib", Ok(10 << 10));
        check("4b", Ok(4));
        check("abc", Err("invalid size: 'abc'"));
        check("1x", Err("invalid suffix: 'x'"));
        check("1kx", Err("invalid suffix: 'kx'"));
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(parse_duration_ns(text).ok(), expected, "{text}");
        };
        check("0", Some(0));
        check("1m30s", Some(90_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check("-2ms", Some(-2_000_000));
        check("10", None);
        check("x", None);
        check("1d", None);
    }

    #[test]
    fn processors_are_counted_in_thousand_millionths() {
        assert_eq!(parse_nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_nano_cpus(".01"), Ok(10_000_000));
        assert_eq!(parse_nano_cpus("0.0000000001"), Err("value is too precise".into()));
        assert!(parse_nano_cpus("a").is_err());
        assert!(parse_nano_cpus("").is_err());
    }
}
