//! How a flood of output leaves others the processor.
//!
//! A container that writes without end keeps two processors busy, its own and that of its shim. A server beside it needs
//! microseconds and waits milliseconds: the scheduler lets who runs go on until a tick ends its slice, and a yield counts
//! only among the shims, which are a control group of their own. So who floods a log sleeps every now and then. That costs
//! the flood little: the writer is interrupted less, and more is taken at once.

use std::time::{Duration, Instant};

/// A pause comes no sooner than this after the last.
const STRETCH: Duration = Duration::from_micros(200);

/// With the kernel's slack some 200 microseconds. With 50 half of the neighbours' requests still waited for a tick; a shell
/// that writes lines is a tenth faster with either than without any.
const PAUSE: Duration = Duration::from_micros(150);

/// The pace of one shim.
#[derive(Debug)]
pub(super) struct Pace {
    /// End of the last pause; a burst after a time of rest begins with one.
    since: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// To be called while there is more than was taken at once: pauses when it is time to.
    pub(super) fn keep(&mut self) {
        if self.since.elapsed() >= STRETCH {
            std::thread::sleep(PAUSE);
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_between_pauses() {
        let begun = Instant::now();
        let mut pace = Pace::new();
        let mut last = pace.since;
        let mut pauses = 0;
        while begun.elapsed() < Duration::from_millis(20) {
            pace.keep();
            if pace.since != last {
                assert!(pace.since.duration_since(last) >= STRETCH);
                (last, pauses) = (pace.since, pauses + 1);
            }
        }
        assert!((1..=100).contains(&pauses), "{pauses}");
    }
}
