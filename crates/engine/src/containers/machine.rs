//! The life of a container as a pure function: (machine, input) to (machine, effects).
//!
//! ```text
//!            Start               Launched
//!  Created --------> Starting ------------> Running <--> Paused
//!     ^                 |  ^                   |
//!     | LaunchFailed    |  | BackoffElapsed    | Exited
//!     +-----------------+  |                   v
//!                          +-- Restarting <-- (policy?) --> Exited --> Removing --> Removed
//! ```
//! Effects are performed by the container's task, which feeds their results back as inputs.
//! Nothing here waits, reads a clock or touches the system.
use std::time::Duration;

use crate::model::{OnUnhealthy, RestartKind};

/// SIGKILL.
pub(crate) const SIGKILL: i32 = 9;

/// First pause before a restart; doubles with each one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Longest pause before a restart.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A run of this length makes the next pause the first one again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Never ran.
    Created,
    /// Being started.
    Starting,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and waits for its restart.
    Restarting,
    /// It ended.
    Exited,
    /// Being removed.
    Removing,
    /// A removal failed.
    Dead,
    /// Gone.
    Removed,
}

/// What follows when the running process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Nobody asked for the end: the restart policy decides.
    #[default]
    None,
    /// A user stopped it.
    Stop,
    /// A user restarts it.
    Start,
    /// A user removes it.
    Remove,
    /// Its health check failed: it is started again, as by a policy.
    Cure,
}

/// A restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// When to restart.
    pub kind: RestartKind,
    /// How often, with [`RestartKind::OnFailure`]; 0 is no bound.
    pub max_retries: u32,
}

/// The machine's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Where it is.
    pub phase: Phase,
    /// What follows the end.
    pub goal: Goal,
    /// Its policy.
    pub policy: Policy,
    /// It is removed when it ends.
    pub auto_remove: bool,
    /// SIGKILL was sent to the run.
    pub killed: bool,
    /// It ran at least once.
    pub ran: bool,
    /// Restarts by policy since a user started it.
    pub restart_count: u32,
    /// The next pause before a restart.
    pub backoff: Duration,
    /// A user stopped or killed it since it was started.
    pub manually_stopped: bool,
}

/// What happens to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A user starts it.
    Start,
    /// A launch succeeded.
    Launched,
    /// A launch failed; nothing of it is left.
    LaunchFailed,
    /// A user stops it; `None` waits for ever.
    Stop {
        /// The first signal.
        signal: i32,
        /// Until SIGKILL.
        timeout: Option<Duration>,
    },
    /// It is stopped because the host goes down: its policy is not overruled.
    ShutDown {
        /// The first signal.
        signal: i32,
        /// Until SIGKILL.
        timeout: Option<Duration>,
    },
    /// A user restarts it.
    Restart {
        /// The first signal.
        signal: i32,
        /// Until SIGKILL.
        timeout: Option<Duration>,
    },
    /// A user signals it.
    Kill {
        /// The signal.
        signal: i32,
        /// It is SIGKILL or the container's stop signal: the policy shall not restart it.
        ends_it: bool,
    },
    /// Its health check failed.
    Unhealthy {
        /// What was asked for that case.
        action: OnUnhealthy,
        /// The first signal of a stop.
        signal: i32,
        /// Until SIGKILL.
        timeout: Option<Duration>,
    },
    /// A user pauses it.
    Pause,
    /// It is frozen.
    Frozen,
    /// A user unpauses it.
    Unpause,
    /// It is thawed.
    Thawed,
    /// Its process ended.
    Exited {
        /// With this code.
        code: i32,
        /// After this time.
        ran_for: Duration,
    },
    /// The time given to a stop is over.
    StopTimedOut,
    /// It did not end although it was killed; those who asked for it were told.
    GivenUp,
    /// The pause before a restart is over.
    BackoffElapsed,
    /// A user removes it.
    Remove {
        /// Even when it runs.
        force: bool,
    },
    /// The removal is complete.
    Removed,
    /// The removal failed.
    RemoveFailed,
    /// A user changed its policy.
    SetPolicy(Policy),
}

/// What the container's task has to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start it; answer with `Launched` or `LaunchFailed`.
    Launch,
    /// Send a signal to its process.
    Signal(i32),
    /// Freeze; answer with `Frozen`.
    Freeze,
    /// Thaw; answer with `Thawed`.
    Thaw,
    /// Feed `StopTimedOut` after this time.
    ArmStopTimer(Duration),
    /// Forget the stop timer.
    DisarmStopTimer,
    /// Feed `BackoffElapsed` after this time.
    ArmRestartTimer(Duration),
    /// Forget the restart timer.
    DisarmRestartTimer,
    /// Remove it; answer with `Removed` or `RemoveFailed`.
    Remove,
}

/// Why an input is refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It runs already.
    AlreadyRunning,
    /// It does not run (to stop: already stopped).
    NotRunning,
    /// It is paused.
    Paused,
    /// It is paused already.
    AlreadyPaused,
    /// It is not paused.
    NotPaused,
    /// It is about to be restarted.
    Restarting,
    /// It runs, so it is not removed without force.
    Running,
    /// It is being removed.
    RemovalInProgress,
    /// It is being started.
    Busy,
}

/// A step's result.
pub(crate) type Step = Result<(Machine, Vec<Effect>), Refusal>;

impl Machine {
    /// A container that was just created.
    pub(crate) fn new(policy: Policy, auto_remove: bool) -> Self {
        Self {
            phase: Phase::Created,
            goal: Goal::None,
            policy,
            auto_remove,
            killed: false,
            ran: false,
            restart_count: 0,
            backoff: FIRST_BACKOFF,
            manually_stopped: false,
        }
    }

    /// Whether a process exists.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    /// The next state and what to do, or why not.
    pub(crate) fn step(self, input: Input) -> Step {
        match input {
            Input::Start => self.start(),
            Input::Launched => Ok(self.launched()),
            Input::LaunchFailed => Ok(self.launch_failed()),
            Input::Stop { signal, timeout } => self.stop(Goal::Stop, signal, timeout),
            Input::ShutDown { signal, timeout } => {
                let (next, effects) = self.stop(Goal::Stop, signal, timeout)?;
                let manually_stopped = self.manually_stopped;
                Ok((
                    Self {
                        manually_stopped,
                        ..next
                    },
                    effects,
                ))
            }
            Input::Restart { signal, timeout } => self.restart(signal, timeout),
            Input::Kill { signal, ends_it } => self.kill(signal, ends_it),
            Input::Unhealthy {
                action,
                signal,
                timeout,
            } => self.unhealthy(action, signal, timeout),
            Input::Pause => self.pause(),
            Input::Frozen => Ok((self.renamed(Phase::Running, Phase::Paused), vec![])),
            Input::Unpause => self.unpause(),
            Input::Thawed => Ok((self.renamed(Phase::Paused, Phase::Running), vec![])),
            Input::Exited { code, ran_for } => Ok(self.exited(code, ran_for)),
            Input::StopTimedOut => Ok(self.stop_timed_out()),
            Input::GivenUp => Ok(self.given_up()),
            Input::BackoffElapsed => Ok(self.backoff_elapsed()),
            Input::Remove { force } => self.remove(force),
            Input::Removed => Ok((self.renamed(Phase::Removing, Phase::Removed), vec![])),
            Input::RemoveFailed => Ok((self.renamed(Phase::Removing, Phase::Dead), vec![])),
            Input::SetPolicy(policy) => Ok((Self { policy, ..self }, vec![])),
        }
    }

    fn renamed(self, from: Phase, to: Phase) -> Self {
        if self.phase == from {
            Self { phase: to, ..self }
        } else {
            self
        }
    }

    fn start(self) -> Step {
        match self.phase {
            Phase::Created | Phase::Exited => {
                let fresh = Self {
                    phase: Phase::Starting,
                    goal: Goal::None,
                    restart_count: 0,
                    backoff: FIRST_BACKOFF,
                    manually_stopped: false,
                    ..self
                };
                Ok((fresh, vec![Effect::Launch]))
            }
            Phase::Running | Phase::Restarting => Err(Refusal::AlreadyRunning),
            Phase::Paused => Err(Refusal::Paused),
            Phase::Starting => Err(Refusal::Busy),
            Phase::Removing | Phase::Dead | Phase::Removed => Err(Refusal::RemovalInProgress),
        }
    }

    fn launched(self) -> (Self, Vec<Effect>) {
        match self.phase {
            Phase::Starting => (
                Self {
                    phase: Phase::Running,
                    ran: true,
                    ..self
                },
                vec![],
            ),
            _ => (self, vec![]),
        }
    }

    fn launch_failed(self) -> (Self, Vec<Effect>) {
        if self.phase != Phase::Starting {
            return (self, vec![]);
        }
        if self.auto_remove {
            return (
                Self {
                    phase: Phase::Removing,
                    ..self
                },
                vec![Effect::Remove],
            );
        }
        let phase = if self.ran { Phase::Exited } else { Phase::Created };
        (
            Self {
                phase,
                goal: Goal::None,
                ..self
            },
            vec![],
        )
    }

    fn stop(self, goal: Goal, signal: i32, timeout: Option<Duration>) -> Step {
        match self.phase {
            Phase::Running | Phase::Paused => {
                // A removal under way is not turned into anything less.
                let goal = if self.goal == Goal::Remove { Goal::Remove } else { goal };
                let next = Self {
                    goal,
                    manually_stopped: true,
                    killed: self.killed || signal == SIGKILL,
                    ..self
                };
                let mut effects = vec![Effect::Signal(signal)];
                if self.phase == Phase::Paused {
                    effects.push(Effect::Thaw); // a frozen process takes no signal
                }
                if signal != SIGKILL {
                    effects.extend(timeout.map(Effect::ArmStopTimer));
                }
                Ok((next, effects))
            }
            Phase::Restarting => {
                let next = Self {
                    phase: Phase::Exited,
                    manually_stopped: true,
                    ..self
                };
                Ok((next, vec![Effect::DisarmRestartTimer]))
            }
            Phase::Starting => Err(Refusal::Busy),
            Phase::Removing => Err(Refusal::RemovalInProgress),
            Phase::Created | Phase::Exited | Phase::Dead | Phase::Removed => Err(Refusal::NotRunning),
        }
    }

    fn restart(self, signal: i32, timeout: Option<Duration>) -> Step {
        match self.phase {
            Phase::Running | Phase::Paused => self.stop(Goal::Start, signal, timeout),
            Phase::Restarting => {
                let stopped = Self {
                    phase: Phase::Exited,
                    ..self
                };
                let (next, mut effects) = stopped.start()?;
                effects.insert(0, Effect::DisarmRestartTimer);
                Ok((next, effects))
            }
            _ => self.start(),
        }
    }

    fn kill(self, signal: i32, ends_it: bool) -> Step {
        match self.phase {
            Phase::Running | Phase::Paused => {
                let mut effects = vec![Effect::Signal(signal)];
                if self.phase == Phase::Paused && ends_it {
                    effects.push(Effect::Thaw);
                }
                let goal = match self.goal {
                    Goal::None | Goal::Cure if ends_it => Goal::Stop,
                    other => other,
                };
                let manually_stopped = self.manually_stopped || ends_it;
                Ok((
                    Self {
                        goal,
                        manually_stopped,
                        killed: self.killed || signal == SIGKILL,
                        ..self
                    },
                    effects,
                ))
            }
            // Nothing runs that could take the signal; one that ends it ends the waiting for a restart.
            Phase::Restarting if ends_it => {
                let next = Self {
                    phase: Phase::Exited,
                    manually_stopped: true,
                    ..self
                };
                Ok((next, vec![Effect::DisarmRestartTimer]))
            }
            Phase::Restarting => Ok((self, vec![])),
            Phase::Removing => Err(Refusal::RemovalInProgress),
            _ => Err(Refusal::NotRunning),
        }
    }

    /// Somebody who ends it already is not interfered with.
    fn unhealthy(self, action: OnUnhealthy, signal: i32, timeout: Option<Duration>) -> Step {
        if self.phase != Phase::Running || self.goal != Goal::None || self.killed {
            return Ok((self, vec![]));
        }
        match action {
            OnUnhealthy::None => Ok((self, vec![])),
            OnUnhealthy::Kill => Ok((Self { killed: true, ..self }, vec![Effect::Signal(SIGKILL)])),
            OnUnhealthy::Stop => self.stop(Goal::Stop, signal, timeout),
            OnUnhealthy::Freeze => Ok((self, vec![Effect::Freeze])),
            OnUnhealthy::Restart => {
                let (next, effects) = self.stop(Goal::Cure, signal, timeout)?;
                let manually_stopped = self.manually_stopped;
                Ok((
                    Self {
                        manually_stopped,
                        ..next
                    },
                    effects,
                ))
            }
        }
    }

    fn pause(self) -> Step {
        match self.phase {
            // A frozen process does not die, not even of SIGKILL.
            Phase::Running if self.killed => Err(Refusal::NotRunning),
            Phase::Running => Ok((self, vec![Effect::Freeze])),
            Phase::Paused => Err(Refusal::AlreadyPaused),
            Phase::Restarting => Err(Refusal::Restarting),
            _ => Err(Refusal::NotRunning),
        }
    }

    fn unpause(self) -> Step {
        match self.phase {
            Phase::Paused => Ok((self, vec![Effect::Thaw])),
            _ => Err(Refusal::NotPaused),
        }
    }

    fn exited(self, code: i32, ran_for: Duration) -> (Self, Vec<Effect>) {
        if !self.is_alive() {
            return (self, vec![]);
        }
        let mut effects = vec![Effect::DisarmStopTimer];
        let ended = Self {
            goal: Goal::None,
            killed: false,
            ..self
        };
        let next = match self.goal {
            Goal::Remove => {
                effects.push(Effect::Remove);
                Self {
                    phase: Phase::Removing,
                    ..ended
                }
            }
            Goal::Start => {
                effects.push(Effect::Launch);
                Self {
                    phase: Phase::Starting,
                    restart_count: 0,
                    backoff: FIRST_BACKOFF,
                    manually_stopped: false,
                    ..ended
                }
            }
            Goal::Cure => ended.restart_later(ran_for, &mut effects),
            Goal::Stop | Goal::None => ended.settle(self.goal, code, ran_for, &mut effects),
        };
        (next, effects)
    }

    /// Chooses between restart, removal and rest.
    fn settle(self, goal: Goal, code: i32, ran_for: Duration, effects: &mut Vec<Effect>) -> Self {
        if goal == Goal::None && self.wants_restart(code) {
            return self.restart_later(ran_for, effects);
        }
        if self.auto_remove {
            effects.push(Effect::Remove);
            return Self {
                phase: Phase::Removing,
                ..self
            };
        }
        Self {
            phase: Phase::Exited,
            ..self
        }
    }

    fn restart_later(self, ran_for: Duration, effects: &mut Vec<Effect>) -> Self {
        let backoff = if ran_for >= GOOD_RUN {
            FIRST_BACKOFF
        } else {
            self.backoff
        };
        effects.push(Effect::ArmRestartTimer(backoff));
        Self {
            phase: Phase::Restarting,
            restart_count: self.restart_count.saturating_add(1),
            backoff: (backoff * 2).min(LONGEST_BACKOFF),
            ..self
        }
    }

    fn wants_restart(&self, code: i32) -> bool {
        let within_bound = self.policy.max_retries == 0 || self.restart_count < self.policy.max_retries;
        match self.policy.kind {
            RestartKind::No => false,
            RestartKind::Always | RestartKind::UnlessStopped => !self.manually_stopped,
            RestartKind::OnFailure => code != 0 && within_bound && !self.manually_stopped,
        }
    }

    fn stop_timed_out(self) -> (Self, Vec<Effect>) {
        match (self.is_alive(), self.goal) {
            (true, Goal::Stop | Goal::Start | Goal::Remove | Goal::Cure) => {
                let mut effects = vec![Effect::Signal(SIGKILL)];
                if self.phase == Phase::Paused {
                    effects.push(Effect::Thaw);
                }
                (Self { killed: true, ..self }, effects)
            }
            _ => (self, vec![]),
        }
    }

    /// What failed for those who asked is not done behind their backs later: the container stays when it ends.
    fn given_up(self) -> (Self, Vec<Effect>) {
        match self.goal {
            Goal::Start | Goal::Remove => {
                let goal = Goal::Stop;
                (Self { goal, ..self }, vec![])
            }
            _ => (self, vec![]),
        }
    }

    fn backoff_elapsed(self) -> (Self, Vec<Effect>) {
        match self.phase {
            Phase::Restarting => (
                Self {
                    phase: Phase::Starting,
                    ..self
                },
                vec![Effect::Launch],
            ),
            _ => (self, vec![]),
        }
    }

    fn remove(self, force: bool) -> Step {
        match (self.phase, force) {
            (Phase::Created | Phase::Exited | Phase::Dead, _) => Ok((
                Self {
                    phase: Phase::Removing,
                    ..self
                },
                vec![Effect::Remove],
            )),
            (Phase::Restarting, true) => Ok((
                Self {
                    phase: Phase::Removing,
                    ..self
                },
                vec![Effect::DisarmRestartTimer, Effect::Remove],
            )),
            (Phase::Running | Phase::Paused, true) => self.stop(Goal::Remove, SIGKILL, None),
            (Phase::Restarting, false) => Err(Refusal::Restarting),
            (Phase::Paused, false) => Err(Refusal::Paused),
            (Phase::Running, false) => Err(Refusal::Running),
            (Phase::Starting, _) => Err(Refusal::Busy),
            (Phase::Removing | Phase::Removed, _) => Err(Refusal::RemovalInProgress),
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
