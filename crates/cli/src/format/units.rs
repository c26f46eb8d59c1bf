//! Sizes and times for people, in Docker's words.

/// A size in decimal units with so many significant digits, `1.23MB`.
pub(crate) fn human_size(bytes: f64, digits: usize) -> String {
    scaled(
        bytes,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
        digits,
    )
}

/// A size in binary units, `1.5GiB`.
pub(crate) fn binary_size(bytes: f64) -> String {
    scaled(
        bytes,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
        4,
    )
}

fn scaled(mut size: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// Go's `%.Ng`: so many significant digits, no trailing zeros, an exponent for large values.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let most = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= most {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(most - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// How long something took or lasts, `About an hour`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a time (seconds since the epoch) is, `2 hours ago`.
pub(crate) fn ago(seconds: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    format!("{} ago", human_duration(now - seconds))
}

/// A time as Go prints it, `2026-01-02 15:04:05 +0000 UTC`.
pub(crate) fn go_time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => {
            let zoned = time.to_zoned(jiff::tz::TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
        }
        Err(_) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_significant_digits() {
        let check = |bytes: f64, expected: &str| assert_eq!(human_size(bytes, 3), expected);
        check(0.0, "0B");
        check(1.0, "1B");
        check(999.0, "999B");
        check(1000.0, "1kB");
        check(4_261_502.0, "4.26MB");
        check(100_000_000.0, "100MB");
        assert_eq!(binary_size(1.5 * 1024.0 * 1024.0), "1.5MiB");
        assert_eq!(binary_size(7_900_000_000.0), "7.357GiB");
        assert_eq!(human_size(999_900.0, 3), "1e+03kB");
    }

    #[test]
    fn durations_are_rounded_as_docker_rounds_them() {
        let check = |seconds: i64, expected: &str| assert_eq!(human_duration(seconds), expected);
        check(0, "Less than a second");
        check(1, "1 second");
        check(59, "59 seconds");
        check(60, "About a minute");
        check(121, "2 minutes");
        check(3600, "About an hour");
        check(3600 * 47, "47 hours");
        check(3600 * 48, "2 days");
        check(3600 * 24 * 14, "2 weeks");
        check(3600 * 24 * 60, "2 months");
        check(3600 * 24 * 730, "2 years");
    }
}
