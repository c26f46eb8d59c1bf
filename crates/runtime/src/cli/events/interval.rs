//! Durations as Go writes them: `5s`, `1m30s`, `250ms`.

use std::time::Duration;

/// Units and their nanoseconds; longer names first, so that `ms` is not minutes.
const UNITS: [(&str, f64); 7] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// A duration above zero; none for anything else.
pub(super) fn parse_interval(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        total += number.parse::<f64>().ok()? * factor;
        rest = tail.get(unit.len()..)?;
    }
    let duration = Duration::try_from_secs_f64(total / 1e9).ok()?;
    (duration > Duration::ZERO).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_are_above_zero() {
        let check = |text: &str, ms: Option<u64>| {
            assert_eq!(parse_interval(text), ms.map(Duration::from_millis), "{text}");
        };
        check("5s", Some(5000));
        check("250ms", Some(250));
        check("1m30s", Some(90_000));
        check("1.5s", Some(1500));
        check("1h", Some(3_600_000));
        for wrong in ["", "5", "0s", "-1s", "5x", "s", "99999999999999999999999999h"] {
            check(wrong, None);
        }
    }
}
