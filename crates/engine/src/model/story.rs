//! What happened to a container, in order: the notes that `why` tells.
//!
//! They are part of its record, so that they are written by the commits that change its state anyway, and survive
//! the engine. The newest are kept.
use serde::{Deserialize, Deserializer, Serialize};

use super::{HealthStatus, OnUnhealthy, Timestamp};

/// Notes that are kept of one container.
const MAX_NOTES: usize = 48;

/// Bytes of a message that are kept.
const MAX_MESSAGE: usize = 1024;

/// The notes of one container, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Story {
    notes: Vec<Note>,
}

/// One note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// Who wanted something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A user's `start`.
    UserStart,
    /// A user's `stop`.
    UserStop,
    /// The stop of all containers before the host goes down.
    HostShutdown,
    /// A user's `restart`.
    UserRestart,
    /// A user's `kill`.
    UserKill,
    /// A user's `rm --force`.
    UserRemove,
    /// A user's `pause` or `unpause`.
    UserPause,
    /// The time that a stop gave it was over.
    StopTimeout,
    /// A restart that was planned when it ended.
    PlannedRestart,
    /// Its failing health check.
    Health,
    /// The engine itself.
    #[default]
    Engine,
}

/// What the kernel's OOM killer did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomReport {
    /// Whose limit was hit: a cgroup's path; empty when the whole machine ran out of memory; `None` when the
    /// kernel's log does not tell.
    pub limit_of: Option<String>,
    /// That cgroup is the container's own.
    pub own_limit: bool,
    /// Who was killed.
    pub victim: Option<Victim>,
}

/// A process that was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Its id in the host's namespace.
    pub pid: i32,
    /// Its name.
    pub name: String,
}

/// What a note is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Happening {
    /// It was started.
    Started {
        /// By whom.
        by: Cause,
        /// The process id in the host's namespace.
        pid: i32,
    },
    /// A start failed.
    StartFailed {
        /// Whose start.
        by: Cause,
        /// Why.
        message: String,
        /// The exit code that stands for it.
        exit_code: i32,
    },
    /// A signal was sent.
    Signalled {
        /// By whom.
        by: Cause,
        /// Which.
        signal: i32,
    },
    /// Its first process ended.
    Ended {
        /// Exit code.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// How long it ran.
        ran_for_ms: u64,
    },
    /// The kernel killed one of its processes for want of memory.
    OutOfMemory(OomReport),
    /// It will be started again.
    RestartPlanned {
        /// After this pause.
        after_ms: u64,
        /// The how many-th restart in a row this is.
        attempt: u32,
        /// Because of its health, not of its policy.
        for_health: bool,
    },
    /// Its policy allows no further restart.
    RestartsUsedUp {
        /// After so many.
        attempts: u32,
    },
    /// Its health changed.
    Health {
        /// To this.
        status: HealthStatus,
    },
    /// Something is done about its health.
    Remedy {
        /// What.
        action: OnUnhealthy,
    },
    /// It was paused.
    Paused {
        /// By whom.
        by: Cause,
    },
    /// It goes on.
    Unpaused {
        /// By whom.
        by: Cause,
    },
    /// The process that keeps it was gone.
    KeeperLost {
        /// Its processes lived and were killed.
        killed: bool,
    },
    /// The process that keeps it did not answer; the engine killed the container's processes itself.
    KeeperSilent {
        /// What that process did instead.
        message: String,
    },
    /// It did not end although it was killed.
    DoesNotEnd {
        /// What it is stuck on.
        message: String,
    },
    /// Its limits, restart policy or health action were changed.
    Updated,
    /// It got its present name.
    Renamed {
        /// Instead of this one.
        from: String,
    },
    /// Its removal failed.
    RemovalFailed {
        /// Why.
        message: String,
    },
}

impl Story {
    /// Adds a note with the present time; the oldest goes when there are too many.
    pub fn push(&mut self, what: Happening) {
        self.push_at(Timestamp::now(), what);
    }

    /// As [`Self::push`], with the time it happened.
    pub fn push_at(&mut self, at: Timestamp, mut what: Happening) {
        if let Happening::StartFailed { message, .. }
        | Happening::KeeperSilent { message }
        | Happening::DoesNotEnd { message }
        | Happening::RemovalFailed { message } = &mut what
        {
            shorten(message);
        }
        if self.notes.len() >= MAX_NOTES {
            self.notes.remove(0);
        }
        self.notes.push(Note { at, what });
    }

    /// The notes, oldest first.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }
}

fn shorten(text: &mut String) {
    let end = (0..=MAX_MESSAGE.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i));
    text.truncate(end.unwrap_or(0));
}

/// Notes of a newer engine, which this one does not know, are left out.
impl<'de> Deserialize<'de> for Story {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let notes = Vec::<serde_json::Value>::deserialize(deserializer)?;
        let known = notes.into_iter().filter_map(|note| serde_json::from_value(note).ok());
        Ok(Self { notes: known.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_bounded_and_outlives_engines_of_other_versions() {
        let mut story = Story::default();
        for signal in 0..100 {
            story.push(Happening::Signalled {
                by: Cause::UserKill,
                signal,
            });
        }
        story.push(Happening::StartFailed {
            by: Cause::UserStart,
            message: "é".repeat(4000),
            exit_code: 127,
        });
        assert_eq!(story.notes().len(), MAX_NOTES);
        let mut text = serde_json::to_string(&story).expect("json");
        assert!(text.len() < MAX_NOTES * 100 + 2 * MAX_MESSAGE, "{}", text.len());
        let back: Story = serde_json::from_str(&text).expect("parse");
        assert_eq!(back, story);
        text.insert_str(1, r#"{"at":1,"what":"abducted-by-aliens","ship":3},"#);
        let back: Story = serde_json::from_str(&text).expect("parse");
        assert_eq!(back, story);
    }
}
