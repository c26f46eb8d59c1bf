//! Trace points: with `WHARF_TRACE=1` in the environment each step prints
//! one line to stderr, with the time since the first one. `WHARF_TRACE=@N`
//! counts from N microseconds of the monotonic clock instead, so that a caller
//! sees what went by before the program's first line. With
//! `WHARF_STOP_AT=STEP` the process stays there for good, so that a debugger
//! can be attached, or a test can kill it between two steps.

use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;

fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// The time that all points are relative to; none when tracing is off.
fn parse_origin(setting: Option<&str>, now: i64) -> Option<i64> {
    match setting? {
        "1" => Some(now),
        text => text.strip_prefix('@')?.parse().ok(),
    }
}

fn origin() -> Option<i64> {
    static ORIGIN: OnceLock<Option<i64>> = OnceLock::new();
    *ORIGIN.get_or_init(|| parse_origin(std::env::var("WHARF_TRACE").ok().as_deref(), now_us()))
}

fn stop_at() -> Option<&'static std::ffi::OsStr> {
    static STEP: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    STEP.get_or_init(|| std::env::var_os("WHARF_STOP_AT")).as_deref()
}

/// Marks that `step` has just been completed.
pub(crate) fn point(step: &str) {
    if let Some(origin) = origin() {
        let line = format!("trace {:>7} us  {step}\n", now_us() - origin);
        // A time line that nobody reads is no failure of the container.
        let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    }
    // SIGSTOP would do nothing to the first process of a pid namespace.
    while stop_at().is_some_and(|name| name == step) {
        std::thread::sleep(std::time::Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::parse_origin;

    #[test]
    fn times_count_from_the_first_point_or_from_the_caller_s() {
        assert_eq!(parse_origin(None, 7), None);
        assert_eq!(parse_origin(Some("0"), 7), None);
        assert_eq!(parse_origin(Some("1"), 7), Some(7));
        assert_eq!(parse_origin(Some("@5"), 7), Some(5));
        assert_eq!(parse_origin(Some("@x"), 7), None);
    }
}
