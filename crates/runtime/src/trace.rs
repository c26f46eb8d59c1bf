//! Trace points: with `WHARF_TRACE=1` in the environment each step prints
//! one line to stderr, with the time since the first one.

use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;

fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// The time of the first trace point, if tracing is on.
fn origin() -> Option<i64> {
    static ORIGIN: OnceLock<Option<i64>> = OnceLock::new();
    *ORIGIN.get_or_init(|| std::env::var_os("WHARF_TRACE").is_some_and(|v| v == "1").then(now_us))
}

/// Marks that `step` has just been completed.
pub(crate) fn point(step: &str) {
    if let Some(origin) = origin() {
        eprintln!("trace {:>7} us  {step}", now_us() - origin);
    }
}
