//! Whether a plugin answers at all, so that those who can do without it need not wait to find out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request that is older makes its plugin count as silent.
const PROMPT: Duration = Duration::from_secs(2);

/// How long a plugin counts as silent after a request that it did not answer, unless it answers another.
const MEMORY: Duration = Duration::from_secs(30);

/// What a plugin has been asked and has not answered.
#[derive(Debug, Default)]
pub(crate) struct Silence(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    open: BTreeMap<u64, Instant>,
    unanswered: Option<Instant>,
}

/// One request under way.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    silence: &'a Silence,
    id: u64,
}

impl Silence {
    /// Notes that a request is sent.
    pub(crate) fn asking(&self) -> Asking<'_> {
        let mut asked = self.lock();
        asked.last += 1;
        let id = asked.last;
        asked.open.insert(id, Instant::now());
        Asking { silence: self, id }
    }

    /// Whether it has not answered lately.
    pub(crate) fn is_silent(&self) -> bool {
        let asked = self.lock();
        asked.open.values().any(|since| since.elapsed() > PROMPT)
            || asked.unanswered.is_some_and(|at| at.elapsed() < MEMORY)
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking<'_> {
    /// It was answered, whatever the answer.
    pub(crate) fn answered(self) {
        let mut asked = self.silence.lock();
        asked.unanswered = None;
        asked.open.remove(&self.id);
    }

    /// It could not be asked, which says nothing of how fast it answers.
    pub(crate) fn not_sent(self) {
        self.silence.lock().open.remove(&self.id);
    }
}

/// Dropped without an answer: whoever asked does not wait any more.
impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut asked = self.silence.lock();
        if let Some(since) = asked.open.remove(&self.id)
            && since.elapsed() > PROMPT / 2
        {
            asked.unanswered = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_given_up_makes_a_plugin_silent_until_it_answers() {
        let silence = Silence::default();
        let asking = silence.asking();
        silence.lock().open.insert(asking.id, Instant::now() - PROMPT);
        drop(asking);
        assert!(silence.is_silent());
        silence.asking().answered();
        assert!(!silence.is_silent());
    }

    #[test]
    fn an_old_request_makes_it_silent_and_a_fresh_one_does_not() {
        let silence = Silence::default();
        let asking = silence.asking();
        assert!(!silence.is_silent());
        silence.lock().open.insert(asking.id, Instant::now() - 2 * PROMPT);
        assert!(silence.is_silent());
        asking.not_sent();
        assert!(!silence.is_silent());
    }
}
