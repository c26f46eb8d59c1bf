//! Times as users type them, and as the API takes them.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use crate::flags::parse_duration_ns;

/// A time for `since` and `until`: seconds and nanoseconds since the epoch. Takes such numbers,
/// durations before now, and dates with or without time and zone.
pub(crate) fn to_api(text: &str) -> Result<String, String> {
    if text.is_empty() || is_number(text) {
        return Ok(text.to_owned());
    }
    if let Ok(nanos) = parse_duration_ns(text) {
        let time = Timestamp::now()
            .checked_sub(SignedDuration::from_nanos(nanos))
            .map_err(|error| error.to_string())?;
        return Ok(seconds_and_nanos(time));
    }
    parse_date(text)
        .map(seconds_and_nanos)
        .ok_or_else(|| format!("failed to parse value as time or duration: {text:?}"))
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn parse_date(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local = |datetime: civil::DateTime| {
        datetime
            .to_zoned(TimeZone::system())
            .ok()
            .map(|zoned| zoned.timestamp())
    };
    if let Some(utc) = text.strip_suffix('Z') {
        let datetime = parse_civil(utc)?;
        return datetime.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    }
    local(parse_civil(text)?)
}

fn parse_civil(text: &str) -> Option<civil::DateTime> {
    if let Ok(datetime) = text.parse::<civil::DateTime>() {
        return Some(datetime);
    }
    let date = text.parse::<civil::Date>().ok()?;
    Some(date.at(0, 0, 0, 0))
}

fn seconds_and_nanos(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_numbers() {
        assert_eq!(to_api("").unwrap(), "");
        assert_eq!(to_api("1700000000.5").unwrap(), "1700000000.5");
        assert_eq!(to_api("2023-11-14T22:13:20Z").unwrap(), "1700000000.000000000");
        assert_eq!(to_api("2023-11-14T22:13:20.25+00:00").unwrap(), "1700000000.250000000");
        assert!(to_api("yesterday").is_err());
        let now = Timestamp::now().as_second();
        let then: i64 = to_api("1m").unwrap().split('.').next().unwrap().parse().unwrap();
        assert!((now - 61..=now - 59).contains(&then));
    }
}
