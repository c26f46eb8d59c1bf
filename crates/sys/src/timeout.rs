//! How long epoll waits.

use rustix::event::Timespec;
use std::time::Duration;

/// A time as epoll_wait(2) takes it: in whole milliseconds, rounded up so
/// that nobody wakes too early, and at most some 24 days, after which the
/// caller asks again.
///
/// KERNEL(5.11): finer or longer ones need epoll_pwait2(2).
#[must_use]
pub fn in_milliseconds(time: Duration) -> Timespec {
    let ms = time.as_nanos().div_ceil(1_000_000);
    let ms = i32::try_from(ms).unwrap_or(i32::MAX);
    Timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_capped() {
        let check = |time, sec, nsec| {
            let found = in_milliseconds(time);
            assert_eq!((found.tv_sec, found.tv_nsec), (sec, nsec), "{time:?}");
        };
        check(Duration::ZERO, 0, 0);
        check(Duration::from_nanos(1), 0, 1_000_000);
        check(Duration::from_micros(1_999_001), 2, 0);
        check(Duration::MAX, 2_147_483, 647_000_000);
    }
}
