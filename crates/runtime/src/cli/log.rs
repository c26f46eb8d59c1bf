//! Errors for people (stderr) and for callers (`--log`).

use super::global::Global;
use crate::RuntimeError;
use rustix::time::{ClockId, clock_gettime};
use std::io::Write as _;
use std::path::Path;

/// A log that cannot be written is said at once, not when it is needed.
pub(super) fn check(global: &Global) -> Result<(), RuntimeError> {
    match global.log.as_deref().map(open) {
        Some(Err(error)) => {
            let path = global.log.as_deref().unwrap_or(Path::new("")).display().to_string();
            Err(super::failed(format!("--log: open {path}"), &error))
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().create(true).append(true).open(path)
}

/// Writes the error to stderr and to the log, one line each.
pub(super) fn report(global: &Global, error: &RuntimeError) {
    let message = error.message();
    complain(&format!("wharf-runtime: error: {message}"));
    append(global, "error", &message);
}

/// Writes a warning to the log, or to stderr where there is none.
pub(super) fn warn(global: &Global, message: &str) {
    if global.log.is_none() {
        complain(&format!("wharf-runtime: warning: {message}"));
    }
    append(global, "warning", message);
}

/// Writes what only `--debug` asks for, to the log, or to stderr where there is none.
pub(super) fn debug(global: &Global, message: &str) {
    if !global.debug {
        return;
    }
    if global.log.is_none() {
        complain(&format!("wharf-runtime: debug: {message}"));
    }
    append(global, "debug", message);
}

/// To stderr, which may be closed: that changes nothing about the outcome.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn append(global: &Global, level: &str, message: &str) {
    let Some(path) = &global.log else { return };
    let time = rfc3339(clock_gettime(ClockId::Realtime).tv_sec);
    let line = if global.json_log {
        serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
    } else {
        format!("time=\"{time}\" level={level} msg={message:?}")
    };
    // A log that cannot be written has no better place to say so than stderr,
    // where the error already is.
    if let Ok(mut file) = open(path) {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// UTC seconds as `2026-01-31T12:00:00Z`.
pub(super) fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Date of a number of days since 1970, by counting years from March so that
/// the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_TO_1970: i64 = 719_468;
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days + DAYS_TO_1970;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let day_of_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_utc_dates() {
        let check = |seconds, expected: &str| assert_eq!(rfc3339(seconds), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(1_709_251_199, "2024-02-29T23:59:59Z");
        check(4_102_444_800, "2100-01-01T00:00:00Z");
    }
}
