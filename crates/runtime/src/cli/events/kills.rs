//! The kernel's count of tasks killed for memory.

use std::time::{Duration, Instant};

/// How long a kill may take that was given notice of.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// What was counted so far.
///
/// Version 1 gives notice before it kills, and counts afterwards: the count is looked at again
/// until it has risen.
#[derive(Debug)]
pub(super) struct Kills {
    known: u64,
    /// Until when a kill is expected.
    expected: Option<Instant>,
}

impl Kills {
    pub(super) fn new(known: u64) -> Self {
        Self { known, expected: None }
    }

    /// When to look next: when due, or soon if a kill is expected.
    pub(super) fn next_look(&self, due: Instant, now: Instant) -> Instant {
        match self.expected {
            Some(_) => due.min(now + PAUSE),
            None => due,
        }
    }

    /// How many are new in this count; `announced` if a kill may follow the notice just taken.
    pub(super) fn observe(&mut self, count: u64, announced: bool, now: Instant) -> u64 {
        let new = count.saturating_sub(self.known);
        self.known = self.known.max(count);
        if new > 0 {
            self.expected = None;
        } else if announced {
            self.expected = Some(now + PATIENCE);
        } else {
            self.expected = self.expected.filter(|end| now < *end);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_that_is_counted_after_its_notice_is_told() {
        let now = Instant::now();
        let due = now + Duration::from_secs(5);
        let mut kills = Kills::new(3);
        assert_eq!(kills.next_look(due, now), due);
        assert_eq!(kills.observe(3, true, now), 0);
        assert_eq!(kills.next_look(due, now), now + PAUSE);
        assert_eq!(kills.observe(3, false, now + PAUSE), 0);
        assert_eq!(kills.observe(4, false, now + PAUSE * 2), 1);
        assert_eq!(kills.next_look(due, now), due);
        assert_eq!(kills.observe(4, false, now + PAUSE * 3), 0);
    }

    #[test]
    fn a_notice_that_no_kill_follows_is_forgotten() {
        let now = Instant::now();
        let due = now + Duration::from_secs(5);
        let mut kills = Kills::new(0);
        assert_eq!(kills.observe(0, true, now), 0);
        assert_eq!(kills.observe(0, false, now + PATIENCE), 0);
        assert_eq!(kills.next_look(due, now), due);
    }
}
